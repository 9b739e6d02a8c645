//! `EmdDistiller`: what its plans, losses, gradients and weights of layers must be.

mod common;

use std::cell::Cell;

use common::{assert_close, elements, waves};
use ndarray::Array2;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::losses::{attention_mse, hidden_mse};
use textbrewer::{
    AdamW, AdaptorOutput, DistillationConfig, Distiller, EmdConfig, EmdDistiller, Error, FromFn,
    IntermediateMatch, LayerWeights, LossReport, MemorySink, Model, Presets, ProjectionSpec,
    Result, StepInfo, TrainingConfig, VecLoader, from_fn, transport,
};

const BATCH: i64 = 2;
const LENGTH: i64 = 3;

/// What a model of these tests returns: its layers, and logits where a test wants some.
#[derive(Default)]
struct Output {
    hidden: Vec<Tensor>,
    attention: Vec<Tensor>,
    logits: Option<Tensor>,
    mask: Option<Tensor>,
}

impl Output {
    fn copy(&self) -> Self {
        let copies = |tensors: &[Tensor]| tensors.iter().map(Tensor::shallow_clone).collect();
        Output {
            hidden: copies(&self.hidden),
            attention: copies(&self.attention),
            logits: self.logits.as_ref().map(Tensor::shallow_clone),
            mask: self.mask.as_ref().map(Tensor::shallow_clone),
        }
    }
}

fn adaptor(_batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    let mut adapted = AdaptorOutput::new();
    if !output.hidden.is_empty() {
        adapted = adapted.hidden(&output.hidden);
    }
    if !output.attention.is_empty() {
        adapted = adapted.attention(&output.attention);
    }
    if let Some(logits) = &output.logits {
        adapted = adapted.logits(logits).losses(&logits.square());
    }
    Ok(match &output.mask {
        Some(mask) => adapted.inputs_mask(mask),
        None => adapted,
    })
}

/// A model that returns the same whatever it is given.
fn says(output: Output) -> FromFn<impl Fn(&Tensor, bool) -> Result<Output>> {
    from_fn(move |_: &Tensor, _| Ok(output.copy()))
}

fn hidden(layers: usize, width: i64, seed: f64) -> Vec<Tensor> {
    let layer = |layer| waves(&[BATCH, LENGTH, width], seed + layer as f64);
    (0..layers).map(layer).collect()
}

fn attention(layers: usize, seed: f64) -> Vec<Tensor> {
    let layer =
        |layer| waves(&[BATCH, 2, LENGTH, LENGTH], seed + 0.3 * layer as f64).softmax(-1, None);
    (0..layers).map(layer).collect()
}

/// Student layers as variables, so that they have gradients.
fn variables(layers: &[Tensor]) -> (VarStore, Vec<Tensor>) {
    let variables = VarStore::new(Device::Cpu);
    let layers = layers.iter().enumerate().map(|(i, layer)| {
        let name = format!("layer{i}");
        variables
            .root()
            .var_copy(&name, &layer.to_kind(Kind::Float))
    });
    let layers = layers.collect();
    (variables, layers)
}

fn floats(layers: &[Tensor]) -> Vec<Tensor> {
    layers
        .iter()
        .map(|layer| layer.to_kind(Kind::Float))
        .collect()
}

fn costs(
    teacher: &[Tensor],
    student: &[Tensor],
    loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Array2<f64> {
    Array2::from_shape_fn((teacher.len(), student.len()), |(i, j)| {
        loss(&student[j], &teacher[i]).unwrap().double_value(&[])
    })
}

fn hidden_costs(teacher: &[Tensor], student: &[Tensor]) -> Array2<f64> {
    costs(teacher, student, |s, t| hidden_mse(s, t, None))
}

fn train_config() -> TrainingConfig {
    TrainingConfig::default().device(Device::Cpu)
}

fn build<'a, T: Model<Tensor, Output = Output> + 'a, S: Model<Tensor, Output = Output>>(
    teacher: T,
    student: &'a S,
    variables: &'a VarStore,
    config: EmdConfig,
) -> Result<EmdDistiller<'a, Tensor, S>> {
    EmdDistiller::builder(teacher, student, variables)
        .train_config(train_config())
        .distill_config(DistillationConfig::default().emd(config))
        .adaptor(adaptor)
        .build()
}

fn hidden_only() -> EmdConfig {
    EmdConfig::default().attention_weight(0.0)
}

fn step() -> StepInfo {
    StepInfo::new(0, 0, 10, 0)
}

fn batch() -> Tensor {
    Tensor::zeros([1], (Kind::Float, Device::Cpu))
}

fn term(report: &LossReport, name: &str) -> f64 {
    let term = report.losses().iter().find(|term| term.name == name);
    term.unwrap_or_else(|| panic!("no {name}"))
        .loss
        .double_value(&[])
}

fn assert_near(got: f64, expected: f64) {
    let tolerance = 1e-6 * expected.abs() + 1e-9;
    assert!(
        (got - expected).abs() <= tolerance,
        "{got}, expected {expected}"
    );
}

#[test]
fn with_its_own_twin_nearest_each_layer_learns_from_it_alone() {
    let teacher = floats(
        &hidden(3, 4, 0.0)
            .iter()
            .zip([0.0, 10.0, 20.0])
            .map(|(h, by)| h + by)
            .collect::<Vec<_>>(),
    );
    let near: Vec<Tensor> = teacher
        .iter()
        .zip([0.5, -1.0, 2.0])
        .map(|(t, by)| t + by)
        .collect();
    let (vars, layers) = variables(&near);
    let student = says(Output {
        hidden: layers,
        ..Output::default()
    });
    let teacher = says(Output {
        hidden: teacher,
        ..Output::default()
    });
    let mut distiller = build(teacher, &student, &vars, hidden_only()).unwrap();

    assert!(distiller.hidden_plan().is_none());
    let report = distiller.train_on_batch(&batch(), &step()).unwrap();
    let names: Vec<_> = report
        .losses()
        .iter()
        .map(|term| term.name.as_str())
        .collect();
    assert_eq!(names, ["unweighted_emd_hidden"]);
    assert_near(
        term(&report, "unweighted_emd_hidden"),
        (0.25 + 1.0 + 4.0) / 3.0,
    );
    let flow = &distiller.hidden_plan().unwrap().flow;
    let expected = Array2::from_diag_elem(3, 1.0 / 3.0);
    assert!((flow - &expected).iter().all(|d| d.abs() < 1e-12), "{flow}");
    assert!(distiller.attention_plan().is_none() && distiller.layer_weights().is_none());
}

#[test]
fn both_features_are_transported_at_least_cost_between_any_numbers_of_layers() {
    let (hidden_t, attention_t) = (floats(&hidden(5, 4, 0.0)), floats(&attention(6, 0.0)));
    let (hidden_s, attention_s) = (floats(&hidden(3, 4, 7.0)), floats(&attention(2, 7.0)));
    let by_hand = |cost: &Array2<f64>| {
        let (rows, columns) = cost.dim();
        transport::solve(&vec![1.0; rows], &vec![1.0; columns], cost.view()).unwrap()
    };
    let hidden_plan = by_hand(&hidden_costs(&hidden_t, &hidden_s));
    let attention_cost = costs(&attention_t, &attention_s, |s, t| attention_mse(s, t, None));
    let attention_plan = by_hand(&attention_cost);

    let vars = VarStore::new(Device::Cpu);
    let student = says(Output {
        hidden: hidden_s,
        attention: attention_s,
        ..Output::default()
    });
    let teacher = says(Output {
        hidden: hidden_t,
        attention: attention_t,
        ..Output::default()
    });
    let config = EmdConfig::default()
        .hidden_weight(2.0)
        .attention_weight(10.0);
    let mut distiller = build(teacher, &student, &vars, config).unwrap();
    let report = distiller.train_on_batch(&batch(), &step()).unwrap();

    assert_eq!(distiller.hidden_plan().unwrap(), hidden_plan);
    assert_eq!(distiller.attention_plan().unwrap(), attention_plan);
    assert_near(term(&report, "unweighted_emd_hidden"), hidden_plan.cost);
    assert_near(
        term(&report, "unweighted_emd_attention"),
        attention_plan.cost,
    );
    let total = report.total().unwrap().double_value(&[]);
    assert_near(total, 2.0 * hidden_plan.cost + 10.0 * attention_plan.cost);
    // Every layer moves its weight, and the plan is no plain average of all pairs.
    assert!(
        hidden_plan
            .flow
            .rows()
            .into_iter()
            .all(|row| (row.sum() - 0.2).abs() < 1e-12)
    );
    assert!(hidden_plan.flow.iter().any(|&flow| flow == 0.0));
}

#[test]
fn gradients_are_those_of_the_costs_at_a_constant_flow() {
    let teacher = floats(&hidden(4, 3, 0.0));
    let (vars, layers) = variables(&hidden(2, 3, 5.0));
    let by_hand: Vec<Tensor> = layers
        .iter()
        .map(|layer| layer.detach().copy().set_requires_grad(true))
        .collect();
    let student = says(Output {
        hidden: layers,
        ..Output::default()
    });
    let teacher_output = Output {
        hidden: teacher,
        ..Output::default()
    };
    let mut distiller = build(says(teacher_output.copy()), &student, &vars, hidden_only()).unwrap();
    let report = distiller.train_on_batch(&batch(), &step()).unwrap();
    report.total().unwrap().backward();

    let flow = &distiller.hidden_plan().unwrap().flow;
    let mut loss = Tensor::zeros([], (Kind::Float, Device::Cpu));
    for ((i, j), &flow) in flow.indexed_iter() {
        loss += hidden_mse(&by_hand[j], &teacher_output.hidden[i], None).unwrap() * flow;
    }
    loss.backward();
    for (j, expected) in by_hand.iter().enumerate() {
        let name = format!("layer{j}");
        let got = vars.variables()[&name].grad();
        assert!(
            elements(&got).iter().any(|&g| g != 0.0),
            "{name} has no gradient"
        );
        assert_close(&name, &got, &expected.grad());
    }
}

#[test]
fn different_widths_are_projected_and_the_projection_learns() {
    let (vars, layers) = variables(&hidden(2, 3, 5.0));
    let student = says(Output {
        hidden: layers,
        attention: floats(&attention(2, 5.0)),
        ..Output::default()
    });
    let teacher = Output {
        hidden: floats(&hidden(4, 5, 0.0)),
        attention: floats(&attention(4, 0.0)),
        ..Output::default()
    };
    let projection = ProjectionSpec::linear(3, 5).learning_rate(0.05);
    // Attentions are matched as they are, though they are as long as the student is wide.
    let config = EmdConfig::default().hidden_projection(projection);
    let folder = tempfile::tempdir().unwrap();
    let mut distiller = EmdDistiller::builder(says(teacher), &student, &vars)
        .train_config(train_config().output_dir(folder.path()))
        .distill_config(DistillationConfig::default().emd(config))
        .adaptor(adaptor)
        .build()
        .unwrap();

    // Not at random: some projections are good from the first.
    common::tiny::fill(distiller.projections(), 0.4);
    let groups = distiller.core().param_groups();
    let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["emd_projection"]);
    assert_eq!(groups[0].options.learning_rate, Some(0.05));
    let report = distiller.train_on_batch(&batch(), &step()).unwrap();
    let before = term(&report, "unweighted_emd_hidden");
    report.total().unwrap().backward();
    for (name, parameter) in &groups[0].parameters {
        let gradient = elements(&parameter.grad());
        assert!(gradient.iter().any(|&g| g != 0.0), "{name} has no gradient");
    }

    let weight = distiller.projections().variables()["emd_projection.weight"].copy();
    let mut loader = VecLoader::new(vec![batch()]).unwrap();
    let run = distiller
        .train(&mut loader)
        .epochs(20)
        .optimizer(AdamW::new(0.05));
    run.run().unwrap();
    assert!(!distiller.projections().variables()["emd_projection.weight"].equal(&weight));
    let report = distiller.train_on_batch(&batch(), &step()).unwrap();
    let after = term(&report, "unweighted_emd_hidden");
    assert!(after < 0.9 * before, "{before} before, {after} after");
}

#[test]
fn one_step_lowers_the_distance() {
    let (vars, layers) = variables(&hidden(2, 4, 5.0));
    let student = says(Output {
        hidden: layers,
        ..Output::default()
    });
    let teacher = says(Output {
        hidden: floats(&hidden(6, 4, 0.0)),
        ..Output::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let mut distiller = EmdDistiller::builder(teacher, &student, &vars)
        .train_config(train_config().output_dir(folder.path()))
        .distill_config(DistillationConfig::default().emd(hidden_only()))
        .adaptor(adaptor)
        .build()
        .unwrap();
    let mut distances = Vec::new();
    for _ in 0..2 {
        let mut loader = VecLoader::new(vec![batch()]).unwrap();
        let run = distiller
            .train(&mut loader)
            .steps(1)
            .optimizer(AdamW::new(0.01));
        distances.push(run.run().unwrap().losses["unweighted_emd_hidden"]);
    }
    assert!(distances[1] < distances[0], "{distances:?}");
}

#[test]
fn reestimated_weights_favour_cheap_layers_and_rule_the_next_batch() {
    const TEMPERATURE: f64 = 3.0;
    let (teacher_h, student_h) = (floats(&hidden(4, 4, 0.0)), floats(&hidden(2, 4, 9.0)));
    let (teacher_a, student_a) = (floats(&attention(4, 0.0)), floats(&attention(2, 9.0)));
    let cost_h = hidden_costs(&teacher_h, &student_h);
    let cost_a = costs(&teacher_a, &student_a, |s, t| attention_mse(s, t, None));
    let vars = VarStore::new(Device::Cpu);
    let student = says(Output {
        hidden: student_h,
        attention: student_a,
        ..Output::default()
    });
    let teacher = says(Output {
        hidden: teacher_h,
        attention: teacher_a,
        ..Output::default()
    });
    let reestimated = LayerWeights::Reestimated {
        temperature: TEMPERATURE,
    };
    let config = EmdConfig::default().layer_weights(reestimated);
    let mut distiller = build(teacher, &student, &vars, config).unwrap();

    assert!(distiller.layer_weights().is_none(), "no batch yet");
    let mut weights = (vec![0.25; 4], vec![0.5; 2]);
    for _ in 0..3 {
        distiller.train_on_batch(&batch(), &step()).unwrap();
        let flows = [
            distiller.hidden_plan().unwrap(),
            distiller.attention_plan().unwrap(),
        ];
        for plan in &flows {
            for (row, weight) in plan.flow.rows().into_iter().zip(&weights.0) {
                assert!((row.sum() - weight).abs() < 1e-12);
            }
            for (column, weight) in plan.flow.columns().into_iter().zip(&weights.1) {
                assert!((column.sum() - weight).abs() < 1e-12);
            }
        }
        // The documented formula, for the teacher's layers.
        let unit_costs = |flow: &Array2<f64>, cost: &Array2<f64>| -> Vec<f64> {
            let moved = (flow * cost)
                .rows()
                .into_iter()
                .map(|row| row.sum())
                .collect::<Vec<_>>();
            moved
                .iter()
                .zip(&weights.0)
                .map(|(moved, weight)| moved / weight)
                .collect()
        };
        let ratios = |costs: Vec<f64>| -> Vec<f64> {
            let sum: f64 = costs.iter().sum();
            costs.iter().map(|cost| sum / cost).collect()
        };
        let of_hidden = ratios(unit_costs(&flows[0].flow, &cost_h));
        let of_attention = ratios(unit_costs(&flows[1].flow, &cost_a));
        let means: Vec<f64> = of_hidden
            .iter()
            .zip(&of_attention)
            .map(|(a, b)| (a + b) / 2.0)
            .collect();
        let sum: f64 = means.iter().map(|mean| (mean / TEMPERATURE).exp()).sum();

        let (teacher, student) = distiller.layer_weights().unwrap();
        for (got, mean) in teacher.iter().zip(&means) {
            // The costs here and there are of float32 tensors.
            assert_near(*got, (mean / TEMPERATURE).exp() / sum);
        }
        assert!((teacher.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((student.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let heaviest = (0..4)
            .max_by(|&a, &b| teacher[a].total_cmp(&teacher[b]))
            .unwrap();
        let cheapest = (0..4)
            .max_by(|&a, &b| means[a].total_cmp(&means[b]))
            .unwrap();
        assert_eq!(heaviest, cheapest);
        weights = (teacher.to_vec(), student.to_vec());
    }
}

#[test]
fn a_high_temperature_keeps_the_weights_nearly_uniform() {
    let spread = |temperature| {
        let vars = VarStore::new(Device::Cpu);
        let student = says(Output {
            hidden: floats(&hidden(2, 4, 9.0)),
            ..Output::default()
        });
        let teacher = says(Output {
            hidden: floats(&hidden(4, 4, 0.0)),
            ..Output::default()
        });
        let config = hidden_only().layer_weights(LayerWeights::Reestimated { temperature });
        let mut distiller = build(teacher, &student, &vars, config).unwrap();
        distiller.train_on_batch(&batch(), &step()).unwrap();
        let (teacher, _) = distiller.layer_weights().unwrap();
        teacher
            .iter()
            .fold(0.0, |a: f64, &w| a.max((w - 0.25).abs()))
    };
    let (low, high) = (spread(0.5), spread(1e3));
    assert!(low > 10.0 * high && high < 1e-2, "{low} and {high}");
}

#[test]
fn padding_is_left_out() {
    let distance = |padding: f64| {
        let mask = Tensor::from_slice2(&[[1i64, 1, 0], [1, 0, 0]]);
        let shift = (Tensor::from(1.0) - &mask).unsqueeze(-1) * padding;
        let student: Vec<_> = hidden(2, 4, 5.0).iter().map(|h| h + &shift).collect();
        let vars = VarStore::new(Device::Cpu);
        let student = says(Output {
            hidden: floats(&student),
            mask: Some(mask),
            ..Output::default()
        });
        let teacher = says(Output {
            hidden: floats(&hidden(3, 4, 0.0)),
            ..Output::default()
        });
        let mut distiller = build(teacher, &student, &vars, hidden_only()).unwrap();
        let report = distiller.train_on_batch(&batch(), &step()).unwrap();
        term(&report, "unweighted_emd_hidden")
    };
    assert_near(distance(100.0), distance(0.0));
}

#[test]
fn logits_labels_and_chosen_layers_count_beside_it() {
    let vars = VarStore::new(Device::Cpu);
    let logits = |seed| Some(waves(&[BATCH, 2], seed).to_kind(Kind::Float));
    let student = says(Output {
        hidden: floats(&hidden(2, 4, 5.0)),
        logits: logits(1.0),
        ..Output::default()
    });
    let teacher = Output {
        hidden: floats(&hidden(3, 4, 0.0)),
        logits: logits(2.0),
        ..Output::default()
    };
    let distill_config = DistillationConfig::default()
        .hard_label_weight(0.5)
        .kd_loss_weight(3.0)
        .intermediate_matches([IntermediateMatch::hidden(0, 0)]);
    let report_of = |teacher: Output| {
        EmdDistiller::builder(says(teacher), &student, &vars)
            .train_config(train_config())
            .distill_config(
                distill_config
                    .clone()
                    .emd(hidden_only().hidden_weight(0.25)),
            )
            .adaptor(adaptor)
            .build()
            .unwrap()
            .train_on_batch(&batch(), &step())
            .unwrap()
    };
    let report = report_of(teacher.copy());
    let terms: Vec<_> = report
        .losses()
        .iter()
        .map(|term| (term.name.as_str(), term.weight))
        .collect();
    assert_eq!(
        terms,
        [
            ("unweighted_kd_loss", 3.0),
            ("unweighted_hidden_hidden_mse_0_0", 1.0),
            ("unweighted_hard_label_loss", 0.5),
            ("unweighted_emd_hidden", 0.25),
        ]
    );
    let without_logits = report_of(Output {
        logits: None,
        ..teacher
    });
    assert!(
        without_logits
            .losses()
            .iter()
            .all(|term| term.name != "unweighted_kd_loss")
    );
}

#[test]
fn a_missing_feature_is_named_with_its_side() {
    let vars = VarStore::new(Device::Cpu);
    let full = || Output {
        hidden: floats(&hidden(2, 4, 0.0)),
        attention: floats(&attention(2, 0.0)),
        ..Output::default()
    };
    let message = |teacher: Output, student: Output| {
        let student = says(student);
        let mut distiller = build(says(teacher), &student, &vars, EmdConfig::default()).unwrap();
        let error = distiller.train_on_batch(&batch(), &step()).unwrap_err();
        assert!(matches!(error, Error::MissingOutput { .. }), "{error}");
        error.to_string()
    };
    let got = message(
        Output {
            hidden: vec![],
            ..full()
        },
        full(),
    );
    assert!(got.contains("teacher") && got.contains("`hidden`"), "{got}");
    let got = message(
        Output {
            attention: vec![],
            ..full()
        },
        full(),
    );
    assert!(
        got.contains("teacher") && got.contains("attention_weight is 0"),
        "{got}"
    );
    let got = message(
        full(),
        Output {
            attention: vec![],
            ..full()
        },
    );
    assert!(
        got.contains("student") && got.contains("`attention`"),
        "{got}"
    );
}

#[test]
fn what_does_not_fit_is_named_with_the_layers_and_the_remedy() {
    let vars = VarStore::new(Device::Cpu);
    let error_of = |teacher: Output, student: Output, config: EmdConfig| {
        let student = says(student);
        let mut distiller = build(says(teacher), &student, &vars, config).unwrap();
        distiller.train_on_batch(&batch(), &step()).unwrap_err()
    };
    let with_hidden = |layers: Vec<Tensor>| Output {
        hidden: layers,
        ..Output::default()
    };

    let (wide, narrow) = (floats(&hidden(2, 5, 0.0)), floats(&hidden(2, 3, 0.0)));
    let error = error_of(with_hidden(wide), with_hidden(narrow), hidden_only()).to_string();
    for part in [
        "teacher layer 0, student layer 0",
        "hidden_projection",
        "[2, 3, 5]",
    ] {
        assert!(error.contains(part), "{error}: no `{part}`");
    }

    // As many hidden states as attentions, or shared weights have no meaning.
    let both = |hiddens, attentions| Output {
        hidden: floats(&hidden(hiddens, 4, 0.0)),
        attention: floats(&attention(attentions, 0.0)),
        ..Output::default()
    };
    let shared = LayerWeights::Reestimated { temperature: 1.0 };
    let config = EmdConfig::default().layer_weights(shared);
    let error = error_of(both(5, 4), both(3, 2), config).to_string();
    for part in [
        "`attention`",
        "5 of the teacher and 3",
        "4 and 2",
        "embeddings",
    ] {
        assert!(error.contains(part), "{error}: no `{part}`");
    }

    let bad = vec![hidden(1, 4, 0.0)[0].to_kind(Kind::Float) * f64::NAN];
    let good = floats(&hidden(2, 4, 0.0));
    match error_of(with_hidden(bad), with_hidden(good), hidden_only()) {
        Error::NonFiniteLoss {
            term,
            step: 0,
            value,
            ..
        } => {
            assert_eq!(term, "unweighted_emd_hidden");
            assert!(value.is_nan());
        }
        other => panic!("{other}"),
    }
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let vars = VarStore::new(Device::Cpu);
    let student = says(Output::default());
    let refused = |config: EmdConfig, wanted: &[&str]| {
        let error = build(says(Output::default()), &student, &vars, config).map(|_| ());
        let message = error.unwrap_err().to_string();
        for part in wanted {
            assert!(message.contains(part), "{message}: no `{part}`");
        }
    };
    let config = EmdConfig::default;
    refused(config().hidden_weight(-1.0), &["hidden_weight", "-1"]);
    refused(
        config().attention_weight(f64::NAN),
        &["attention_weight", "NaN"],
    );
    refused(
        config().hidden_weight(0.0).attention_weight(0.0),
        &["nothing to match"],
    );
    refused(
        config().hidden_loss("mse"),
        &["hidden_loss", "`mse`", "hidden_mse"],
    );
    refused(
        config().attention_loss("nst"),
        &["attention_loss", "lists of layers"],
    );
    let projection = ProjectionSpec::linear(3, 0);
    refused(
        config().hidden_projection(projection.clone()),
        &["hidden_projection", "0"],
    );
    refused(
        config().hidden_projection(projection).hidden_weight(0.0),
        &["never be trained"],
    );
    for temperature in [0.0, -1.0, f64::INFINITY] {
        let weights = LayerWeights::Reestimated { temperature };
        refused(
            config().layer_weights(weights),
            &["layer_weights", "temperature"],
        );
    }
}

#[test]
fn kept_teacher_outputs_change_no_loss() {
    let run = |caching: bool| {
        let (vars, layers) = variables(&hidden(2, 4, 5.0));
        let (calls, folder) = (Cell::new(0), tempfile::tempdir().unwrap());
        let layers_t = floats(&hidden(3, 4, 0.0));
        let teacher = from_fn(|batch: &Tensor, _| {
            calls.set(calls.get() + 1);
            let hidden = layers_t.iter().map(|layer| layer * batch).collect();
            Ok(Output {
                hidden,
                logits: Some(batch.ones_like()),
                ..Output::default()
            })
        });
        let student = says(Output {
            hidden: layers,
            logits: Some(batch()),
            ..Output::default()
        });
        let config = DistillationConfig::default()
            .is_caching_logits(caching)
            .cache_features(caching);
        let mut distiller = EmdDistiller::builder(&teacher, &student, &vars)
            .train_config(train_config().output_dir(folder.path()))
            .distill_config(config.emd(hidden_only()))
            .adaptor(adaptor)
            .build()
            .unwrap();
        let log = MemorySink::new();
        let mut loader = VecLoader::new(vec![batch() + 1.0, batch() + 2.0]).unwrap();
        let run = distiller
            .train(&mut loader)
            .epochs(3)
            .optimizer(AdamW::new(0.01));
        run.log_sink(log.clone()).run().unwrap();
        assert_eq!(distiller.core().cache_bytes().is_some(), caching);
        let losses: Vec<_> = log.curve("scalar/unweighted_emd_hidden");
        assert_eq!(losses.len(), 6);
        (losses, calls.get())
    };
    let ((without, all), (with, once)) = (run(false), run(true));
    assert_eq!(without, with);
    assert_eq!((all, once), (6, 2));

    let (vars, _) = variables(&[]);
    let student = says(Output::default());
    let logits_only = EmdDistiller::builder(says(Output::default()), &student, &vars)
        .train_config(train_config())
        .distill_config(DistillationConfig::default().is_caching_logits(true))
        .adaptor(adaptor)
        .build();
    let message = logits_only.map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("cache_features"), "{message}");
}

#[test]
fn a_loss_of_ones_own_can_be_the_cost() {
    let vars = VarStore::new(Device::Cpu);
    let student = says(Output {
        hidden: floats(&hidden(2, 4, 5.0)),
        ..Output::default()
    });
    let teacher = says(Output {
        hidden: floats(&hidden(3, 4, 0.0)),
        ..Output::default()
    });
    let presets = Presets::default()
        .match_loss("two", |_, _, _| Ok(Tensor::from(2.0)))
        .match_loss("list", |_, _, _| Ok(Tensor::from_slice(&[1.0, 2.0])));
    let distiller = |loss: &str| {
        EmdDistiller::builder(&teacher, &student, &vars)
            .train_config(train_config())
            .distill_config(DistillationConfig::default().emd(hidden_only().hidden_loss(loss)))
            .presets(presets.clone())
            .adaptor(adaptor)
            .build()
            .unwrap()
    };
    let mut distiller_of_two = distiller("two");
    let report = distiller_of_two.train_on_batch(&batch(), &step()).unwrap();
    assert_near(term(&report, "unweighted_emd_hidden"), 2.0);

    let error = distiller("list")
        .train_on_batch(&batch(), &step())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("single number") && error.contains("[2]"),
        "{error}"
    );
}

#[test]
fn json_round_trips_and_names_unknown_keys() {
    let configs = [
        EmdConfig::default(),
        hidden_only()
            .hidden_projection(ProjectionSpec::linear(3, 5))
            .layer_weights(LayerWeights::Reestimated { temperature: 0.5 }),
    ];
    for config in configs {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<EmdConfig>(&text).unwrap(),
            config,
            "{text}"
        );
    }
    let uniform: EmdConfig = serde_json::from_str(r#"{"layer_weights": "uniform"}"#).unwrap();
    assert_eq!(uniform, EmdConfig::default());
    let error = serde_json::from_str::<EmdConfig>(r#"{"hiden_weight": 1}"#).unwrap_err();
    assert!(error.to_string().contains("hiden_weight"), "{error}");
}
