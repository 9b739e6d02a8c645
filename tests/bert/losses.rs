//! Losses against their formulas.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Kind, Reduction, Tensor};
use textbrewer::models::{
    BertConfig, BertInputs, Head, MaskedLM, MaskedLMOutput, NoHead, QuestionAnswering,
    SequenceClassification, TokenClassification,
};
use textbrewer::weights::{LoadOptions, load_file, state_dict};
use textbrewer::{AdamW, AdaptorOutput, BasicTrainer, Distiller, Model, TrainingConfig, VecLoader};

use crate::{build, ids, largest_difference, mask, names, small};

#[test]
fn sequence_losses() {
    // Each against the formula, from the model's own logits.
    let inputs = |labels| BertInputs::new(ids()).labels(labels);
    let (_variables, model) = build::<SequenceClassification>(&small());
    let output = model
        .forward(&inputs(Tensor::from_slice(&[2i64, 0])), false)
        .unwrap();
    let log = output.logits.log_softmax(-1, Kind::Float);
    let expected = -(log.double_value(&[0, 2]) + log.double_value(&[1, 0])) / 2.0;
    assert!((output.loss.unwrap().double_value(&[]) - expected).abs() < 1e-6);

    let labels = Tensor::from_slice2(&[[1f32, 0.0, 1.0], [0.0, 0.0, 1.0]]);
    let output = model
        .forward(&inputs(labels.shallow_clone()), false)
        .unwrap();
    let p = output.logits.sigmoid();
    let right: Tensor = &labels * &p + (1 - &labels) * (1 - &p);
    let expected = -right.log().mean(Kind::Float);
    assert!(largest_difference(&output.loss.unwrap(), &expected) < 1e-5);

    let (_variables, model) = build::<SequenceClassification>(&small().num_labels(1));
    for labels in [
        Tensor::from_slice(&[0.5f32, -2.0]),
        Tensor::from_slice2(&[[0.5f32], [-2.0]]),
    ] {
        let output = model.forward(&inputs(labels), false).unwrap();
        let [a, b] = [0, 1].map(|i| output.logits.double_value(&[i, 0]));
        let expected = ((a - 0.5).powi(2) + (b + 2.0).powi(2)) / 2.0;
        assert!((output.loss.unwrap().double_value(&[]) - expected).abs() < 1e-5);
    }
}

#[test]
fn token_losses_leave_out_minus_100() {
    let labels = Tensor::from_slice2(&[
        [-100i64, 2, -100, -100, 0, -100],
        [-100, -100, -100, -100, -100, -100],
    ]);
    let (_variables, model) = build::<TokenClassification>(&small());
    let inputs = BertInputs::new(ids()).labels(labels.shallow_clone());
    let output = model.forward(&inputs, false).unwrap();
    assert!(output.pooler_output.is_none());
    let log = output.logits.log_softmax(-1, Kind::Float);
    let expected = -(log.double_value(&[0, 1, 2]) + log.double_value(&[0, 4, 0])) / 2.0;
    assert!((output.loss.unwrap().double_value(&[]) - expected).abs() < 1e-6);

    let (_variables, model) = build::<MaskedLM>(&small());
    let output = model.forward(&inputs, false).unwrap();
    let logits = output.logits.whole().unwrap();
    assert_eq!(logits.size(), [2, 6, 40]);
    let log = logits.log_softmax(-1, Kind::Float);
    let expected = -(log.double_value(&[0, 1, 2]) + log.double_value(&[0, 4, 0])) / 2.0;
    let loss = output.loss().unwrap().unwrap();
    assert!((loss.double_value(&[]) - expected).abs() < 1e-5);
}

/// That a loss is 0, and the gradients of all variables as well.
fn assert_teaches_nothing(loss: &Tensor, variables: &VarStore) {
    assert_eq!(loss.double_value(&[]), 0.0);
    loss.backward();
    for (name, variable) in state_dict(variables) {
        let gradient = variable.grad();
        let is_zero = !gradient.defined() || gradient.abs().max().double_value(&[]) == 0.0;
        assert!(is_zero, "{name}: {gradient:?}");
    }
}

#[test]
fn a_batch_without_a_label_teaches_nothing() {
    let nothing = |size: &[i64]| Tensor::full(size, -100, (Kind::Int64, Device::Cpu));
    let labelled = |size: &[i64]| BertInputs::new(ids()).labels(nothing(size));
    let (variables, model) = build::<MaskedLM>(&small());
    let output = model.forward(&labelled(&[2, 6]), true).unwrap();
    assert_teaches_nothing(&output.loss().unwrap().unwrap(), &variables);
    let (variables, model) = build::<TokenClassification>(&small());
    let output = model.forward(&labelled(&[2, 6]), true).unwrap();
    assert_teaches_nothing(&output.loss.unwrap(), &variables);
    let (variables, model) = build::<SequenceClassification>(&small());
    let output = model.forward(&labelled(&[2]), true).unwrap();
    assert_teaches_nothing(&output.loss.unwrap(), &variables);
    let (variables, model) = build::<QuestionAnswering>(&small().num_labels(2));
    let beyond = || Tensor::from_slice(&[6i64, 7]);
    let inputs = BertInputs::new(ids()).answers(beyond(), beyond());
    let output = model.forward(&inputs, true).unwrap();
    assert_teaches_nothing(&output.loss.unwrap(), &variables);
}

/// The loss of the first batch is that of `transformers` 4.57 on torch 2.11.
#[test]
fn a_run_goes_on_after_a_batch_in_which_nothing_was_masked() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/masked_lm");
    let config = BertConfig::from_json_file(folder.join("config.json")).unwrap();
    let (variables, model) = build::<MaskedLM>(&config);
    let weights = folder.join("model.safetensors");
    load_file(&variables, weights, &LoadOptions::new()).unwrap();
    let batch = |labels: [i64; 4]| {
        BertInputs::new(Tensor::from_slice2(&[[2i64, 7, 4, 3]]))
            .labels(Tensor::from_slice2(&[labels]))
    };
    let batches = vec![batch([-100, -100, 9, -100]), batch([-100; 4])];
    let output = model.forward(&batches[0], false).unwrap();
    let loss = output.loss().unwrap().unwrap().double_value(&[]);
    assert!((loss - 3.276228).abs() < 1e-5, "{loss}");

    let output_dir = tempfile::tempdir().unwrap();
    let mut trainer = BasicTrainer::builder(&model, &variables)
        .train_config(
            TrainingConfig::default()
                .device(Device::Cpu)
                .output_dir(output_dir.path()),
        )
        .adaptor(|_, output: &MaskedLMOutput| {
            Ok(AdaptorOutput::new().losses(&output.loss()?.unwrap()))
        })
        .build()
        .unwrap();
    let mut loader = VecLoader::new(batches).unwrap();
    let run = trainer
        .train(&mut loader)
        .epochs(2)
        .optimizer(AdamW::new(1e-3));
    let summary = run.run().unwrap();
    assert_eq!(
        (summary.global_steps, summary.losses["total_loss"]),
        (4, 0.0)
    );
}

#[test]
fn answers_beyond_the_input_do_not_count() {
    let (_variables, model) = build::<QuestionAnswering>(&small().num_labels(2));
    let run = |start: [i64; 2], end: [i64; 2]| {
        let positions = (Tensor::from_slice(&start), Tensor::from_slice(&end));
        let inputs = BertInputs::new(ids()).answers(positions.0, positions.1);
        model.forward(&inputs, false).unwrap()
    };
    let output = run([1, 6], [3, 99]);
    let start = output
        .start_logits
        .log_softmax(-1, Kind::Float)
        .double_value(&[0, 1]);
    let end = output
        .end_logits
        .log_softmax(-1, Kind::Float)
        .double_value(&[0, 3]);
    let expected = -(start + end) / 2.0;
    assert!((output.loss.unwrap().double_value(&[]) - expected).abs() < 1e-6);
    // Negative positions count as the first, as in transformers.
    let loss = |start, end| run(start, end).loss.unwrap().double_value(&[]);
    assert_eq!(loss([-1, 2], [3, 4]), loss([0, 2], [3, 4]));
}

#[test]
fn the_output_matrix_of_masked_lm_is_the_word_embeddings() {
    let (variables, model) = build::<MaskedLM>(&small());
    let all = names(&variables);
    assert!(
        !all.iter()
            .any(|name| name.contains("decoder") || name.contains("pooler"))
    );
    for name in [
        "cls.predictions.bias",
        "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.LayerNorm.bias",
    ] {
        assert!(all.iter().any(|n| n == name), "{name}: {all:?}");
    }
    // A token that is not in the input gets a gradient through the output matrix only.
    let words = &variables.variables()["bert.embeddings.word_embeddings.weight"];
    let inputs =
        BertInputs::new(ids()).labels(Tensor::full([2, 6], 39, (Kind::Int64, Device::Cpu)));
    let before = model.forward(&inputs, false).unwrap();
    before.loss().unwrap().unwrap().backward();
    assert!(
        words
            .grad()
            .get(39)
            .abs()
            .sum(Kind::Float)
            .double_value(&[])
            > 0.0
    );
    {
        let _no_grad = tch::no_grad_guard();
        let _ = words.get(39).fill_(0.0);
    }
    let logits = model.forward(&inputs, false).unwrap().logits;
    let logits = logits.whole().unwrap();
    assert_eq!(logits.select(-1, 39).abs().max().double_value(&[]), 0.0);
}

#[test]
fn gradients_reach_every_weight() {
    fn check<H: Head>(inputs: BertInputs, loss: impl Fn(H::Output) -> Option<Tensor>) {
        for attentions in [false, true] {
            let (variables, model) = build::<H>(&small().num_labels(2));
            let model = model.output_attentions(attentions);
            loss(model.forward(&inputs, true).unwrap())
                .unwrap()
                .backward();
            for (name, tensor) in state_dict(&variables) {
                assert!(tensor.grad().defined(), "{}: {name}", H::ARCHITECTURE);
                let finite = tensor.grad().isfinite().all();
                assert!(
                    bool::try_from(finite).unwrap(),
                    "{}: {name}",
                    H::ARCHITECTURE
                );
            }
        }
    }
    let inputs = || BertInputs::new(ids()).attention_mask(mask());
    let tokens = || Tensor::ones([2, 6], (Kind::Int64, Device::Cpu));
    let sentences = || Tensor::from_slice(&[0i64, 1]);
    check::<SequenceClassification>(inputs().labels(sentences()), |output| output.loss);
    check::<TokenClassification>(inputs().labels(tokens()), |output| output.loss);
    check::<MaskedLM>(inputs().labels(tokens()), |output| output.loss().unwrap());
    let answers = inputs().answers(sentences(), sentences());
    check::<QuestionAnswering>(answers, |output| output.loss);
    let target = Tensor::zeros([2, 16], (Kind::Float, Device::Cpu));
    check::<NoHead>(inputs(), |output| {
        Some(output.pooler_output?.mse_loss(&target, Reduction::Mean))
    });
}
