//! The models see autocast, adaptors and losses do not.

use std::cell::RefCell;

use Precision::{Bf16, Float32, Fp16};
use tch::{Kind, Reduction, Tensor};
use textbrewer::config::Precision;
use textbrewer::{
    AdaptorOutput, BasicTrainer, DistillationConfig, Distiller, GeneralDistiller,
    IntermediateMatch, Model, ProjectionSpec, Result, StepInfo, from_fn,
};

use crate::common::device::device;
use crate::common::tiny::{Net, Output, adapt, batch, config, losses_of};
use crate::common::{close, elements};
use crate::product;

/// What an adaptor got of a model.
struct Seen {
    logits: Tensor,
    hidden: Tensor,
}

/// `ce` at temperature 4 for two classes: −Σ softmax(t/τ) log softmax(s/τ), the mean of the rows.
fn ce(student: &[f64], teacher: &[f64]) -> f64 {
    let log_softmax = |row: &[f64]| {
        let scaled = [row[0] / 4.0, row[1] / 4.0];
        let sum = (scaled[0].exp() + scaled[1].exp()).ln();
        scaled.map(|z| z - sum)
    };
    let rows = student.chunks(2).zip(teacher.chunks(2));
    let losses = rows.map(|(student, teacher)| {
        let (student, teacher) = (log_softmax(student), log_softmax(teacher));
        -(teacher[0].exp() * student[0] + teacher[1].exp() * student[1])
    });
    losses.sum::<f64>() / (student.len() / 2) as f64
}

fn mean_square(left: &[f64], right: &[f64]) -> f64 {
    let squares = left.iter().zip(right).map(|(a, b)| (a - b).powi(2));
    squares.sum::<f64>() / left.len() as f64
}

#[test]
fn each_model_computes_in_its_precision_and_the_losses_in_float32() {
    let folder = tempfile::tempdir().unwrap();
    let mut distillation_losses = Vec::new();
    for (student_precision, teacher_precision) in [
        (Float32, Float32),
        (Float32, Bf16),
        (Bf16, Float32),
        (Bf16, Bf16),
        (Fp16, Bf16),
    ] {
        let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
        let inside = |net, precision: Precision| {
            let net: &Net = net;
            from_fn(move |batch: &Tensor, train| {
                assert_eq!(product(), precision.kind(), "in a model");
                net.forward(batch, train)
            })
        };
        let student_model = inside(&student, student_precision);
        let seen: [RefCell<Option<Seen>>; 2] = Default::default();
        let recorded = |side: usize| {
            let seen = &seen[side];
            move |batch: &Tensor, output: &Output| {
                assert_eq!(product(), Kind::Float, "in an adaptor");
                seen.replace(Some(Seen {
                    logits: output.logits.shallow_clone(),
                    hidden: output.hidden[1].shallow_clone(),
                }));
                Ok(adapt(batch, output)?.losses(&output.logits))
            }
        };
        let mut distiller = GeneralDistiller::builder(
            inside(&teacher, teacher_precision),
            &student_model,
            &student.variables,
        )
        .train_config(
            config(folder.path())
                .precision(student_precision)
                .teacher_precision(teacher_precision),
        )
        .distill_config(
            DistillationConfig::default()
                .hard_label_weight(1.0)
                .intermediate_matches([IntermediateMatch::hidden(1, 1)]),
        )
        .student_adaptor(recorded(0))
        .teacher_adaptor(recorded(1))
        .build()
        .unwrap();

        let step = StepInfo::new(0, 0, 1, 1);
        let report = distiller.train_on_batch(&batch(0), &step).unwrap();
        assert_eq!(product(), Kind::Float, "after the step");
        let [student, teacher] = [0, 1].map(|side| seen[side].take().unwrap());
        for (seen, precision) in [(&student, student_precision), (&teacher, teacher_precision)] {
            assert_eq!(seen.logits.kind(), precision.kind());
            assert_eq!(seen.hidden.kind(), precision.kind());
        }
        // Doubles of what the models said: these numbers are exact.
        let [s, t] = [&student.logits, &teacher.logits].map(elements);
        let [hidden_s, hidden_t] = [&student.hidden, &teacher.hidden].map(elements);
        let expected = [
            ce(&s, &t),
            mean_square(&hidden_s, &hidden_t),
            s.iter().sum::<f64>() / s.len() as f64,
        ];
        assert_eq!(report.losses().len(), expected.len());
        for (term, expected) in report.losses().iter().zip(expected) {
            let loss = term.loss.double_value(&[]);
            assert_eq!(term.loss.kind(), Kind::Float, "{}", term.name);
            assert!(close(loss, expected), "{}: {loss}, {expected}", term.name);
        }
        assert_eq!(report.total().unwrap().kind(), Kind::Float);
        distillation_losses.push(expected[1]);
    }
    // Were the numbers of all precisions alike, the formulas would have shown nothing.
    distillation_losses.sort_by(f64::total_cmp);
    assert!(
        distillation_losses
            .windows(2)
            .all(|pair| !close(pair[0], pair[1]))
    );
}

/// A cross entropy written by hand, one of libtorch's, and a distance of hidden states: in 16 bits
/// they would be off by up to 1/64.
#[test]
fn what_an_adaptor_computes_is_computed_in_float32() {
    let folder = tempfile::tempdir().unwrap();
    for precision in [Bf16, Fp16] {
        let student = Net::new(2, 4, 0.2);
        let seen = RefCell::new(None);
        let adaptor = |_: &Tensor, output: &Output| {
            let labels = Tensor::from_slice(&[1i64, 0]).to_device(device());
            let logits = &output.logits * 7.0;
            let log = logits.log_softmax(-1, None::<Kind>);
            let by_hand = -log
                .gather(1, &labels.unsqueeze(1), false)
                .mean(None::<Kind>);
            let none = None::<Tensor>;
            let built_in = logits.cross_entropy_loss(&labels, none, Reduction::Mean, -100, 0.0);
            let square = output.hidden[0].square().mean(None::<Kind>);
            seen.replace(Some(Seen {
                logits: output.logits.detach_copy(),
                hidden: output.hidden[0].detach_copy(),
            }));
            Ok(AdaptorOutput::new()
                .losses(&by_hand)
                .losses(&built_in)
                .losses(&square))
        };
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()).precision(precision))
            .adaptor(adaptor)
            .build()
            .unwrap();
        let step = StepInfo::new(0, 0, 1, 1);
        let report = trainer.train_on_batch(&batch(0), &step).unwrap();
        let seen = seen.take().unwrap();
        let rows = elements(&seen.logits);
        let entropy = |row: &[f64], label: usize| {
            let [a, b] = [row[0] * 7.0, row[1] * 7.0];
            let largest = a.max(b);
            let sum = ((a - largest).exp() + (b - largest).exp()).ln();
            largest + sum - [a, b][label]
        };
        let expected = (entropy(&rows[..2], 1) + entropy(&rows[2..], 0)) / 2.0;
        let hidden = elements(&seen.hidden);
        let expected = 2.0 * expected + mean_square(&hidden, &vec![0.0; hidden.len()]);
        let total = report.total().unwrap();
        assert_eq!(total.kind(), Kind::Float);
        let loss = total.double_value(&[]);
        assert!(close(loss, expected), "{loss}, {expected}");
        // In 16 bits it is another number: the test can fail.
        let narrow = seen.logits.to_kind(precision.kind()) * 7.0;
        let log = narrow.log_softmax(-1, None::<Kind>);
        let labels = Tensor::from_slice2(&[[1i64], [0]]).to_device(device());
        let rounded = -log
            .gather(1, &labels, false)
            .mean(None::<Kind>)
            .double_value(&[]);
        assert!(!close(
            rounded,
            (expected - mean_square(&hidden, &vec![0.0; hidden.len()])) / 2.0
        ));
        total.backward();
        for (name, variable) in textbrewer::weights::state_dict(&student.variables) {
            if name.starts_with("head") || name.starts_with("layers.0") {
                assert_eq!(variable.grad().kind(), Kind::Float, "{name}");
            }
        }
    }
}

#[test]
fn projections_are_in_float32_with_all_their_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let matched = IntermediateMatch::hidden(1, 1).proj(ProjectionSpec::linear(4, 5));
    let mut distiller = crate::common::tiny::general(
        &teacher,
        &student,
        config(folder.path()).precision(Bf16),
        DistillationConfig::default().intermediate_matches([matched]),
    )
    .unwrap();
    let step = StepInfo::new(0, 0, 1, 1);
    let report = distiller.train_on_batch(&batch(0), &step).unwrap();
    report.total().unwrap().backward();
    let groups = distiller.core().param_groups();
    let projections = groups.iter().flat_map(|group| &group.parameters);
    let student = student.variables.variables();
    for (name, tensor) in projections.map(|(n, t)| (n, t)).chain(student.iter()) {
        assert_eq!(tensor.kind(), Kind::Float, "{name}");
        assert_eq!(tensor.grad().kind(), Kind::Float, "{name}");
        assert!(
            tensor.grad().abs().sum(Kind::Double).double_value(&[]) > 0.0,
            "{name}"
        );
    }
}

/// Autocast rounds weights to 16 bits on their way into a product, so weights that are rounded
/// already give the same, to the last bit.
#[test]
fn a_teacher_held_in_bf16_says_what_one_rounded_on_the_way_says() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |teacher: &Net, precision| {
        let student = Net::new(2, 4, 0.2);
        let mut distiller = crate::common::tiny::general(
            teacher,
            &student,
            config(folder.path()).teacher_precision(precision),
            DistillationConfig::default().intermediate_matches([IntermediateMatch::hidden(1, 1)]),
        )
        .unwrap();
        losses_of(&mut distiller, &batch(0))
    };
    let teacher = Net::new(4, 4, 0.1);
    let mut held = Net::new(4, 4, 0.1);
    held.variables.bfloat16();
    assert_eq!(losses(&held, Bf16), losses(&teacher, Bf16));
    assert_ne!(losses(&held, Bf16), losses(&teacher, Float32));
}

#[test]
fn a_model_that_fails_or_panics_leaves_no_autocast_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    for panics in [false, true] {
        let failing = from_fn(move |_: &Tensor, _| -> Result<Output> {
            assert_eq!(product(), Kind::BFloat16);
            assert!(!panics, "on purpose");
            Err(textbrewer::Error::other("on purpose"))
        });
        let mut distiller = GeneralDistiller::builder(&teacher, &failing, &student.variables)
            .train_config(config(folder.path()).precision(Bf16))
            .distill_config(DistillationConfig::default())
            .adaptor(adapt)
            .build()
            .unwrap();
        let step = StepInfo::new(0, 0, 1, 1);
        let run = std::panic::AssertUnwindSafe(|| {
            distiller.train_on_batch(&batch(0), &step).unwrap();
        });
        assert!(std::panic::catch_unwind(run).is_err());
        assert_eq!(product(), Kind::Float);
    }
}
