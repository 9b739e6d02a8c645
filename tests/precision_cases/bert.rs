//! BERT and its family in 16 bits: hidden states, attentions and masks.

use std::cell::RefCell;

use Precision::{Bf16, Float32, Fp16};
use tch::nn::VarStore;
use tch::{Kind, Tensor};
use textbrewer::config::Precision;
use textbrewer::distiller::WeightedLoss;
use textbrewer::models::{
    BertConfig, BertForMaskedLM, BertForSequenceClassification, BertInputs, LogitsOutput,
    MaskedLMOutput, ModelType,
};
use textbrewer::{
    AdaptorOutput, BasicTrainer, DistillationConfig, Distiller, GeneralDistiller,
    IntermediateMatch, Model, Result, StepInfo, TrainingConfig,
};

use crate::all_finite;
use crate::common::device::device;
use crate::common::tiny::fill;

/// Some twenty roundings one after the other, each of up to 2⁻⁹ and 2⁻¹², and softmax, which
/// makes an error of a score one of its size.
const TOL_BF16: f64 = 0.1;
const TOL_FP16: f64 = TOL_BF16 / 8.0;

const LENGTH: i64 = 6;
/// What is not padding in each row of [`inputs`]. The last row is padding alone.
const WORDS: [i64; 3] = [6, 4, 0];

struct Bert {
    variables: VarStore,
    model: BertForSequenceClassification,
}

fn bert(model_type: ModelType, layers: i64, seed: f64) -> Bert {
    let mut config = BertConfig::new(model_type)
        .vocab_size(40)
        .hidden_size(16)
        .intermediate_size(24)
        .num_attention_heads(4)
        .num_hidden_layers(layers)
        .max_position_embeddings(12)
        .hidden_dropout_prob(0.0)
        .attention_probs_dropout_prob(0.0)
        .classifier_dropout(0.0)
        .num_labels(3);
    config.embedding_size = config.embedding_size.map(|_| 6);
    let variables = VarStore::new(device());
    let model = BertForSequenceClassification::new(&variables.root(), &config).unwrap();
    let model = model
        .output_hidden_states(true)
        .output_attentions(true)
        .output_qkv(true);
    fill(&variables, seed);
    let _guard = tch::no_grad_guard();
    for (name, mut tensor) in variables.variables() {
        // Attentions that are far from even.
        let scores = ["query.weight", "key.weight", "q_lin.weight", "k_lin.weight"];
        if scores.iter().any(|end| name.ends_with(end)) {
            let larger = &tensor * 2.0;
            tensor.copy_(&larger);
        }
    }
    Bert { variables, model }
}

/// Three sequences, with this token where there is padding.
fn inputs(padding: i64) -> BertInputs {
    let row = |words: i64| {
        (0..LENGTH).map(move |i| {
            if i < words {
                5 + 3 * i + words
            } else {
                padding
            }
        })
    };
    let ids: Vec<i64> = WORDS.into_iter().flat_map(row).collect();
    let mask = WORDS
        .into_iter()
        .flat_map(|words| (0..LENGTH).map(move |i| i64::from(i < words)));
    let mask: Vec<i64> = mask.collect();
    let shaped = |values: &[i64]| {
        Tensor::from_slice(values)
            .view([3, LENGTH])
            .to_device(device())
    };
    BertInputs::new(shaped(&ids))
        .attention_mask(shaped(&mask))
        .labels(Tensor::from_slice(&[0i64, 1, 2]).to_device(device()))
}

/// What a student said within a training step, and the losses of the step.
struct Step {
    logits: Tensor,
    hidden: Vec<Tensor>,
    attention: Vec<Tensor>,
    qkv: Vec<Tensor>,
    losses: Vec<(String, f64)>,
}

/// One training step of a student of two layers; the teacher has three.
fn step(config: TrainingConfig, teacher: &Bert, padding: i64) -> Step {
    let student = bert(teacher.model.config().model_type, 2, 0.2);
    let said = RefCell::new(None);
    let adapt = |batch: &BertInputs, output: &LogitsOutput| -> Result<AdaptorOutput> {
        let adapted = AdaptorOutput::new()
            .logits(&output.logits)
            .hidden(&output.hidden_states)
            .attention(&output.attentions);
        Ok(match (&batch.attention_mask, &output.loss) {
            (Some(mask), Some(loss)) => adapted.inputs_mask(mask).losses(loss),
            _ => adapted,
        })
    };
    let mut distiller =
        GeneralDistiller::builder(&teacher.model, &student.model, &student.variables)
            .train_config(config.device(device()))
            .distill_config(
                DistillationConfig::default()
                    .hard_label_weight(1.0)
                    .intermediate_matches([
                        IntermediateMatch::hidden(3, 2),
                        IntermediateMatch::hidden(-1, -1).loss("cos"),
                        IntermediateMatch::hidden([0, 3], [0, 2]).loss("nst"),
                        IntermediateMatch::new("attention", 2, 1).loss("attention_ce"),
                    ]),
            )
            .teacher_adaptor(adapt)
            .student_adaptor(|batch, output: &LogitsOutput| {
                let copies = |list: &[Tensor]| list.iter().map(Tensor::detach).collect();
                said.replace(Some((
                    output.logits.detach(),
                    copies(&output.hidden_states),
                    copies(&output.attentions),
                    copies(&output.qkv),
                )));
                adapt(batch, output)
            })
            .build()
            .unwrap();
    let report = distiller
        .train_on_batch(&inputs(padding), &StepInfo::new(0, 0, 1, 1))
        .unwrap();
    let loss = |term: &WeightedLoss| {
        assert_eq!(term.loss.kind(), Kind::Float, "{}", term.name);
        (term.name.clone(), term.loss.double_value(&[]))
    };
    let losses = report.losses().iter().map(loss).collect();
    report.total().unwrap().backward();
    for (name, variable) in student.variables.variables() {
        assert!(all_finite(&variable.grad()), "gradient of {name}");
    }
    let (logits, hidden, attention, qkv) = said.take().unwrap();
    Step {
        logits,
        hidden,
        attention,
        qkv,
        losses,
    }
}

fn largest_difference(left: &Tensor, right: &Tensor) -> f64 {
    let difference = left.to_kind(Kind::Double) - right.to_kind(Kind::Double);
    difference.abs().max().double_value(&[])
}

fn assert_near(name: &str, got: &Step, exact: &Step, tolerance: f64) {
    let lists = [
        (
            vec![got.logits.shallow_clone()],
            vec![exact.logits.shallow_clone()],
        ),
        (copies(&got.hidden), copies(&exact.hidden)),
        (copies(&got.attention), copies(&exact.attention)),
        (copies(&got.qkv), copies(&exact.qkv)),
    ];
    for (got, exact) in lists {
        assert_eq!(got.len(), exact.len());
        for (got, exact) in got.iter().zip(&exact) {
            assert!(all_finite(got), "{name}");
            let size = exact.abs().max().double_value(&[]);
            let difference = largest_difference(got, exact);
            assert!(
                difference < tolerance * size,
                "{name}: {difference} of {size}"
            );
        }
    }
    assert_eq!(got.losses.len(), 6);
    for ((term, got), (_, exact)) in got.losses.iter().zip(&exact.losses) {
        let difference = (got - exact).abs();
        assert!(
            difference < tolerance * exact,
            "{name}, {term}: {got}, {exact}"
        );
    }
}

fn copies(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}

#[test]
fn states_and_attentions_are_near_those_of_float32_and_padding_is_not_seen() {
    near_float32(ModelType::Bert, &[(Bf16, TOL_BF16), (Fp16, TOL_FP16)]);
}

/// What is around the layers is in 16 bits as well.
#[test]
fn so_are_those_of_the_models_that_share_its_layers() {
    for model_type in [
        ModelType::Roberta,
        ModelType::Electra,
        ModelType::DistilBert,
    ] {
        near_float32(model_type, &[(Bf16, TOL_BF16)]);
    }
}

fn near_float32(model_type: ModelType, precisions: &[(Precision, f64)]) {
    let teacher = bert(model_type, 3, 0.1);
    let exact = step(TrainingConfig::default(), &teacher, 0);
    for &(precision, tolerance) in precisions {
        let config = || TrainingConfig::default().precision(precision);
        let said = step(config(), &teacher, 0);
        let name = format!("{model_type}, {precision}");
        assert_eq!(said.logits.kind(), precision.kind());
        assert_near(&name, &said, &exact, tolerance);

        for attention in &said.attention {
            // Probabilities, up to the precision.
            let sums = attention.sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
            let one = Tensor::ones_like(&sums);
            assert!(largest_difference(&sums, &one) < 0.02, "{name}");
            // Padding gets none; a row of padding alone is looked at evenly.
            let to_padding = attention.get(1).narrow(-1, WORDS[1], LENGTH - WORDS[1]);
            assert_eq!(to_padding.abs().max().double_value(&[]), 0.0, "{name}");
            let alone = attention.get(2);
            let even = Tensor::full_like(&alone, 1.0 / LENGTH as f64);
            assert!(largest_difference(&alone, &even) < 1e-3, "{name}");
        }

        // Another token in the padding changes nothing elsewhere, to the last bit.
        let other = step(config(), &teacher, 7);
        for (left, right) in said.hidden.iter().zip(&other.hidden) {
            let words = |states: &Tensor| states.get(1).narrow(0, 0, WORDS[1]);
            assert_eq!(
                largest_difference(&words(left), &words(right)),
                0.0,
                "{name}"
            );
            assert_ne!(largest_difference(left, right), 0.0, "the padding itself");
        }
    }
}

#[test]
fn a_teacher_may_be_held_in_bf16() {
    let exact = step(TrainingConfig::default(), &bert(ModelType::Bert, 3, 0.1), 0);
    let mut held = bert(ModelType::Bert, 3, 0.1);
    held.variables.bfloat16();
    let said = held.model.forward(&inputs(0), false).unwrap();
    assert_eq!(said.logits.kind(), Kind::BFloat16);
    for config in [
        // Without a precision of its own it computes in what its weights are in.
        TrainingConfig::default(),
        TrainingConfig::default().teacher_precision(Bf16),
        TrainingConfig::default().precision(Bf16),
        TrainingConfig::default()
            .precision(Bf16)
            .teacher_precision(Float32),
    ] {
        let name = format!("{:?}, {:?}", config.precision, config.teacher_precision);
        let got = step(config, &held, 0);
        assert_near(&name, &got, &exact, TOL_BF16);
        assert_ne!(got.losses, exact.losses, "{name}");
    }
}

/// Those of masked LM are made outside autocast, but in the same kind.
#[test]
fn logits_that_are_made_later_are_of_products_in_the_models_precision() {
    let config = BertConfig::default()
        .vocab_size(40)
        .hidden_size(16)
        .intermediate_size(24)
        .num_attention_heads(4)
        .num_hidden_layers(1)
        .max_position_embeddings(12)
        .hidden_dropout_prob(0.0)
        .attention_probs_dropout_prob(0.0);
    let rounded = |logits: &Tensor, kind| logits.to_kind(kind).to_kind(Kind::Float);
    let mut exact = None;
    for precision in [Float32, Bf16, Fp16] {
        let variables = VarStore::new(device());
        let model = BertForMaskedLM::new(&variables.root(), &config).unwrap();
        fill(&variables, 0.3);
        {
            let _guard = tch::no_grad_guard();
            let _ = variables.variables()["cls.predictions.bias"]
                .shallow_clone()
                .zero_();
        }
        let said = RefCell::new(None);
        let mut trainer = BasicTrainer::builder(&model, &variables)
            .train_config(
                TrainingConfig::default()
                    .device(device())
                    .precision(precision),
            )
            .adaptor(|_, output: &MaskedLMOutput| {
                said.replace(Some(output.logits.shallow_clone()));
                Ok(AdaptorOutput::new().losses(&output.loss()?.unwrap()))
            })
            .build()
            .unwrap();
        let batch = inputs(0);
        let labels = batch.input_ids.shallow_clone();
        let step = StepInfo::new(0, 0, 1, 1);
        let report = trainer
            .train_on_batch(&batch.labels(labels), &step)
            .unwrap();
        let loss = report.total().unwrap();
        assert_eq!(loss.kind(), Kind::Float);
        loss.backward();
        for (name, variable) in variables.variables() {
            assert_eq!(variable.grad().kind(), Kind::Float, "{precision} {name}");
            assert!(all_finite(&variable.grad()), "{precision} {name}");
        }
        let logits = said.take().unwrap().whole().unwrap().detach();
        assert_eq!(logits.kind(), Kind::Float);
        match precision {
            Float32 => assert_ne!(rounded(&logits, Kind::BFloat16), logits),
            _ => assert_eq!(rounded(&logits, precision.kind()), logits, "{precision}"),
        }
        let exact = exact.get_or_insert_with(|| logits.copy());
        let size = exact.abs().max().double_value(&[]);
        assert!(
            largest_difference(&logits, exact) < TOL_BF16 * size,
            "{precision}"
        );
    }
}
