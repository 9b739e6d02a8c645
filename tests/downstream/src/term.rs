//! A term of one's own, with a parameter: the student's last state, scaled, is to be as long as
//! the teacher's.

use std::collections::BTreeMap;

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::distiller::{Needs, Said};
use textbrewer::optim::ParamGroup;
use textbrewer::{LossReport, Result, Term};

#[derive(Debug)]
pub struct Length {
    scale: Tensor,
    weight: f64,
}

impl Length {
    pub fn new(weight: f64) -> Result<Self> {
        let scale = VarStore::new(Device::Cpu).root().f_ones("scale", &[1])?;
        Ok(Length { scale, weight })
    }
}

impl<B> Term<B> for Length {
    fn name(&self) -> &str {
        "length"
    }

    fn needs(&self) -> Needs {
        Needs::new().teacher_layers(0, "hidden", [-1]).student_layers("hidden", [-1])
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        let teacher = said.teacher_layer(0, "hidden", -1)?.f_square()?.f_mean(None)?;
        let student = said.student_layer("hidden", -1)?.f_mul(&self.scale)?;
        let difference = student.f_square()?.f_mean(None)?.f_sub(&teacher)?;
        report.add("length", difference.f_square()?, self.weight);
        Ok(())
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        let parameters = vec![("length.scale".to_owned(), self.scale.shallow_clone())];
        vec![ParamGroup::new("length", parameters)]
    }

    fn description(&self) -> String {
        format!("weight {}", self.weight)
    }
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::new())
    }

    fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}
