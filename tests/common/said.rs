//! Distillers of models that say what a test hands them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::distiller::{Needs, Said};
use textbrewer::optim::ParamGroup;
use textbrewer::{
    AdaptorOutput, Batch, DistillationConfig, Distiller, LossReport, MultiTeacherDistiller,
    Presets, Result, StepInfo, Term, TrainingConfig, from_fn,
};

/// The outputs of one batch, of each teacher and of the student.
pub struct Outputs {
    pub teachers: Vec<AdaptorOutput>,
    pub student: AdaptorOutput,
}

/// The losses of one batch, and whatever `look` makes of what was said.
pub fn losses_of_outputs<B: Batch, T: 'static>(
    outputs: Outputs,
    config: DistillationConfig,
    presets: Presets,
    (batch, step): (&B, &StepInfo),
    look: impl Fn(&Said<'_, B>) -> T + 'static,
) -> Result<(LossReport, T)> {
    let variables = VarStore::new(Device::Cpu);
    let model = from_fn(|_: &B, _| Ok(()));
    let (looking, seen) = Looking::new(look);
    let once = |output: AdaptorOutput| {
        let output = RefCell::new(Some(output));
        move |_: &B, (): &()| Ok(output.borrow_mut().take().expect("one batch"))
    };
    let mut builder = MultiTeacherDistiller::builder(&model, &variables)
        .student_adaptor(once(outputs.student))
        .train_config(TrainingConfig::default().device(Device::Cpu))
        .distill_config(config)
        .presets(presets)
        .term(looking);
    for output in outputs.teachers {
        builder = builder.teacher(model, once(output));
    }
    let report = builder.build()?.train_on_batch(batch, step)?;
    let seen = seen.borrow_mut().pop().expect("the term was run");
    Ok((report, seen))
}

/// Only the loss between the logits of a student and of one teacher.
pub fn kd_loss_of<B: Batch>(
    (student, teacher): (&AdaptorOutput, &AdaptorOutput),
    config: DistillationConfig,
    presets: Presets,
    at: (&B, &StepInfo),
) -> Result<Tensor> {
    let outputs = Outputs {
        teachers: vec![again(teacher)],
        student: again(student),
    };
    let (report, ()) = losses_of_outputs(outputs, config, presets, at, |_| ())?;
    Ok(report.losses()[0].loss.shallow_clone())
}

/// The same once more, as far as losses on logits look at it.
fn again(output: &AdaptorOutput) -> AdaptorOutput {
    let mut again = AdaptorOutput::new();
    for logits in &output.logits {
        again = again.logits(logits);
    }
    for mask in &output.logits_mask {
        again = again.logits_mask(mask);
    }
    for weights in &output.logits_weights {
        again = again.logits_weights(weights);
    }
    for labels in &output.labels {
        again = again.labels(labels);
    }
    again
}

/// Adds no loss, and lets a test see what the models said.
pub struct Looking<F, T> {
    look: F,
    seen: Seen<T>,
}

/// What was seen, batch by batch.
type Seen<T> = Rc<RefCell<Vec<T>>>;

impl<F, T> Looking<F, T> {
    pub fn new(look: F) -> (Self, Seen<T>) {
        let seen = Seen::default();
        let looking = Looking {
            look,
            seen: Rc::clone(&seen),
        };
        (looking, seen)
    }
}

impl<B, T, F: Fn(&Said<'_, B>) -> T> Term<B> for Looking<F, T> {
    fn name(&self) -> &str {
        "looking"
    }

    fn needs(&self) -> Needs {
        Needs::new().logits()
    }

    fn add_to(&mut self, _: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        self.seen.borrow_mut().push((self.look)(said));
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
