//! Mistakes that `run` finds before the first batch.

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::optim::{GroupOptions, Optimizer, param_groups};
use textbrewer::{
    AdamW, BasicTrainer, DistillationConfig, Distiller, FnLoader, GeneralDistiller,
    IntermediateMatch, ProjectionSpec, Sgd,
};

use crate::common::tiny::{
    Net, adapt, batch, config, first_line, general, loader, numbers, square,
};

/// Runs a trainer of a small student after `$describe` has said how.
macro_rules! trained {
    ($config:expr, $loader:expr, $($describe:tt)+) => {{
        let student = Net::new(2, 4, 0.2);
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config($config)
            .adaptor(square)
            .build()
            .unwrap();
        first_line(trainer.train(&mut $loader)$($describe)+.run())
    }};
}

#[test]
fn what_a_run_needs_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let base = || config(folder.path());
    assert_eq!(
        trained!(base(), loader(3), .epochs(1)),
        "optimizer: none was given; for example `AdamW::new(1e-4)`"
    );
    assert_eq!(
        trained!(base(), loader(3), .optimizer(AdamW::new(1e-3))),
        "epochs: say how long to train: `epochs` or `steps`"
    );
    assert_eq!(
        trained!(base(), loader(3), .optimizer(AdamW::new(1e-3)).epochs(0)),
        "epochs: must be at least 1"
    );
    assert_eq!(
        trained!(base(), loader(3), .optimizer(AdamW::new(1e-3)).steps(0)),
        "steps: must be at least 1"
    );
}

#[test]
fn epochs_need_a_loader_that_knows_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let mut stream = FnLoader::new(|_| Ok((0..3).map(|seed| Ok(batch(seed)))));
    assert_eq!(
        trained!(config(folder.path()), stream, .optimizer(AdamW::new(1e-3)).epochs(1)),
        "epochs: the loader does not know its number of batches; say how many an epoch has \
         (`FnLoader::with_num_batches`, `DataLoader::num_batches` of a loader of your own), or \
         give the run a length in `steps`"
    );
}

#[test]
fn an_epoch_too_short_for_one_optimizer_step_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let train_config = config(folder.path()).gradient_accumulation_steps(4);
    assert_eq!(
        trained!(train_config, loader(3), .optimizer(AdamW::new(1e-3)).epochs(2)),
        "gradient_accumulation_steps: 4 batches are needed for one optimizer step, but the \
         loader has 3 in an epoch; lower it, or set `step_on_remainder`"
    );
}

#[test]
fn a_student_that_cannot_change_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut student = Net::new(2, 4, 0.2);
    student.variables.freeze();
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap();
    let mut batches = loader(3);
    let run = trainer.train(&mut batches).optimizer(Sgd::new(0.1));
    assert_eq!(
        first_line(run.epochs(1).run()),
        "student: it has no trainable variable"
    );

    // Another mistake: variables that are not those of the model.
    let strangers = VarStore::new(Device::Cpu);
    let mut trainer = BasicTrainer::builder(&student, &strangers)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap();
    let run = trainer.train(&mut batches).optimizer(Sgd::new(0.1));
    assert_eq!(
        first_line(run.epochs(1).run()),
        "student: it has no trainable variable"
    );
}

#[test]
fn an_optimizer_of_another_student_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Net::new(2, 4, 0.2), Net::new(2, 4, 0.3));
    let mut optimizer = Sgd::new(0.1);
    let mut batches = loader(2);
    let mut train = |student: &Net| {
        BasicTrainer::builder(student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()?
            .train(&mut batches)
            .optimizer(&mut optimizer)
            .epochs(1)
            .run()
    };
    train(&first).unwrap();
    let before = numbers(&second.variables);
    assert_eq!(
        first_line(train(&second)),
        "optimizer: its groups hold none of the student's variables; \
         make a new optimizer for this student"
    );
    assert_eq!(numbers(&second.variables), before);
}

#[test]
fn projections_of_another_distiller_are_not_taken_for_known() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let matched = IntermediateMatch::hidden(3, 1).proj(ProjectionSpec::linear(4, 5));
    let distill_config = DistillationConfig::default().intermediate_matches([matched]);
    let mut optimizer = AdamW::new(1e-3);
    let mut batches = loader(2);
    let mut train = || {
        general(
            &teacher,
            &student,
            config(folder.path()),
            distill_config.clone(),
        )?
        .train(&mut batches)
        .optimizer(&mut optimizer)
        .epochs(1)
        .run()
    };
    train().unwrap();
    assert_eq!(
        first_line(train()),
        "optimizer group `projection.0`: `distiller.projection.0.bias`: \
         a parameter of this name is in group `projection.0` already"
    );
}

#[test]
fn a_student_whose_outputs_have_no_gradients_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let detached = |batch: &Tensor, output: &_| {
        let mut output = square(batch, output)?;
        output.losses = output.losses.iter().map(Tensor::detach).collect();
        Ok(output)
    };
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(detached)
        .build()
        .unwrap();
    let mut batches = loader(3);
    let run = trainer.train(&mut batches).optimizer(Sgd::new(0.1));
    assert_eq!(
        first_line(run.epochs(1).run()),
        "student: the loss does not depend on any trainable variable of the student; \
         were its outputs detached, or made without gradients?"
    );
}

#[test]
fn outputs_of_a_stream_cannot_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let distill_config = DistillationConfig::default().is_caching_logits(true);
    let mut distiller = general(&teacher, &student, config(folder.path()), distill_config).unwrap();
    let mut stream = FnLoader::new(|_| Ok((0..3).map(|seed| Ok(batch(seed)))));
    let run = distiller.train(&mut stream).optimizer(Sgd::new(0.1));
    let shown = first_line(run.steps(2).run());
    let start = "is_caching_logits: the loader may be endless, so its batches cannot be kept; ";
    assert!(shown.starts_with(start), "{shown}");
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let train = config(folder.path());
    let mut distiller = general(&teacher, &student, train, Default::default()).unwrap();
    let mut optimizer = AdamW::new(0.1);
    for group in param_groups(&student.variables, &["bias"]) {
        optimizer.add_group(group).unwrap();
    }
    let mut batches = loader(2);
    let run = distiller.train(&mut batches).optimizer(&mut optimizer);
    assert_eq!(
        first_line(run.epochs(1).no_decay(["bias"]).run()),
        "no_decay: the optimizer has its groups already; make them with `param_groups`, or \
         leave this out"
    );
    let run = distiller.train(&mut batches).optimizer(&mut optimizer);
    assert_eq!(
        first_line(run.epochs(1).param_groups_by(|_| GroupOptions::new()).run()),
        "param_groups_by: the optimizer has its groups already; make them with \
         `optim::param_groups_by`, or leave this out"
    );
    let run = distiller.train(&mut batches).optimizer(&mut optimizer);
    assert_eq!(
        first_line(run.epochs(1).max_grad_norm(f64::NAN).run()),
        "max_grad_norm: must be a number, is NaN"
    );
}

#[test]
fn the_variables_of_another_model_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &teacher.variables)
        .train_config(config(folder.path()))
        .adaptor(adapt)
        .build()
        .unwrap();
    let mut batches = loader(2);
    let run = distiller.train(&mut batches).optimizer(AdamW::new(0.1));
    assert_eq!(
        first_line(run.epochs(1).run()),
        "student: the loss reaches none of the 10 variables that were given with the student; \
         is this the student's own VarStore?"
    );
    assert!(!folder.path().join("gs2.safetensors").exists());
}
