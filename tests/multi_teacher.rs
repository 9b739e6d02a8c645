//! Several teachers of different types and widths: their logits as one, and whose features
//! a match takes.

mod common;

#[path = "multi_teacher_cases/errors.rs"]
mod errors;

use common::tiny::{
    Net, Output, adapt, batch, config, fill_projections, loader, losses_of, numbers,
    projected_numbers,
};
use common::{close, elements};
use tch::{Kind, Tensor};
use textbrewer::distiller::{DistillerBuilder, Ensemble, ManyTeachers};
use textbrewer::{
    AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller, IntermediateMatch, MemorySink,
    Model, MultiTeacherDistiller, ProjectionSpec, Result, Sgd, from_fn, weights,
};

type Builder<'a> = DistillerBuilder<
    'a,
    Tensor,
    ManyTeachers<'a, Tensor, Net>,
    MultiTeacherDistiller<'a, Tensor, Net>,
>;

/// Two teachers of different widths and depths, and a student.
struct Nets {
    first: Net,
    second: Net,
    student: Net,
}

impl Nets {
    fn new() -> Self {
        Nets {
            first: Net::new(4, 5, 0.1),
            second: Net::new(2, 7, 0.7),
            student: Net::new(2, 4, 0.2),
        }
    }

    /// The second teacher is a closure with an output and an adaptor of its own.
    fn builder(&self) -> Builder<'_> {
        let second = from_fn(|batch: &Tensor, train| {
            let output = self.second.forward(batch, train)?;
            Ok((output.hidden, output.logits))
        });
        MultiTeacherDistiller::builder(&self.student, &self.student.variables)
            .teacher(&self.first, adapt)
            .teacher(second, |_, (hidden, logits): &(Vec<Tensor>, Tensor)| {
                Ok(AdaptorOutput::new().logits(logits).hidden(hidden))
            })
            .student_adaptor(adapt)
    }

    fn logits(&self, batch: &Tensor) -> [Vec<f64>; 3] {
        [&self.first, &self.second, &self.student]
            .map(|net| elements(&net.forward(batch, false).unwrap().logits))
    }
}

fn mse() -> DistillationConfig {
    DistillationConfig::default()
        .kd_loss_type("mse")
        .temperature(1.0)
}

fn mean_square(left: &[f64], right: &[f64]) -> f64 {
    let squares = left.iter().zip(right).map(|(a, b)| (a - b).powi(2));
    squares.sum::<f64>() / left.len() as f64
}

fn softmax(logits: [f64; 2]) -> [f64; 2] {
    let sum = logits[0].exp() + logits[1].exp();
    logits.map(|z| z.exp() / sum)
}

/// The formulas of [`Ensemble`] for two teachers and one example of two classes.
fn by_hand(ensemble: &Ensemble, first: [f64; 2], second: [f64; 2]) -> [f64; 2] {
    let weighted = |a: f64, b: f64| {
        let mean = |class: usize| (a * first[class] + b * second[class]) / (a + b);
        [mean(0), mean(1)]
    };
    let surest = |logits| softmax(logits).into_iter().fold(0.0, f64::max);
    match ensemble {
        Ensemble::MeanLogits => weighted(1.0, 1.0),
        Ensemble::Weighted(weights) => weighted(weights[0], weights[1]),
        Ensemble::Confidence => weighted(surest(first), surest(second)),
        Ensemble::MeanProbabilities { temperature } => {
            let [first, second] = [first, second].map(|z| softmax(z.map(|z| z / temperature)));
            [0, 1].map(|class| temperature * ((first[class] + second[class]) / 2.0).ln())
        }
        other => panic!("no formula of {other:?}"),
    }
}

fn ensembles() -> [Ensemble; 4] {
    [
        Ensemble::MeanLogits,
        Ensemble::MeanProbabilities { temperature: 3.0 },
        Ensemble::Weighted(vec![3.0, 0.5]),
        Ensemble::Confidence,
    ]
}

#[test]
fn every_ensemble_is_its_formula_inside_a_training_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for ensemble in ensembles() {
        let nets = Nets::new();
        let [first, second, student] = nets.logits(&batch(0));
        let pairs = first.chunks(2).zip(second.chunks(2));
        let together: Vec<f64> = pairs
            .flat_map(|(a, b)| by_hand(&ensemble, [a[0], a[1]], [b[0], b[1]]))
            .collect();
        let expected = mean_square(&student, &together);
        let builder = nets.builder().ensemble(ensemble.clone());
        let builder = builder.train_config(config(folder.path()));
        let mut distiller = builder.distill_config(mse()).build().unwrap();
        let before = numbers(&nets.student.variables);
        let mut loader = loader(1);
        let run = distiller.train(&mut loader).optimizer(Sgd::new(0.1));
        let got = run.steps(1).run().unwrap().losses["unweighted_kd_loss"];
        assert!(close(got, expected), "{ensemble:?}: {got}, not {expected}");
        assert_ne!(numbers(&nets.student.variables), before);
        seen.push(got);
    }
    seen.sort_by(f64::total_cmp);
    seen.dedup();
    assert_eq!(seen.len(), 4, "each has a number of its own");
}

/// The logits, and twice the first hidden state's first three numbers.
fn two_heads(_: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    let second = output.hidden[0].narrow(-1, 0, 3) * 2.0;
    Ok(AdaptorOutput::new().logits(&output.logits).logits(&second))
}

#[test]
fn several_logits_are_put_together_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let heads = |net: &Net| {
        let output = net.forward(&batch(0), false).unwrap();
        let heads = two_heads(&batch(0), &output).unwrap().logits;
        [0, 1].map(|head: usize| heads[head].whole().unwrap())
    };
    let (first, second) = (heads(&nets.first), heads(&nets.second));
    let student = heads(&nets.student);
    let expected: f64 = (0..2)
        .map(|head| {
            let mean = (&first[head] + &second[head]) / 2.0;
            mean_square(&elements(&student[head]), &elements(&mean))
        })
        .sum();
    let mut distiller = MultiTeacherDistiller::builder(&nets.student, &nets.student.variables)
        .teachers([&nets.first, &nets.second], two_heads)
        .student_adaptor(two_heads)
        .train_config(config(folder.path()))
        .distill_config(mse())
        .build()
        .unwrap();
    let got = losses_of(&mut distiller, &batch(0))["unweighted_kd_loss"];
    assert!(close(got, expected), "{got}, not {expected}");
}

#[test]
fn a_match_takes_its_layer_from_the_teacher_that_it_names() {
    let json = r#"{"kd_loss_weight": 0, "intermediate_matches": [
        {"layer_T": 1, "layer_S": 1, "feature": "hidden", "loss": "hidden_mse", "weight": 1,
         "proj": ["linear", 4, 5]},
        {"layer_T": 1, "layer_S": 1, "feature": "hidden", "loss": "hidden_mse", "weight": 0.5,
         "proj": ["linear", 4, 7], "teacher": 1}]}"#;
    let from_json = DistillationConfig::from_json_str(json).unwrap();
    let matched = |size| IntermediateMatch::hidden(1, 1).proj(ProjectionSpec::linear(4, size));
    let built = DistillationConfig::default()
        .kd_loss_weight(0.0)
        .intermediate_matches([matched(5), matched(7).weight(0.5).teacher(1)]);
    assert_eq!(from_json, built);
    let written = built.to_json_string().unwrap();
    assert_eq!(DistillationConfig::from_json_str(&written).unwrap(), built);

    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let builder = nets.builder().train_config(config(folder.path()));
    let mut distiller = builder.distill_config(from_json).build().unwrap();
    fill_projections(&distiller);
    let hidden = |net: &Net| net.forward(&batch(0), false).unwrap().hidden.remove(1);
    let variables = weights::state_dict(distiller.projections());
    let projected = |index: usize| {
        let of = |part: &str| {
            let name = format!("projection.{index}.{part}");
            let found = variables.iter().find(|(known, _)| *known == name);
            found.unwrap().1.shallow_clone()
        };
        hidden(&nets.student).matmul(&of("weight").tr()) + of("bias")
    };
    let expected = [&nets.first, &nets.second]
        .iter()
        .enumerate()
        .map(|(index, net)| mean_square(&elements(&projected(index)), &elements(&hidden(net))))
        .collect::<Vec<_>>();
    let losses = losses_of(&mut distiller, &batch(0));
    let got = [
        losses["unweighted_hidden_hidden_mse_1_1"],
        losses["unweighted_hidden_hidden_mse_1_1_teacher1"],
    ];
    assert!(close(got[0], expected[0]), "{got:?}, not {expected:?}");
    assert!(close(got[1], expected[1]), "{got:?}, not {expected:?}");
    assert!(close(losses["total"], got[0] + 0.5 * got[1]), "{losses:?}");

    // Both projections learn.
    let before = projected_numbers(&distiller);
    let mut loader = loader(2);
    let run = distiller.train(&mut loader).optimizer(Sgd::new(0.1));
    run.steps(2).run().unwrap();
    let after = projected_numbers(&distiller);
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert_eq!(moved, 4 * 5 + 5 + 4 * 7 + 7);
}

#[test]
fn one_teacher_is_a_general_distiller() {
    let matched = IntermediateMatch::hidden(3, 1).proj(ProjectionSpec::tanh(4, 5));
    let distill_config = DistillationConfig::default()
        .hard_label_weight(0.3)
        .intermediate_matches([matched]);
    let adaptor = |_: &Tensor, output: &Output| {
        let loss = output.logits.square().mean(Kind::Float);
        adapt(&loss, output).map(|adapted| adapted.losses(&loss))
    };
    fn trained<D: Distiller<Batch = Tensor>>(
        mut distiller: D,
    ) -> (Vec<(String, f64, u64)>, Vec<f64>) {
        fill_projections(&distiller);
        let (sink, mut loader) = (MemorySink::new(), loader(3).shuffle(2));
        let run = distiller.train(&mut loader).log_sink(sink.clone());
        run.optimizer(Sgd::new(0.2)).epochs(3).run().unwrap();
        let mut finals = numbers(distiller.variables());
        finals.extend(projected_numbers(&distiller));
        (sink.scalars(), finals)
    }
    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let general = GeneralDistiller::builder(&nets.first, &nets.student, &nets.student.variables)
        .train_config(config(folder.path()))
        .distill_config(distill_config.clone())
        .adaptor(adaptor)
        .build();
    let expected = trained(general.unwrap());
    // Three losses and their sum, and the learning rate.
    assert_eq!(expected.0.len(), 9 * 5);
    let of_one = Ensemble::Weighted(vec![7.0]);
    let mean = Ensemble::MeanProbabilities { temperature: 3.0 };
    for ensemble in [Ensemble::MeanLogits, of_one, Ensemble::Confidence, mean] {
        let nets = Nets::new();
        let one = MultiTeacherDistiller::builder(&nets.student, &nets.student.variables)
            .teacher(&nets.first, adaptor)
            .student_adaptor(adaptor)
            .ensemble(ensemble)
            .train_config(config(folder.path()))
            .distill_config(distill_config.clone())
            .build();
        assert_eq!(trained(one.unwrap()), expected);
    }
}
