//! Losses between queries, keys and values, and between embeddings, by their names: what BERT hands
//! out, trainings from JSON, teacher outputs that are kept, and a resume.

#[path = "relations_cases/by_name.rs"]
mod by_name;
mod common;
#[path = "relations_cases/handed_out.rs"]
mod handed_out;
#[path = "relations_cases/mistakes.rs"]
mod mistakes;

use std::cell::Cell;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::tiny::{config, fill, first_line, folder, losses_of, numbers};
use common::{close, elements, same_weights, waves};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::losses::{crd_in_batch, minilm, minilmv2};
use textbrewer::models::{
    BertConfig, BertForSequenceClassification, BertInputs, LogitsOutput, ModelType,
};
use textbrewer::{
    AdamW, AdaptorOutput, DistillationConfig, Distiller, Error, GeneralDistiller, Model, Presets,
    Result, Side, TrainSummary, VecLoader,
};

/// Queries, keys and values of a teacher of 12 heads and of a student of 3.
const MATCHED: &str = r#"{"kd_loss_weight": 0, "intermediate_matches": [{
    "feature": "qkv", "layer_T": 2, "layer_S": -1, "loss": ["minilmv2", 6], "weight": 2
}]}"#;
const LOSS: &str = "unweighted_qkv_minilmv2_-1_2";

/// Whoever draws random numbers does it alone.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shape(model: ModelType, width: i64, heads: i64, layers: i64) -> BertConfig {
    BertConfig::new(model)
        .vocab_size(30)
        .hidden_size(width)
        .intermediate_size(16)
        .num_attention_heads(heads)
        .num_hidden_layers(layers)
        .num_labels(2)
}

fn without_dropout(config: BertConfig) -> BertConfig {
    let config = config.hidden_dropout_prob(0.0);
    config
        .attention_probs_dropout_prob(0.0)
        .classifier_dropout(0.0)
}

/// Without anything drawn: neither weights nor dropout.
fn classifier(width: i64, heads: i64, layers: i64) -> (VarStore, BertForSequenceClassification) {
    let config = without_dropout(shape(ModelType::Bert, width, heads, layers));
    let variables = VarStore::new(Device::Cpu);
    let model = BertForSequenceClassification::new(&variables.root(), &config).unwrap();
    fill(&variables, width as f64);
    // Relations that are far from uniform.
    let _guard = tch::no_grad_guard();
    for (_, mut variable) in variables.variables() {
        let _ = variable.g_mul_scalar_(3.0);
    }
    (variables, model)
}

fn batch(seed: i64) -> BertInputs {
    let ids = (0..15).map(|place| (seed + place * place * 7) % 29 + 1);
    let ids = Tensor::from_slice(&ids.collect::<Vec<_>>()).view([3, 5]);
    BertInputs::new(ids).attention_mask(mask())
}

fn mask() -> Tensor {
    Tensor::from_slice2(&[[1i64; 5], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]])
}

fn adaptor(batch: &BertInputs, output: &LogitsOutput) -> Result<AdaptorOutput> {
    let adapted = AdaptorOutput::new()
        .logits(&output.logits)
        .feature("qkv", &output.qkv);
    Ok(match &batch.attention_mask {
        Some(mask) => adapted.inputs_mask(mask),
        None => adapted,
    })
}

/// Three parts `[batch, length, width]`.
fn apart(together: &Tensor) -> [Tensor; 3] {
    [0, 1, 2].map(|part| together.select(1, part))
}

/// A distiller for [`MATCHED`] or another configuration, and a student of another width.
fn with_distiller<T>(
    json: &str,
    folder: &Path,
    act: impl FnOnce(
        &mut GeneralDistiller<'_, BertInputs, BertForSequenceClassification>,
        &VarStore,
        &Cell<usize>,
    ) -> T,
) -> Result<T> {
    let distilling = DistillationConfig::from_json_str(json)?;
    let (_teacher_variables, teacher) = classifier(48, 12, 3);
    let (variables, student) = classifier(24, 3, 2);
    let calls = Cell::new(0);
    let teacher = teacher.output_qkv(distilling.layers(Side::Teacher, "qkv"));
    let student = student.output_qkv(distilling.layers(Side::Student, "qkv"));
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
        .train_config(config(folder).ckpt_steps(2))
        .distill_config(distilling)
        .teacher_adaptor(|batch, output| {
            calls.set(calls.get() + 1);
            adaptor(batch, output)
        })
        .student_adaptor(adaptor)
        .build()?;
    Ok(act(&mut distiller, &variables, &calls))
}

#[test]
fn a_match_is_the_plain_function_of_what_the_models_hand_out() {
    let _alone = alone();
    let qkv = |(variables, model): (VarStore, BertForSequenceClassification), layer: usize| {
        let output = model.output_qkv(true).forward(&batch(3), false).unwrap();
        drop(variables);
        apart(&output.qkv[layer].detach())
    };
    let teacher = qkv(classifier(48, 12, 3), 2);
    let student = qkv(classifier(24, 3, 2), 1);
    let by_hand = |heads| {
        let (student, teacher) = (student.each_ref(), teacher.each_ref());
        let loss = minilmv2(student, teacher, heads, Some(&mask())).unwrap();
        loss.double_value(&[])
    };
    let folder = folder();
    let losses = |json: &str| {
        with_distiller(json, folder.path(), |distiller, _, _| {
            losses_of(distiller, &batch(3))
        })
        .unwrap()
    };
    let got = losses(MATCHED);
    assert!(got[LOSS] > 1e-3, "{got:?}");
    assert!(close(got[LOSS], by_hand(6)), "{got:?}");
    assert!(close(got["total"], 2.0 * by_hand(6)), "{got:?}");
    // The number of heads and the mask are seen.
    assert!(!close(by_hand(6), by_hand(12)));
    let unmasked = minilmv2(student.each_ref(), teacher.each_ref(), 6, None).unwrap();
    assert!(!close(by_hand(6), unmasked.double_value(&[])));
    let named = losses(&MATCHED.replace('6', r#"{"relation_heads": 12}"#));
    assert!(close(named[LOSS], by_hand(12)), "{named:?}");

    let minilm_by_hand = minilm(student.each_ref(), teacher.each_ref(), 3, Some(&mask()));
    let got = losses(&MATCHED.replace("v2\", 6", "\", 3"))["unweighted_qkv_minilm_-1_2"];
    assert!(
        close(got, minilm_by_hand.unwrap().double_value(&[])),
        "{got}"
    );
}

/// The student's numbers after the training.
fn train(
    json: &str,
    folder: &Path,
    fails_at: Option<u64>,
) -> Result<(TrainSummary, Vec<f64>, usize)> {
    with_distiller(json, folder, |distiller, variables, calls| {
        let mut loader = VecLoader::new(vec![batch(3), batch(4)])?;
        let run = distiller.train(&mut loader).epochs(3).progress(false);
        let summary = run
            .optimizer(AdamW::new(1e-2))
            .after_step(move |_, step| match fails_at {
                Some(at) if at == step.global_step => Err(Error::other("killed")),
                _ => Ok(()),
            })
            .resume_or_start()
            .run()?;
        Ok((summary, numbers(variables), calls.get()))
    })?
}

#[test]
fn a_student_learns_the_teachers_relations() {
    let _alone = alone();
    let folder = folder();
    let losses = with_distiller(MATCHED, folder.path(), |distiller, _, _| {
        let before = losses_of(distiller, &batch(3))[LOSS];
        let mut loader = VecLoader::new(vec![batch(3)]).unwrap();
        let run = distiller.train(&mut loader).steps(30).progress(false);
        run.optimizer(AdamW::new(1e-2)).run().unwrap();
        (before, losses_of(distiller, &batch(3))[LOSS])
    });
    let (before, after) = losses.unwrap();
    assert!(after < 0.5 * before, "{before}, {after}");
}

#[test]
fn kept_outputs_of_the_teacher_have_them() {
    let _alone = alone();
    let (asked, kept) = (folder(), folder());
    let (_, expected, calls) = train(MATCHED, asked.path(), None).unwrap();
    assert_eq!(calls, 6);
    let keeping = MATCHED.replacen(
        '{',
        r#"{"is_caching_logits": true, "cache_features": true, "#,
        1,
    );
    let (_, got, calls) = train(&keeping, kept.path(), None).unwrap();
    assert_eq!(calls, 2);
    assert!(same_weights(&got, &expected));
}

#[test]
fn a_resumed_run_ends_alike_and_other_arguments_are_refused() {
    let _alone = alone();
    let (whole, broken) = (folder(), folder());
    let (_, expected, _) = train(MATCHED, whole.path(), None).unwrap();
    let killed = first_line(train(MATCHED, broken.path(), Some(5)));
    assert!(killed.contains("killed"), "{killed}");

    let other = MATCHED.replace('6', "12");
    let error = train(&other, broken.path(), None).unwrap_err().to_string();
    let differs = r#"intermediate_matches[0].loss: ["minilmv2",6.0] in the checkpoint, ["minilmv2",12.0] now"#;
    assert!(error.contains(differs), "{error}");

    let (summary, got, _) = train(MATCHED, broken.path(), None).unwrap();
    assert_eq!(summary.resumed_from, Some(4));
    assert!(same_weights(&got, &expected));
}

#[test]
fn crd_by_name_is_that_within_a_batch() {
    let (student, teacher) = (waves(&[4, 6], 0.1), waves(&[4, 6], 0.5));
    let presets = Presets::default();
    let mask = Tensor::zeros([4, 6], (Kind::Int64, Device::Cpu));
    for (loss, temperature) in [("crd".into(), 0.07), (("crd", [0.5]).into(), 0.5)] {
        let loss: textbrewer::PresetSpec = loss;
        let loss = presets.find_match_loss("loss", loss).unwrap();
        let expected = crd_in_batch(&student, &teacher, temperature).unwrap();
        let sides = [&student, &teacher].map(|side| [side.shallow_clone()]);
        for mask in [None, Some(&mask)] {
            let got = loss.apply(&sides[0], &sides[1], mask).unwrap();
            assert_eq!(elements(&got), elements(&expected));
        }
    }
}
