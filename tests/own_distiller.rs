//! A distiller of a user's own, outside the crate, of the crate's parts and a term of its own.

mod common;

use common::close;
use common::tiny::{Net, Output, adapt, batch, config, difference, general, loader, numbers};
use tch::nn::VarStore;
use tch::{Kind, Tensor};
use textbrewer::distiller::{
    DistillerBuilder, HardLabels, Matches, Pair, Parts, SoftLabels, Student, Teacher,
};
use textbrewer::optim::{Optimizer, ParamGroup};
use textbrewer::{
    AdamW, AdaptorOutput, Batch, DistillationConfig, Distiller, Error, IntermediateMatch,
    LossReport, MemorySink, Model, Presets, ProjectionSpec, Result, Run, StepInfo, TrainingConfig,
};

/// What `GeneralDistiller` does, and the student's logits are kept small.
#[derive(Debug)]
struct Keeping<'a, B, S: ?Sized> {
    pair: Pair<'a, B, S>,
    config: TrainingConfig,
    soft_labels: SoftLabels,
    matches: Matches,
    hard_labels: HardLabels,
}

impl<B: Batch, S: ?Sized> Distiller for Keeping<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        let teacher = self.pair.run_teacher(batch, step)?;
        let student = self.pair.run_student(batch)?;
        let mut report = LossReport::new();
        self.soft_labels
            .add_to(&mut report, &teacher, &student, batch, step)?;
        self.matches
            .add_to(&mut report, std::slice::from_ref(&teacher), &student)?;
        self.hard_labels.add_to(&mut report, &student, step)?;
        for logits in &student.logits {
            let size = logits.whole()?.f_square()?.f_mean(Kind::Float)?;
            report.add("size", size, 0.5);
        }
        Ok(report)
    }

    fn config(&self) -> &TrainingConfig {
        &self.config
    }

    fn student(&self) -> &S {
        self.pair.student()
    }

    fn variables(&self) -> &VarStore {
        self.pair.variables()
    }

    fn extra_groups(&self) -> Vec<ParamGroup> {
        self.matches.param_groups()
    }
}

impl<'a, B, S: ?Sized> TryFrom<Parts<'a, B, S>> for Keeping<'a, B, S> {
    type Error = Error;

    fn try_from(parts: Parts<'a, B, S>) -> Result<Self> {
        let (config, presets) = (&parts.distill_config, &parts.presets);
        Ok(Keeping {
            soft_labels: SoftLabels::new(config, presets)?,
            matches: Matches::new(config, presets, parts.train_config.device, 1)?,
            hard_labels: HardLabels::new(config, presets)?,
            pair: parts.pair,
            config: parts.train_config,
        })
    }
}

fn with_losses(batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    Ok(adapt(batch, output)?.losses(&output.logits.exp()))
}

fn distill_config() -> DistillationConfig {
    let projected = IntermediateMatch::hidden(3, 1).proj(ProjectionSpec::linear(4, 5));
    DistillationConfig::default()
        .hard_label_weight(0.25)
        .intermediate_matches([
            projected,
            IntermediateMatch::hidden([0, 0], [0, 0]).loss("nst"),
        ])
}

/// By hand, without a builder.
fn by_hand<'a>(
    teacher: &'a Net,
    student: &'a Net,
    config: TrainingConfig,
) -> Result<Keeping<'a, Tensor, Net>> {
    let (distill_config, presets) = (distill_config(), Presets::default());
    Ok(Keeping {
        pair: Pair::new(
            Teacher::new(teacher, with_losses),
            Student::new(student, with_losses, &student.variables),
            None,
        ),
        soft_labels: SoftLabels::new(&distill_config, &presets)?,
        matches: Matches::new(&distill_config, &presets, config.device, 1)?,
        hard_labels: HardLabels::new(&distill_config, &presets)?,
        config,
    })
}

/// With the crate's builder, which `TryFrom<Parts>` is enough for.
fn built<'a>(
    teacher: &'a Net,
    student: &'a Net,
    config: TrainingConfig,
    distill_config: DistillationConfig,
) -> Result<Keeping<'a, Tensor, Net>> {
    DistillerBuilder::new(teacher, student, &student.variables)
        .train_config(config)
        .distill_config(distill_config)
        .adaptor(with_losses)
        .build()
}

const TERMS: [&str; 5] = [
    "unweighted_kd_loss",
    "unweighted_hidden_hidden_mse_1_3",
    "unweighted_hidden_nst_0-0_0-0",
    "unweighted_hard_label_loss",
    "size",
];

/// Trains, and gives the log of the whole run.
fn trained(distiller: &mut dyn Distiller<Batch = Tensor, Student = Net>) -> MemorySink {
    let log = MemorySink::new();
    let mut optimizer = AdamW::new(0.05);
    let mut batches = loader(3);
    let summary = Run::new(distiller, &mut batches)
        .optimizer(&mut optimizer)
        .log_sink(log.clone())
        .max_grad_norm(1.0)
        .epochs(4)
        .callback(|student: &Net, _| student.forward(&batch(0), false).map(drop))
        .run()
        .unwrap();
    assert_eq!(summary.global_steps, 12);
    let groups: Vec<_> = optimizer.groups().iter().map(|g| g.name.as_str()).collect();
    assert_eq!(groups, ["decay", "projection.0"]);
    log
}

#[test]
fn a_distiller_from_outside_is_trained_like_the_crates_own() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Net::new(4, 5, 0.1);
    let run = |built_by_hand: bool| {
        let student = Net::new(2, 4, 0.2);
        let config = config(folder.path());
        let mut distiller = match built_by_hand {
            true => by_hand(&teacher, &student, config).unwrap(),
            false => built(&teacher, &student, config, distill_config()).unwrap(),
        };
        common::tiny::fill(distiller.matches.projections(), 0.4);
        let log = trained(&mut distiller);
        (log, numbers(&student.variables))
    };
    let ((log, finals), (same_log, same_finals)) = (run(true), run(false));
    assert!(difference(&finals, &same_finals) < 1e-6);
    assert_eq!(log.scalars().len(), same_log.scalars().len());

    for name in TERMS {
        assert_eq!(log.curve(&format!("scalar/{name}")).len(), 12, "{name}");
    }
    // The term of its own is in the total, with its weight.
    let at = |name: &str, step: usize| log.curve(&format!("scalar/{name}"))[step].1;
    for step in 0..12 {
        let total = at(TERMS[0], step)
            + at(TERMS[1], step)
            + at(TERMS[2], step)
            + 0.25 * at(TERMS[3], step)
            + 0.5 * at(TERMS[4], step);
        assert!(close(at("total_loss", step), total), "step {step}");
    }
    assert!(at("total_loss", 11) < at("total_loss", 0));
}

#[test]
fn its_parts_compute_what_they_do_in_the_crates_distiller() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let distill_config = DistillationConfig::default()
        .intermediate_matches([IntermediateMatch::hidden(3, 1)])
        .temperature_scheduler(("flsw", [1.0, 2.0]));
    let step = StepInfo::new(0, 0, 1, 0);
    let mut own = built(
        &teacher,
        &student,
        config(folder.path()),
        distill_config.clone(),
    )
    .unwrap();
    let own = own.train_on_batch(&batch(0), &step).unwrap();
    let mut usual = general(&teacher, &student, config(folder.path()), distill_config).unwrap();
    let usual = usual.train_on_batch(&batch(0), &step).unwrap();
    assert_eq!(usual.terms().len(), 2);
    for (own, usual) in own.terms().iter().zip(usual.terms()) {
        assert_eq!(own.name, usual.name);
        assert_eq!(own.loss.double_value(&[]), usual.loss.double_value(&[]));
    }
}

#[test]
fn the_builder_checks_for_it_what_it_checks_for_the_crates_own() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let wrong = distill_config().kd_loss_type("kd");
    let error = built(&teacher, &student, config(folder.path()), wrong).unwrap_err();
    let expected = "kd_loss_type: unknown KD loss `kd`; known: ";
    assert!(error.to_string().starts_with(expected), "{error}");
}
