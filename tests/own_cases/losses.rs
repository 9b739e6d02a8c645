//! The losses that terms add: their names and weights.

use std::collections::BTreeMap;

use tch::Tensor;
use textbrewer::distiller::{Needs, Said, loss_term};
use textbrewer::optim::ParamGroup;
use textbrewer::{BasicTrainer, Distiller, GeneralDistiller, LossReport, Result, StepInfo, Term};

use crate::common::close;
use crate::common::tiny::{Net, adapt, batch, config, first_line, losses_of, square};
use crate::mine::nets;

fn step() -> StepInfo {
    StepInfo::new(0, 0, 10, 1).with_batch_id(Some(3))
}

#[test]
fn two_losses_of_one_name_are_refused() {
    let (teacher, student) = nets();
    let folder = tempfile::tempdir().unwrap();
    for name in ["unweighted_kd_loss", "total_loss"] {
        let constant = |_: &Said<'_, Tensor>| Ok(Tensor::from(0.0));
        let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(adapt)
            .term(loss_term(name, 1.0, Needs::new(), constant))
            .build()
            .unwrap();
        assert_eq!(
            first_line(distiller.train_on_batch(&batch(0), &step())),
            format!(
                "term `{name}`: loss `{name}`: there is one of this name already; give it a name \
                 of its own"
            )
        );
    }
}

/// Adds a loss of this name and weight.
struct Adding(&'static str, f64);

impl Term<Tensor> for Adding {
    fn name(&self) -> &str {
        "adding"
    }

    fn needs(&self) -> Needs {
        Needs::new()
    }

    fn add_to(&mut self, report: &mut LossReport, _: &Said<'_, Tensor>) -> Result<()> {
        report.add(self.0, Tensor::from(1f32), self.1);
        Ok(())
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        Vec::new()
    }

    fn description(&self) -> String {
        String::new()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::new())
    }

    fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_loss_without_a_name_or_with_a_weight_that_is_no_number_is_refused() {
    let (teacher, student) = nets();
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &'static str, weight: f64| {
        let term = Adding(name, weight);
        let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(adapt)
            .term(term)
            .build()
            .unwrap();
        first_line(distiller.train_on_batch(&batch(0), &step()))
    };
    assert_eq!(
        refused("", 1.0),
        "term `adding`: loss ``: give it a name, under which it is logged"
    );
    for weight in [f64::NAN, f64::INFINITY] {
        assert_eq!(
            refused("mine", weight),
            format!("term `adding`: loss `mine`: its weight is {weight}; give a finite number")
        );
    }
}

#[test]
fn the_loss_of_a_trainer_has_a_curve_of_its_own_beside_terms() {
    let student = Net::new(1, 4, 0.2);
    let folder = tempfile::tempdir().unwrap();
    let two = |_: &Said<'_, Tensor>| Ok(Tensor::from(2f32));
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .term(loss_term("two", 0.5, Needs::new(), two))
        .build()
        .unwrap();
    let losses = losses_of(&mut trainer, &batch(0));
    let names: Vec<_> = losses.keys().map(String::as_str).collect();
    assert_eq!(names, ["total", "two", "unweighted_hard_label_loss"]);
    assert!(close(
        losses["total"],
        losses["unweighted_hard_label_loss"] + 1.0
    ));
}

#[test]
fn parts_of_the_loss_by_name() {
    let (teacher, student) = nets();
    let folder = tempfile::tempdir().unwrap();
    let mut own =
        crate::mine::mine(&teacher, &student, config(folder.path()), |builder| builder).unwrap();
    let (batch, step) = (batch(0), step());
    let names = |report: LossReport| -> Vec<String> {
        report
            .losses()
            .iter()
            .map(|loss| loss.name.clone())
            .collect()
    };
    let said = own.0.run_models(&batch, &step).unwrap();
    let of_labels = own.0.losses_of(&["hard_labels"], &said).unwrap();
    assert_eq!(names(of_labels), ["unweighted_hard_label_loss"]);
    assert_eq!(
        first_line(own.0.losses_of(&["hard_label"], &said)),
        "term `hard_label`: there is none; the terms are soft_labels, intermediate_matches, \
         hard_labels"
    );
}
