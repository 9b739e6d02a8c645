//! What a term does not ask for it is not handed, with a cache and without one.

use tch::Tensor;
use textbrewer::distiller::{DistillerBuilder, Ensemble, Needs, Said, loss_term};
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DistillationConfig, Distiller, Feature, GeneralDistiller,
    IntermediateMatch, LossReport, MultiTaskDistiller, MultiTeacherDistiller, ProjectionSpec,
    Result, StepInfo,
};

use crate::common::said::{Looking, Outputs, losses_of_outputs};
use crate::common::tiny::{Net, adapt, batch, config, first_line, loader, square};
use crate::mine::nets;

fn step() -> StepInfo {
    StepInfo::new(0, 0, 10, 1).with_batch_id(Some(3))
}

fn caching(caches: bool) -> DistillationConfig {
    DistillationConfig::default()
        .is_caching_logits(caches)
        .cache_features(caches)
}

/// The report of the second of two equal batches.
fn second_report(
    distilling: DistillationConfig,
    needs: Needs,
    loss: impl Fn(&Said<'_, Tensor>) -> Result<Tensor>,
) -> Result<LossReport> {
    let (teacher, student) = nets();
    let folder = tempfile::tempdir().unwrap();
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()))
        .distill_config(distilling)
        .adaptor(adapt)
        .term(loss_term("mine", 1.0, needs, loss))
        .build()?;
    distiller.train_on_batch(&batch(0), &step())?;
    distiller.train_on_batch(&batch(0), &step())
}

#[test]
fn a_layer_that_is_not_asked_for_is_an_error_with_a_cache_and_without_one() {
    let last = |said: &Said<'_, Tensor>| {
        said.teacher_layer(0, "hidden", -1)?
            .f_mean(None)
            .map_err(Into::into)
    };
    for caches in [false, true] {
        for needs in [Needs::new(), Needs::new().teacher_layers(0, "hidden", [0])] {
            let report = second_report(caching(caches), needs, last);
            assert_eq!(
                first_line(report),
                "term `mine`: needs: teacher layer -1 of `hidden` is read but not listed; add it \
                 to `Term::needs`, or with `needs` of the builder where the distiller reads it \
                 itself"
            );
        }
        let asked = Needs::new().teacher_layers(0, "hidden", [3]);
        assert!(second_report(caching(caches), asked, last).is_ok());
        let of_student = |said: &Said<'_, Tensor>| {
            said.student_layer("hidden", 0)?
                .f_mean(None)
                .map_err(Into::into)
        };
        assert_eq!(
            first_line(second_report(caching(caches), Needs::new(), of_student)),
            "term `mine`: needs: student layer 0 of `hidden` is read but not listed; add it to \
             `Term::needs`, or with `needs` of the builder where the distiller reads it itself"
        );
    }
}

#[test]
fn what_is_handed_on_of_a_teacher_is_the_same_with_a_cache() {
    let (teacher, student) = nets();
    let folder = tempfile::tempdir().unwrap();
    let mask = Tensor::from_slice2(&[[1, 1, 0], [1, 0, 0]]);
    let handed = |caches: bool| {
        let (looking, seen) = Looking::new(|said: &Said<'_, Tensor>| {
            let output = &said.teachers[0];
            let hidden = &output.features["hidden"].layers;
            let defined: Vec<bool> = hidden.iter().map(Tensor::defined).collect();
            let own_mask = said.mask(0, "hidden", &[]).map(Tensor::copy);
            (
                (
                    output.logits.len(),
                    output.labels.len(),
                    output.losses.len(),
                ),
                (output.inputs_mask.is_some(), output.features.len(), defined),
                own_mask,
            )
        });
        let matched = IntermediateMatch::hidden(2, 1).loss("pkd");
        let teacher_says = |batch: &Tensor, output: &_| {
            let said = adapt(batch, output)?;
            let layers: Vec<_> = output_layers(&said);
            Ok(said
                .labels(&Tensor::from(1i64))
                .losses(&Tensor::from(2.0))
                .inputs_mask(&mask)
                .hidden(Feature::from(layers).mask(&mask))
                .feature("other", &[Tensor::from(3.0)]))
        };
        let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
            .train_config(config(folder.path()))
            .distill_config(caching(caches).intermediate_matches([matched]))
            .teacher_adaptor(teacher_says)
            .student_adaptor(|batch, output| {
                let widened = adapt(batch, output)?;
                let wide = |layer: &Tensor| layer.constant_pad_nd([0, 1]);
                let layers: Vec<_> = output_layers(&widened).iter().map(wide).collect();
                Ok(AdaptorOutput::new().hidden(layers))
            })
            .term(looking)
            .build()
            .unwrap();
        for _ in 0..2 {
            distiller.train_on_batch(&batch(0), &step()).unwrap();
        }
        let mut seen = seen.take();
        assert_eq!(seen.len(), 2);
        let (second, first) = (seen.remove(1), seen.remove(0));
        assert_eq!(first, second);
        first
    };
    let (counts, (has_mask, features, defined), own_mask) = handed(false);
    assert_eq!(counts, (1, 0, 0));
    assert_eq!((has_mask, features), (false, 1));
    assert_eq!(defined, [false, false, true, false]);
    assert_eq!(own_mask, Some(mask.copy()));
    let cached = handed(true);
    assert_eq!(cached, (counts, (has_mask, features, defined), own_mask));
}

fn output_layers(output: &AdaptorOutput) -> Vec<Tensor> {
    let layers = output.features["hidden"].layers.iter();
    layers.map(Tensor::shallow_clone).collect()
}

#[test]
fn a_teacher_that_is_not_there_is_told_before_training() {
    let needs = |teacher| Needs::new().teacher_layers(teacher, "hidden", [0]);
    let nothing = |_: &Said<'_, Tensor>| Ok(Tensor::from(0.0));
    let result = second_report(caching(false), needs(5), nothing);
    assert_eq!(
        first_line(result),
        "term `mine`: there is no teacher 5; the last is 0, counted from 0"
    );
    let student = nets().1;
    let built = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(tempfile::tempdir().unwrap().path()))
        .adaptor(square)
        .term(loss_term("mine", 1.0, needs(0), nothing))
        .build();
    assert_eq!(first_line(built), "term `mine`: there is no teacher at all");
    // Layers of which there are none are nothing.
    let none = Needs::new().teacher_layers(7, "hidden", false);
    let logits_only = DistillationConfig::default().is_caching_logits(true);
    assert!(second_report(logits_only, none, nothing).is_ok());
}

#[test]
fn another_ensemble_is_refused_on_resume() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Net::new(2, 4, 0.1), Net::new(2, 4, 0.7));
    let train = |ensemble: Ensemble, steps| {
        let student = Net::new(1, 4, 0.2);
        let mut distiller = MultiTeacherDistiller::builder(&student, &student.variables)
            .teachers([&first, &second], adapt)
            .ensemble(ensemble)
            .student_adaptor(adapt)
            .train_config(config(folder.path()).ckpt_steps(2))
            .build()?;
        let mut batches = loader(2);
        let run = distiller.train(&mut batches).steps(steps).progress(false);
        run.optimizer(AdamW::new(0.05)).resume_or_start().run()
    };
    train(Ensemble::MeanLogits, 2).unwrap();
    let error = train(Ensemble::Weighted(vec![3.0, 1.0]), 4).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("distiller.teachers"), "{message}");
    assert_eq!(
        train(Ensemble::MeanLogits, 4).unwrap().resumed_from,
        Some(2)
    );
}

#[test]
fn a_distiller_without_tasks_is_not_made_of_some() {
    let student = nets().1;
    let built: Result<GeneralDistiller<Tensor, Net>> =
        DistillerBuilder::of_tasks(&student, &student.variables)
            .task("one", crate::mine::task())
            .train_config(config(tempfile::tempdir().unwrap().path()))
            .build();
    assert_eq!(
        first_line(built),
        "tasks: GeneralDistiller has none; use MultiTaskDistiller"
    );
}

#[test]
fn a_term_knows_the_task_of_its_batch() {
    let student = nets().1;
    let folder = tempfile::tempdir().unwrap();
    let (looking, seen) = Looking::new(|said: &Said<'_, Tensor>| said.task.to_owned());
    let mut distiller = MultiTaskDistiller::builder(&student, &student.variables)
        .task("one", crate::mine::task())
        .task("two", crate::mine::task())
        .train_config(config(folder.path()))
        .term(looking)
        .build()
        .unwrap();
    for task in ["two", "one"] {
        let batch = textbrewer::TaskBatch::new(task, batch(0));
        distiller.train_on_batch(&batch, &step()).unwrap();
    }
    assert_eq!(*seen.borrow(), ["two", "one"]);
    let outputs = Outputs {
        teachers: vec![AdaptorOutput::new()],
        student: AdaptorOutput::new(),
    };
    let at = (&(), &step());
    let presets = textbrewer::Presets::default();
    let config = DistillationConfig::default();
    let (_, task) =
        losses_of_outputs(outputs, config, presets, at, |said| said.task.to_owned()).unwrap();
    assert_eq!(task, "");
}

#[test]
fn logits_that_are_not_there_are_told() {
    let student = Net::new(1, 4, 0.2);
    let folder = tempfile::tempdir().unwrap();
    let size = |said: &Said<'_, Tensor>| said.student_logits(0)?.f_mean(None).map_err(Into::into);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .term(loss_term("mine", 1.0, Needs::new(), size))
        .build()
        .unwrap();
    assert_eq!(
        first_line(trainer.train_on_batch(&batch(0), &step())),
        "term `mine`: the student adaptor returned no `logits[0]`, which a loss of your own needs"
    );
    let ask = |said: &Said<'_, Tensor>| said.teacher_logits(1)?.f_mean(None).map_err(Into::into);
    assert_eq!(
        first_line(second_report(caching(false), Needs::new().logits(), ask)),
        "term `mine`: the teacher adaptor returned no `logits[1]`, which a loss of your own needs"
    );
    // Those of the teacher are there, for the crate's term lists them.
    assert_eq!(
        first_line(second_report(caching(false), Needs::new(), ask)),
        "term `mine`: needs: the teacher's logits are read but not listed; add it to \
         `Term::needs`, or with `needs` of the builder where the distiller reads it itself"
    );
}

#[test]
fn a_need_of_another_term_does_not_serve() {
    let mean = |said: &Said<'_, Tensor>| {
        said.teacher_layer(0, "hidden", 0)?
            .f_mean(None)
            .map_err(Into::into)
    };
    let matched = IntermediateMatch::hidden(0, 0).proj(ProjectionSpec::linear(4, 5));
    let distilling = || DistillationConfig::default().intermediate_matches([matched.clone()]);
    let message = first_line(second_report(distilling(), Needs::new(), mean));
    assert!(
        message
            .starts_with("term `mine`: needs: teacher layer 0 of `hidden` is read but not listed"),
        "{message}"
    );
    let listed = Needs::new().teacher_layers(0, "hidden", [0]);
    assert!(second_report(distilling(), listed, mean).is_ok());
}

#[test]
fn what_a_distiller_reads_itself_is_asked_for_from_the_builder() {
    let (teacher, student) = nets();
    let folder = tempfile::tempdir().unwrap();
    let built = |needs: Needs, distilling: DistillationConfig| {
        crate::mine::mine(&teacher, &student, config(folder.path()), |builder| {
            builder.needs(needs).distill_config(distilling)
        })
    };
    let needs = |teacher| Needs::new().teacher_layers(teacher, "hidden", [0]);
    let (batch, step) = (batch(0), step());
    let own = built(needs(0), caching(true)).unwrap();
    assert_eq!(
        own.core().needs().layers_of_teacher(0, "hidden"),
        [0].into()
    );
    let said = own.0.run_models(&batch, &step).unwrap();
    assert!(said.teacher_layer(0, "hidden", 0).is_ok());
    assert!(said.teacher_layer(0, "hidden", 1).is_err());
    assert_eq!(
        first_line(built(needs(9), caching(false))),
        "needs: there is no teacher 9; the last is 0, counted from 0"
    );
    let logits_only = DistillationConfig::default().is_caching_logits(true);
    assert_eq!(
        first_line(built(needs(0), logits_only)),
        "is_caching_logits: it keeps logits only, but `the distiller` needs the teacher's features \
         at every step; set `cache_features` as well, which takes more memory, or leave caching off"
    );
}
