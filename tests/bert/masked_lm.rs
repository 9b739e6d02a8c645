//! Masked language modelling: logits that are made where they count.

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::logits::FromHidden;
use textbrewer::models::{
    BertConfig, BertForMaskedLM, BertInputs, BertOutput, Head, MaskedLM, MaskedLMOutput, ModelType,
};
use textbrewer::weights::state_dict;
use textbrewer::{
    AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller, Model, Result, Sgd, StepInfo,
    TrainingConfig, VecLoader,
};

use crate::{build, ids, largest_difference, mask};

pub(crate) fn of(model_type: ModelType, tied: bool) -> BertConfig {
    let mut config = BertConfig::new(model_type)
        .vocab_size(40)
        .hidden_size(16)
        .intermediate_size(24)
        .num_attention_heads(4)
        .num_hidden_layers(1)
        .max_position_embeddings(12)
        .initializer_range(0.3)
        .hidden_dropout_prob(0.0)
        .attention_probs_dropout_prob(0.0)
        .tie_word_embeddings(tied);
    if model_type == ModelType::Electra {
        config = config.embedding_size(8);
    }
    config
}

/// −100 but for some positions of both texts.
fn labels() -> Tensor {
    Tensor::from_slice2(&[
        [-100i64, 6, -100, -100, 39, -100],
        [-100, 12, 3, -100, -100, -100],
    ])
}

pub(crate) fn batch() -> BertInputs {
    BertInputs::new(ids())
        .attention_mask(mask())
        .labels(labels())
}

/// What an adaptor gives as logits.
#[derive(Clone, Copy)]
enum Given {
    Whole,
    /// Two positions at a time.
    FromHidden,
}

fn adapt(given: Given, batch: &BertInputs, output: &MaskedLMOutput) -> Result<AdaptorOutput> {
    let adapted = AdaptorOutput::new();
    let adapted = match given {
        Given::Whole => adapted.logits(output.logits.whole()?),
        Given::FromHidden => {
            let two = 2 * 8 * 4 * output.logits.classes() as u64;
            adapted.logits(output.logits.shallow_clone().bytes_at_once(two))
        }
    };
    let labels = batch.labels.as_ref().unwrap();
    Ok(adapted.labels(labels).logits_mask(&labels.ge(0)))
}

/// The losses of the last step of a training, and the student's weights after it.
fn trained(
    given: Given,
    teacher: &BertForMaskedLM,
    config: &BertConfig,
    student: &VarStore,
) -> (Vec<f64>, Vec<(String, Tensor)>) {
    let (mut variables, model) = build::<MaskedLM>(config);
    variables.copy(student).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut distiller = GeneralDistiller::builder(teacher, &model, &variables)
        .train_config(
            TrainingConfig::default()
                .device(Device::Cpu)
                .output_dir(folder.path()),
        )
        .distill_config(
            DistillationConfig::default()
                .kd_loss_type("forward_kl")
                .temperature(2.0)
                .hard_label_weight(0.5),
        )
        .teacher_adaptor(move |batch, output: &MaskedLMOutput| adapt(given, batch, output))
        .student_adaptor(move |batch, output: &MaskedLMOutput| {
            let adapted = adapt(given, batch, output)?;
            let loss = match given {
                Given::FromHidden => output.loss()?.unwrap(),
                Given::Whole => {
                    let labels = batch.labels.as_ref().unwrap();
                    textbrewer::losses::cross_entropy(&output.logits.whole()?, labels)?
                }
            };
            Ok(adapted.losses(&loss))
        })
        .build()
        .unwrap();
    let mut loader = VecLoader::new(vec![batch(), batch()]).unwrap();
    let run = distiller.train(&mut loader).epochs(2);
    let summary = run.optimizer(Sgd::new(0.1)).run().unwrap();
    assert_eq!(summary.losses.len(), 3, "{:?}", summary.losses);
    let weights = state_dict(&variables).into_iter();
    let weights = weights.map(|(name, tensor)| (name, tensor.copy()));
    (summary.losses.into_values().collect(), weights.collect())
}

#[test]
fn a_training_on_hidden_states_is_that_on_whole_logits() {
    let (_variables, teacher) = build::<MaskedLM>(&of(ModelType::Roberta, true));
    for tied in [true, false] {
        let config = of(ModelType::Bert, tied);
        let (start, _) = build::<MaskedLM>(&config);
        let trained = |given| trained(given, &teacher, &config, &start);
        let (losses, weights) = trained(Given::FromHidden);
        let (whole_losses, whole_weights) = trained(Given::Whole);
        for (loss, whole) in losses.iter().zip(&whole_losses) {
            assert!((loss - whole).abs() < 1e-6 * whole.abs(), "{loss} {whole}");
        }
        let before = state_dict(&start);
        for (((name, weight), (_, whole)), (_, before)) in
            weights.iter().zip(&whole_weights).zip(&before)
        {
            let difference = largest_difference(weight, whole);
            assert!(difference < 1e-6, "{name}: {difference}");
            // Scores of attention do not change with the bias of keys.
            let learned = largest_difference(weight, before) > 1e-6;
            assert_eq!(learned, !name.ends_with("key.bias"), "{name}");
        }
    }
}

/// NaN at positions without a label would reach the output matrix if they were computed, though
/// nothing weighs there: 0 · NaN.
#[test]
fn positions_without_a_label_are_not_computed() {
    let (variables, model) = build::<MaskedLM>(&of(ModelType::Bert, true));
    let without = labels().unsqueeze(-1).lt(0);
    let hidden = Tensor::randn([2, 6, 16], (Kind::Float, Device::Cpu));
    let hidden = hidden.masked_fill(&without, f64::NAN);
    let said = || {
        let encoded = BertOutput::new(hidden.shallow_clone());
        model.head().forward(encoded, &batch(), true).unwrap()
    };
    let words = &variables.variables()["bert.embeddings.word_embeddings.weight"];
    let bias = &variables.variables()["cls.predictions.bias"];
    let learned_of = |loss: &Tensor| {
        assert!(loss.double_value(&[]) > 0.0);
        loss.backward();
        for tensor in [words, bias] {
            let gradient = tensor.grad();
            assert!(bool::try_from(gradient.isfinite().all()).unwrap());
            assert!(gradient.abs().max().double_value(&[]) > 0.0);
            let _ = tensor.grad().zero_();
        }
    };
    learned_of(&said().loss().unwrap().unwrap());

    let (_teacher_variables, teacher) = build::<MaskedLM>(&of(ModelType::Bert, true));
    let student = textbrewer::from_fn(|_: &BertInputs, _| Ok(said()));
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
        .train_config(TrainingConfig::default().device(Device::Cpu))
        .adaptor(|batch, output: &MaskedLMOutput| adapt(Given::FromHidden, batch, output))
        .build()
        .unwrap();
    let report = distiller.train_on_batch(&batch(), &StepInfo::new(0, 0, 1, 1));
    learned_of(&report.unwrap().total().unwrap());
}

/// Gradients of a loss on [`FromHidden`] of the model's logits.
fn backward(model: &BertForMaskedLM, logits: impl Fn(&FromHidden) -> textbrewer::Logits) {
    let output = model.forward(&batch(), true).unwrap();
    let presets = textbrewer::Presets::default();
    let loss = presets.find_kd_loss("kd_loss_type", "forward_kl").unwrap();
    let teacher = Tensor::arange(2 * 6 * 40, (Kind::Float, Device::Cpu));
    let teacher = teacher.sin().view([2, 6, 40]) * 3.0;
    let input = textbrewer::KdInput::new(logits(&output.logits), &teacher, 1.0).unwrap();
    loss.apply(&input).unwrap().backward();
}

/// The gradient of a matrix in two places is the sum of those of two matrices.
#[test]
fn the_word_embeddings_learn_from_both_uses() {
    const WORDS: &str = "bert.embeddings.word_embeddings.weight";
    const DECODER: &str = "cls.predictions.decoder.weight";
    let (tied, model) = build::<MaskedLM>(&of(ModelType::Bert, true));
    let (untied, apart) = build::<MaskedLM>(&of(ModelType::Bert, false));
    for (name, mut variable) in untied.variables() {
        let _no_grad = tch::no_grad_guard();
        let name = if name == DECODER {
            WORDS
        } else {
            name.as_str()
        };
        variable.copy_(&tied.variables()[name]);
    }
    let gradient = |variables: &VarStore, name: &str| variables.variables()[name].grad().copy();
    backward(&apart, |logits| logits.into());
    let of_each = [WORDS, DECODER].map(|name| gradient(&untied, name));
    let [looked_up, multiplied] = of_each
        .each_ref()
        .map(|of| of.abs().max().double_value(&[]));
    assert!(looked_up > 0.01 && multiplied > 0.01);
    backward(&model, |logits| logits.into());
    let together = gradient(&tied, WORDS);
    assert!(largest_difference(&together, &(&of_each[0] + &of_each[1])) < 1e-6);
    let mut words = tied.variables().remove(WORDS).unwrap();
    words.zero_grad();
    backward(&model, |logits| logits.whole().unwrap().into());
    assert!(largest_difference(&together, &gradient(&tied, WORDS)) < 1e-6);
}

#[test]
fn what_is_frozen_has_no_gradient() {
    let (variables, model) = build::<MaskedLM>(&of(ModelType::Bert, false));
    let is_frozen = |name: &str| name.contains("decoder") || name == "cls.predictions.bias";
    for (name, tensor) in state_dict(&variables) {
        let _ = tensor.set_requires_grad(!is_frozen(&name));
    }
    backward(&model, |logits| logits.into());
    for (name, tensor) in state_dict(&variables) {
        assert_eq!(tensor.grad().defined(), !is_frozen(&name), "{name}");
    }
}
