//! What a distiller of one's own used to forget without a word.

use std::cell::Cell;
use std::rc::Rc;

use tch::Tensor;
use tch::nn::VarStore;
use textbrewer::distiller::AnyCore;
use textbrewer::{
    AdamW, DataLoader, DistillationConfig, Distiller, FnLoader, IntermediateMatch, LossReport,
    Presets, Result, StepInfo, TrainSummary, TrainingConfig, VecLoader, weights,
};

use crate::common::tiny::{Net, batch, batches, config, files, first_line, numbers};
use crate::mine::{Mine, Scaled, distill_config, mine, nets};

fn train(distiller: &mut Mine<'_>, loader: &mut dyn DataLoader<Batch = Tensor>) -> TrainSummary {
    let run = distiller.train(loader).steps(4).progress(false);
    run.optimizer(AdamW::new(0.05))
        .overwrite(true)
        .run()
        .unwrap()
}

fn cached() -> DistillationConfig {
    distill_config()
        .is_caching_logits(true)
        .cache_features(true)
}

/// The losses of one batch after a run over another one, with or without a cache.
fn after_another_run(distilling: DistillationConfig) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let mut own = mine(&teacher, &student, config(folder.path()), |builder| {
        builder.distill_config(distilling).term(Scaled::new(0.5))
    })
    .unwrap();
    crate::common::tiny::fill_projections(&own);
    let mut runs = [batch(0), batch(7)].map(|batch| VecLoader::new(vec![batch]).unwrap());
    for loader in &mut runs {
        train(&mut own, loader);
    }
    numbers(&student.variables)
}

#[test]
fn teacher_outputs_of_an_earlier_run_are_not_used_again() {
    assert_eq!(
        after_another_run(cached()),
        after_another_run(distill_config())
    );
}

#[test]
fn a_loader_that_does_not_keep_its_batches_is_collected_when_teacher_outputs_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let mut own = mine(&teacher, &student, config(folder.path()), |builder| {
        builder.distill_config(cached())
    })
    .unwrap();
    let begun = Cell::new(0);
    let mut loader = FnLoader::new(|_| {
        begun.set(begun.get() + 1);
        Ok(batches(2).into_iter().map(Ok))
    })
    .with_num_batches(2);
    let summary = train(&mut own, &mut loader);
    // Two outputs were computed in two epochs, and the batches were made once.
    assert_eq!(begun.get(), 1);
    let bytes_of_logits_and_a_layer = 2 * (2 * 2 + 2 * 3 * 5) * 4;
    assert_eq!(summary.cache_bytes, Some(bytes_of_logits_and_a_layer));
}

#[test]
fn a_term_that_needs_layers_is_told_of_when_only_logits_are_kept() {
    let (teacher, student) = nets();
    let folder = tempfile::tempdir().unwrap();
    let result = mine(&teacher, &student, config(folder.path()), |builder| {
        let distilling = DistillationConfig::default().is_caching_logits(true);
        builder.distill_config(distilling).term(Scaled::new(0.5))
    });
    assert_eq!(
        first_line(result),
        "is_caching_logits: it keeps logits only, but `scaled` needs the teacher's features at \
         every step; set `cache_features` as well, which takes more memory, or leave caching off"
    );
}

/// Trains `steps`, resuming if there is something to resume.
fn resumed(
    folder: &std::path::Path,
    student: &Net,
    distilling: DistillationConfig,
    term: Scaled,
    steps: u64,
) -> Result<TrainSummary> {
    let teacher = nets().0;
    let config = config(folder).ckpt_steps(2);
    let mut own = mine(&teacher, student, config, |builder| {
        builder.distill_config(distilling).term(term)
    })?;
    crate::common::tiny::fill_projections(&own);
    let mut loader = VecLoader::new(batches(3))?;
    let run = own.train(&mut loader).steps(steps).progress(false);
    run.optimizer(AdamW::new(0.05)).resume_or_start().run()
}

#[test]
fn parameters_of_a_term_are_restored_to_the_bit() {
    let all = |interrupted: bool| {
        let folder = tempfile::tempdir().unwrap();
        if interrupted {
            let student = nets().1;
            resumed(
                folder.path(),
                &student,
                distill_config(),
                Scaled::new(0.5),
                4,
            )
            .unwrap();
        }
        let (student, term) = (nets().1, Scaled::new(0.5));
        let scale = term.scale();
        let summary = resumed(folder.path(), &student, distill_config(), term, 8).unwrap();
        assert_eq!(summary.resumed_from.is_some(), interrupted);
        let mut all = numbers(&student.variables);
        all.push(scale.double_value(&[0]));
        all
    };
    assert_eq!(all(true), all(false));
}

#[test]
fn another_temperature_or_another_setting_of_a_term_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = |distilling: DistillationConfig, term: Scaled| {
        resumed(folder.path(), &nets().1, distilling, term, 8).map(drop)
    };
    resumed(
        folder.path(),
        &nets().1,
        distill_config(),
        Scaled::new(0.5),
        4,
    )
    .unwrap();
    let refused = |result: Result<()>, difference: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(difference), "{message}");
    };
    refused(
        run(distill_config().temperature(8.0), Scaled::new(0.5)),
        "distiller.temperature: 4.0 in the checkpoint, 8.0 now",
    );
    refused(
        run(distill_config(), Scaled::new(0.25)),
        r#"distiller.term.scaled: "weight 0.5" in the checkpoint, "weight 0.25" now"#,
    );
    run(distill_config(), Scaled::new(0.5)).unwrap();
}

/// What its core holds is trained and saved, whatever the distiller says of it.
struct Contradicting<'a> {
    own: Mine<'a>,
    config: TrainingConfig,
    other: &'a Net,
}

impl Distiller for Contradicting<'_> {
    type Batch = Tensor;
    type Student = Net;

    fn train_on_batch(&mut self, batch: &Tensor, step: &StepInfo) -> Result<LossReport> {
        self.own.train_on_batch(batch, step)
    }
    fn core(&self) -> &dyn AnyCore<Net> {
        self.own.core()
    }
    fn core_mut(&mut self) -> &mut dyn AnyCore<Net> {
        self.own.core_mut()
    }
    fn config(&self) -> &TrainingConfig {
        &self.config
    }
    fn student(&self) -> &Net {
        self.other
    }
    fn variables(&self) -> &VarStore {
        &self.other.variables
    }
}

#[test]
fn a_distiller_cannot_contradict_its_core() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (teacher, student) = nets();
    let other = Net::new(1, 2, 0.9);
    let before = (numbers(&student.variables), numbers(&other.variables));
    let own = mine(&teacher, &student, config(folder.path()), |builder| builder).unwrap();
    let mut distiller = Contradicting {
        own,
        config: config(elsewhere.path()),
        other: &other,
    };
    let mut loader = VecLoader::new(batches(2)).unwrap();
    let run = distiller.train(&mut loader).epochs(1);
    run.optimizer(AdamW::new(0.05))
        .max_grad_norm(0.5)
        .after_step(|seen, _| {
            assert!(std::ptr::eq(seen, &student));
            Ok(())
        })
        .callback(|seen, _| {
            assert!(std::ptr::eq(seen, &student));
            Ok(())
        })
        .run()
        .unwrap();
    assert_ne!(numbers(&student.variables), before.0);
    assert_eq!(numbers(&other.variables), before.1);
    assert_eq!(files(elsewhere.path()), Vec::<String>::new());
    let saved = weights::read(folder.path().join("gs2.safetensors")).unwrap();
    for (name, tensor) in weights::state_dict(&student.variables) {
        assert_eq!(saved[&name], tensor);
    }
}

#[test]
fn a_parameter_that_is_another_one_later_is_refused() {
    let message = "parameters of terms: `scale` is not there from the beginning to the end, or is \
                   another tensor; `param_groups` has to return the same tensors each time";
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let term = Scaled::new(0.5);
    let forgets = Rc::clone(&term.forgets);
    let mut own = mine(&teacher, &student, config(folder.path()), |builder| {
        builder.term(term)
    })
    .unwrap();
    let mut loader = VecLoader::new(batches(3)).unwrap();
    let run = own.train(&mut loader).steps(100).progress(false);
    // From the first batch on, when the optimizer has it already.
    let run = run.batch_postprocessor(|batch| {
        forgets.set(true);
        Ok(batch)
    });
    assert_eq!(first_line(run.optimizer(AdamW::new(0.05)).run()), message);
    let steps = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(steps, 0, "it is told after the first step");
    // When a state is put back, too.
    forgets.set(false);
    let state = own.core().state().unwrap();
    forgets.set(true);
    assert_eq!(first_line(own.core_mut().load_state(&state)), message);
}

#[test]
fn words_of_a_users_own_loss_say_whose_they_are() {
    let (teacher, student) = nets();
    let folder = tempfile::tempdir().unwrap();
    let fails = || Err(textbrewer::Error::other("my words"));
    let presets = Presets::default()
        .kd_loss("mine", move |_, _, _| fails())
        .match_loss("mine", move |_, _, _| fails());
    let message = |distilling: DistillationConfig| {
        let mut own = mine(&teacher, &student, config(folder.path()), |builder| {
            builder.distill_config(distilling).presets(presets.clone())
        })
        .unwrap();
        first_line(own.train_on_batch(&batch(0), &StepInfo::new(0, 0, 1, 1)))
    };
    let of_logits = DistillationConfig::default().kd_loss_type("mine");
    assert_eq!(message(of_logits), "kd_loss_type `mine`: my words");
    let matched = [IntermediateMatch::hidden(0, 0).loss("mine")];
    let of_features = DistillationConfig::default().intermediate_matches(matched);
    assert_eq!(message(of_features), "intermediate_matches[0]: my words");
}

/// A matrix that stays as it is, such as the statistics of a norm, is no parameter of a user's
/// term.
#[test]
fn a_projection_may_have_what_is_not_trained() {
    let (teacher, student) = nets();
    let folder = tempfile::tempdir().unwrap();
    let presets = Presets::default().projection("fixed", |path, from, to| {
        let fixed = path.f_ones_no_train("fixed", &[to, from])?;
        Ok(Box::new(move |state| {
            Ok(state.f_linear(&fixed, None::<&Tensor>)?)
        }))
    });
    let projection = textbrewer::ProjectionSpec::new("fixed", 4, 5);
    let matched = [IntermediateMatch::hidden(3, 1).proj(projection)];
    let built = mine(&teacher, &student, config(folder.path()), |builder| {
        let distilling = DistillationConfig::default().intermediate_matches(matched);
        builder.distill_config(distilling).presets(presets)
    });
    assert!(built.is_ok(), "{:?}", built.err());
}
