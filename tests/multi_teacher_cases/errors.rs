//! What is refused, and in which words.

use tch::Tensor;
use textbrewer::distiller::Ensemble;
use textbrewer::{
    AdaptorOutput, DistillationConfig, Distiller, IntermediateMatch, MultiTeacherDistiller, Result,
    Sgd,
};

use crate::common::tiny::{Output, adapt, config, first_line, loader};
use crate::{Builder, Nets, two_heads};

#[test]
fn errors_say_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let built = |builder: Builder<'_>| {
        let built = builder.train_config(config(folder.path())).build();
        first_line(built)
    };
    let weighted = |weights: &[f64]| {
        nets.builder()
            .ensemble(Ensemble::Weighted(weights.to_vec()))
    };
    let of_third = DistillationConfig::default()
        .intermediate_matches([IntermediateMatch::hidden(1, 1).teacher(2)]);
    let empty = || MultiTeacherDistiller::builder(&nets.student, &nets.student.variables);
    let cold = Ensemble::MeanProbabilities { temperature: 0.0 };
    for (builder, message) in [
        (
            nets.builder().distill_config(of_third),
            "intermediate_matches[0].teacher: there is no teacher 2; the last is 1, counted from 0",
        ),
        (
            weighted(&[1.0]),
            "ensemble: needs a weight for each of the 2 teacher(s), got 1",
        ),
        (
            weighted(&[1.0, -1.0]),
            "ensemble: weights must be finite, 0 or more, and not all 0, got [1.0, -1.0]",
        ),
        (
            weighted(&[1.0, f64::INFINITY]),
            "ensemble: weights must be finite, 0 or more, and not all 0, got [1.0, inf]",
        ),
        (
            nets.builder().ensemble(cold),
            "ensemble: the temperature must be positive, got 0",
        ),
        (
            empty().student_adaptor(adapt),
            "teachers: none was given; add at least one with `teacher`",
        ),
        (
            empty().teacher(&nets.first, adapt),
            "student_adaptor: none was given; say what the model's output means",
        ),
    ] {
        assert_eq!(built(builder), message);
    }
}

#[test]
fn logits_that_do_not_fit_together_name_the_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let trained = |second: fn(&Tensor, &Output) -> Result<AdaptorOutput>| {
        let mut distiller = MultiTeacherDistiller::builder(&nets.student, &nets.student.variables)
            .teacher(&nets.first, adapt)
            .teacher(&nets.second, second)
            .student_adaptor(adapt)
            .train_config(config(folder.path()))
            .build()?;
        let mut loader = loader(1);
        let run = distiller.train(&mut loader).optimizer(Sgd::new(0.1));
        run.steps(1).run()
    };
    assert_eq!(
        first_line(trained(|_, output| {
            let first = output.logits.narrow(1, 0, 1);
            Ok(AdaptorOutput::new().logits(&first))
        })),
        "logits of teacher 1: expected [2, 2], as of teacher 0, got [2, 1]"
    );
    assert_eq!(
        first_line(trained(two_heads)),
        "logits of teacher 1: expected as many as of teacher 0 (1), got 2"
    );
}
