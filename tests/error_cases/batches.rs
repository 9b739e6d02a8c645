//! What models and adaptors can give that a loss cannot use.

use tch::{Device, Kind, Tensor};
use textbrewer::{
    AdaptorOutput, BasicDistiller, BasicTrainer, DistillationConfig, Distiller, GeneralDistiller,
    IntermediateMatch, LossReport, Presets, ProjectionSpec, Result, StepInfo,
};

use crate::common::tiny::{Net, Output, adapt, batch, config, first_line, general};

const FIRST: fn() -> StepInfo = || StepInfo::new(0, 0, 1, 0);

fn with_match(matched: IntermediateMatch) -> DistillationConfig {
    DistillationConfig::default().intermediate_matches([matched])
}

/// One batch of a teacher of four layers of 5 and a student of two layers of 4.
fn step(
    distill_config: DistillationConfig,
    teacher_adaptor: impl Fn(&Tensor, &Output) -> Result<AdaptorOutput>,
    student_adaptor: impl Fn(&Tensor, &Output) -> Result<AdaptorOutput>,
) -> Result<LossReport> {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()))
        .distill_config(distill_config)
        .presets(Presets::default().match_loss("unreduced", |student, _, _| Ok(student + 0.0)))
        .teacher_adaptor(teacher_adaptor)
        .student_adaptor(student_adaptor)
        .build()?;
    distiller.train_on_batch(&batch(0), &FIRST())
}

fn nothing(_: &Tensor, _: &Output) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new())
}

fn hidden_only(_: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new().hidden(&output.hidden))
}

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}

#[test]
fn layers_out_of_range_are_told_with_the_number_there_is() {
    let table = [
        (
            (4, 0),
            "teacher layer 4 of `hidden` does not exist; the adaptor returned 4",
        ),
        (
            (0, 2),
            "student layer 2 of `hidden` does not exist; the adaptor returned 2",
        ),
        (
            (-5, 0),
            "teacher layer -5 of `hidden` does not exist; the adaptor returned 4",
        ),
        (
            (0, -3),
            "student layer -3 of `hidden` does not exist; the adaptor returned 2",
        ),
        (
            (i64::MIN, 0),
            "teacher layer -9223372036854775808 of `hidden` does not exist; \
             the adaptor returned 4",
        ),
    ];
    for ((of_teacher, of_student), message) in table {
        let matched = IntermediateMatch::hidden(of_teacher, of_student);
        assert_eq!(
            first_line(step(with_match(matched), adapt, adapt)),
            format!("intermediate_matches[0] (`hidden_mse`): {message}")
        );
    }
}

/// TextBrewer's sets of attention matches count from 1, the lists of this crate's models from 0.
#[test]
fn a_named_set_of_attentions_is_told_with_its_remedy() {
    let attentions = |_: &Tensor, output: &Output| {
        let layers = output.hidden.iter().cycle().take(12);
        let layers: Vec<_> = layers.map(Tensor::shallow_clone).collect();
        Ok(AdaptorOutput::new().attention(&layers))
    };
    for name in ["L3_attention_mse", "L4_attention_ce_mean"] {
        let matches = textbrewer::match_set(name).unwrap();
        let last = matches.last().cloned().unwrap();
        let loss = last.loss.clone();
        assert_eq!(
            first_line(step(with_match(last), attentions, attentions)),
            format!(
                "intermediate_matches[0] (`{loss}`): teacher layer 12 of `attention` does not \
                 exist; the adaptor returned 12, counted from 0. TextBrewer's named sets of \
                 attention matches count from 1: use `LayerMap::attention` in their place, or put \
                 an unused first element into the adaptor's list"
            )
        );
    }
}

#[test]
fn what_an_adaptor_left_out_is_named() {
    let matched = || with_match(IntermediateMatch::hidden(0, 0));
    assert_eq!(
        first_line(step(matched(), nothing, hidden_only)),
        "the teacher adaptor returned no `hidden`, \
         which intermediate_matches[0] (`hidden_mse`) needs"
    );
    assert_eq!(
        first_line(step(matched(), hidden_only, nothing)),
        "the student adaptor returned no `hidden`, \
         which intermediate_matches[0] (`hidden_mse`) needs"
    );
    let own = with_match(IntermediateMatch::new("pooled", 0, 0).loss("hidden_mse"));
    assert_eq!(
        first_line(step(own, adapt, adapt)),
        "the teacher adaptor returned no `pooled`, \
         which intermediate_matches[0] (`hidden_mse`) needs"
    );
    let shifting = DistillationConfig::default().probability_shift(true);
    assert_eq!(
        first_line(step(shifting, adapt, adapt)),
        "the student adaptor returned no `labels`, which `probability_shift` needs"
    );
    let empty = step(DistillationConfig::default(), nothing, nothing).unwrap();
    assert_eq!(
        first_line(empty.total()),
        "losses: nothing to optimize: the adaptors returned neither logits of both models nor \
         `losses`, and no intermediate match is configured"
    );
}

#[test]
fn the_simple_distillers_say_what_they_cannot_do_without() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let builder = || {
        BasicDistiller::builder(&teacher, &student, &student.variables)
            .train_config(config(folder.path()))
    };
    let mut lacks_teacher = builder()
        .teacher_adaptor(nothing)
        .student_adaptor(adapt)
        .build()
        .unwrap();
    assert_eq!(
        first_line(lacks_teacher.train_on_batch(&batch(0), &FIRST())),
        "the teacher adaptor returned no `logits`, \
         which the distillation loss (`kd_loss_type`) needs"
    );
    let mut lacks_student = builder()
        .teacher_adaptor(adapt)
        .student_adaptor(nothing)
        .build()
        .unwrap();
    assert_eq!(
        first_line(lacks_student.train_on_batch(&batch(0), &FIRST())),
        "the student adaptor returned no `logits`, \
         which the distillation loss (`kd_loss_type`) needs"
    );
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(adapt)
        .build()
        .unwrap();
    assert_eq!(
        first_line(trainer.train_on_batch(&batch(0), &FIRST())),
        "the student adaptor returned no `losses`, which training without a teacher needs"
    );
}

#[test]
fn features_that_do_not_fit_are_told_with_both_shapes() {
    assert_eq!(
        first_line(step(
            with_match(IntermediateMatch::hidden(0, 0)),
            adapt,
            adapt
        )),
        "intermediate_matches[0]: hidden_mse: expected student and teacher of one hidden size \
         (add `proj` to the match), got student [2, 3, 4] and teacher [2, 3, 5]"
    );
    let with_projection = |dim_in, dim_out| {
        with_match(IntermediateMatch::hidden(0, 0).proj(ProjectionSpec::linear(dim_in, dim_out)))
    };
    assert_eq!(
        first_line(step(with_projection(6, 5), adapt, adapt)),
        "intermediate_matches[0]: projection `linear` from 6 to 5: expected the student's state \
         [.., 6] (the second element of `proj` is the student's size, the third the teacher's), \
         got [2, 3, 4]"
    );
    assert_eq!(
        first_line(step(with_projection(4, 6), adapt, adapt)),
        "intermediate_matches[0]: hidden_mse: expected student and teacher of one hidden size \
         (add `proj` to the match), got student [2, 3, 6] and teacher [2, 3, 5]"
    );
    let masked =
        |batch: &Tensor, output: &Output| Ok(adapt(batch, output)?.inputs_mask(&zeros(&[2, 7])));
    assert_eq!(
        first_line(step(with_projection(4, 5), adapt, masked)),
        "intermediate_matches[0]: hidden_mse, mask: expected [batch, length] = [2, 3], \
         one number for each position; a feature without a mask of its own (`Feature::mask`, \
         `unmasked`) has `inputs_mask`, got [2, 7]"
    );
    let unreduced = with_match(IntermediateMatch::hidden(0, 0).loss("unreduced"));
    assert_eq!(
        first_line(step(unreduced, adapt, adapt).unwrap().total()),
        "loss `unweighted_hidden_unreduced_0_0`: expected a single number \
         (take the mean or the sum), got shape [2, 3, 4]"
    );
}

#[test]
fn logits_that_do_not_fit_are_told_with_their_numbers() {
    let two = |batch: &Tensor, output: &Output| Ok(adapt(batch, output)?.logits(&output.logits));
    assert_eq!(
        first_line(step(DistillationConfig::default(), two, adapt)),
        "logits: expected as many of the teacher as of the student (1), got 2"
    );
    let wide = |_: &Tensor, _: &Output| Ok(AdaptorOutput::new().logits(zeros(&[2, 3])));
    assert_eq!(
        first_line(step(DistillationConfig::default(), wide, adapt)),
        "kd_ce: expected logits of one shape, [batch, classes] or [batch, length, classes], \
         got student [2, 2] and teacher [2, 3]"
    );
    // `[batch, length, classes]`, of which only the student's adaptor selects positions.
    let in_places =
        |_: &Tensor, output: &Output| Ok(AdaptorOutput::new().logits(&output.hidden[0]));
    let masked = |batch: &Tensor, output: &Output| {
        Ok(in_places(batch, output)?.logits_mask(&zeros(&[2, 3])))
    };
    assert_eq!(
        first_line(step(DistillationConfig::default(), in_places, masked)),
        "the teacher adaptor returned no `logits_mask`, \
         which the match with the student's masked logits needs"
    );
    let labelled = |batch: &Tensor, output: &Output| {
        let labels = Tensor::from_slice(&[0i64, 1]);
        Ok(adapt(batch, output)?.labels(&labels).labels(&labels))
    };
    let shifting = || DistillationConfig::default().probability_shift(true);
    assert_eq!(
        first_line(step(shifting(), adapt, labelled)),
        "labels for `probability_shift`: expected one for each of the 1 logits, got 2"
    );
    let outside = |batch: &Tensor, output: &Output| {
        Ok(adapt(batch, output)?.labels(&Tensor::from_slice(&[0i64, 2])))
    };
    let shown = first_line(step(shifting(), adapt, outside));
    let start = "probability_shift, a label outside the 2 classes: ";
    assert!(shown.starts_with(start), "{shown}");
}

#[test]
fn tensors_that_hold_nothing_are_refused_where_they_come_from() {
    let undefined =
        |batch: &Tensor, output: &Output| Ok(adapt(batch, output)?.logits(Tensor::new()));
    assert_eq!(
        first_line(step(DistillationConfig::default(), undefined, adapt)),
        "`logits` of the teacher adaptor: expected a tensor, got an undefined one"
    );
    let undefined =
        |batch: &Tensor, output: &Output| Ok(adapt(batch, output)?.inputs_mask(&Tensor::new()));
    assert_eq!(
        first_line(step(DistillationConfig::default(), adapt, undefined)),
        "`inputs_mask` of the student adaptor: expected a tensor, got an undefined one"
    );
    let mut report = LossReport::new();
    report.add("mine", Tensor::new(), 1.0);
    assert_eq!(
        first_line(report.total()),
        "loss `mine`: expected a single number, got an undefined tensor"
    );
}

#[test]
fn layers_that_were_not_kept_are_named_by_the_match_that_needs_them() {
    let second_only = |_: &Tensor, output: &Output| {
        let mut hidden: Vec<_> = output.hidden.iter().map(|_| Tensor::new()).collect();
        hidden[1] = output.hidden[1].shallow_clone();
        Ok(AdaptorOutput::new()
            .logits(&output.logits)
            .feature("mine", &hidden))
    };
    let run = |teacher, student| {
        let matched = IntermediateMatch::new("mine", teacher, student).loss("pkd");
        let matched = matched.proj(ProjectionSpec::linear(4, 5));
        step(with_match(matched), second_only, second_only)
    };
    // The student's last layer is its second.
    assert_eq!(run(1, -1).unwrap().losses().len(), 2);
    let remedy = "was not kept; ask the model for it \
                  (`layers` of the configuration lists those that are needed)";
    for (teacher, student, named) in [
        (-1, 1, "teacher layer -1 of `mine`"),
        (1, 0, "student layer 0 of `mine`"),
    ] {
        let expected = format!("intermediate_matches[0] (`pkd`): {named} {remedy}");
        assert_eq!(first_line(run(teacher, student)), expected);
    }
}

#[test]
fn an_error_of_the_users_own_comes_out_as_it_is() {
    let own = |_: &Tensor, _: &Output| Err(textbrewer::Error::other("vocabulary of 7, token 9"));
    assert_eq!(
        first_line(step(DistillationConfig::default(), own, adapt)),
        "vocabulary of 7, token 9"
    );
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let mut distiller = general(
        &teacher,
        &student,
        config(folder.path()),
        DistillationConfig::default(),
    )
    .unwrap();
    assert!(distiller.train_on_batch(&batch(0), &FIRST()).is_ok());
}
