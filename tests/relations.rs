//! Losses between queries, keys and values, and between embeddings, by their names: what BERT hands
//! out, trainings from JSON, teacher outputs that are kept, and a resume.

mod common;

use std::cell::Cell;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::tiny::{config, fill, first_line, folder, losses_of, numbers};
use common::{assert_close, close, elements, same_weights, waves};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::losses::{crd_in_batch, minilm, minilmv2};
use textbrewer::models::{
    BertConfig, BertForSequenceClassification, BertInputs, BertModel, LogitsOutput, ModelType,
};
use textbrewer::{
    AdamW, AdaptorOutput, DistillationConfig, Distiller, Error, GeneralDistiller,
    IntermediateMatch, LayerMap, Model, Presets, Result, Side, TrainSummary, VecLoader, weights,
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

#[test]
fn bert_hands_out_the_queries_keys_and_values_of_the_layers_that_are_asked_for() {
    let _alone = alone();
    for (model, names) in [
        (ModelType::Bert, "attention.self.{query,key,value}"),
        (ModelType::Roberta, "attention.self.{query,key,value}"),
        (ModelType::Electra, "attention.self.{query,key,value}"),
        (ModelType::DistilBert, "attention.{q,k,v}_lin"),
    ] {
        let config = without_dropout(shape(model, 8, 2, 3));
        let variables = VarStore::new(Device::Cpu);
        let bert = BertModel::new(&variables.root(), &config)
            .unwrap()
            .output_hidden_states(true)
            .output_attentions(true)
            .output_qkv([1, -1]);
        fill(&variables, 0.3);
        let output = bert.forward(&batch(3), false).unwrap();
        let defined: Vec<bool> = output.qkv.iter().map(Tensor::defined).collect();
        assert_eq!(defined, [false, true, true], "{model:?}");

        let state = weights::state_dict(&variables);
        for layer in [1, 2] {
            let together = &output.qkv[layer];
            assert_eq!(together.size(), [3, 3, 5, 8]);
            let (before, after) = names.split_once('{').unwrap();
            let (parts, after) = after.split_once('}').unwrap();
            for (part, got) in parts.split(',').zip(apart(together)) {
                let name = format!("layer.{layer}.{before}{part}{after}");
                let of = |kind: &str| {
                    let name = format!("{name}.{kind}");
                    let found = state.iter().find(|(known, _)| known.ends_with(&name));
                    &found.unwrap_or_else(|| panic!("no {name}")).1
                };
                let expected = output.hidden_states[layer].linear(of("weight"), Some(of("bias")));
                assert_close(&format!("{model:?} {name}"), &got, &expected);
            }
            // They are what the layer's attention is computed of.
            let [query, key, _] =
                apart(together).map(|part| part.view([3, 5, 2, 4]).transpose(1, 2));
            let scores: Tensor = query.matmul(&key.transpose(2, 3)) / 2.0;
            let padding = mask().logical_not().view([3, 1, 1, 5]);
            let expected = scores.masked_fill(&padding, -1e9).softmax(-1, Kind::Float);
            assert_close("attention", &output.attentions[layer], &expected);
        }
    }
}

#[test]
fn asking_for_them_changes_nothing_else() {
    let _alone = alone();
    let variables = VarStore::new(Device::Cpu);
    let bert = BertModel::new(&variables.root(), &shape(ModelType::Bert, 8, 2, 3)).unwrap();
    fill(&variables, 0.3);
    let train = |bert: &BertModel| {
        tch::manual_seed(5);
        let output = bert.forward(&batch(3), true).unwrap();
        (output.last_hidden_state, output.qkv)
    };
    let (expected, none) = train(&bert);
    assert!(none.is_empty());
    let (got, qkv) = train(&bert.output_qkv(true));
    assert_eq!(got, expected);
    assert_eq!(qkv.len(), 3);
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

#[test]
fn relation_heads_are_48_where_nothing_is_said() {
    let presets = Presets::default();
    let layer = |seed| [waves(&[2, 3, 4, 96], seed)];
    let value = |loss: textbrewer::PresetSpec| {
        let loss = presets.find_match_loss("loss", loss).unwrap();
        loss.apply(&layer(0.1), &layer(0.5), None).unwrap()
    };
    assert_eq!(value("minilmv2".into()), value(("minilmv2", [48.0]).into()));
    assert_ne!(value("minilmv2".into()), value(("minilmv2", [32.0]).into()));
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
fn a_loss_without_arguments_is_a_name_in_json_as_before() {
    let written = |loss: &str| {
        let json = format!(
            r#"{{"intermediate_matches": [{{"feature": "hidden", "layer_T": 0, "layer_S": 0,
                "loss": {loss}, "weight": 1}}]}}"#
        );
        let read = DistillationConfig::from_json_str(&json).unwrap();
        let text = read.to_json_string().unwrap();
        assert_eq!(DistillationConfig::from_json_str(&text).unwrap(), read);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        (
            value["intermediate_matches"][0]["loss"].to_string(),
            read.intermediate_matches[0].clone(),
        )
    };
    let (text, read) = written(r#""cos""#);
    assert_eq!(text, r#""cos""#);
    assert_eq!(read, IntermediateMatch::hidden(0, 0).loss("cos"));
    assert!(
        read.to_string().contains("loss : cos, weight : 1"),
        "{read}"
    );

    let (text, read) = written(r#"["crd", {"temperature": 0.5}]"#);
    assert_eq!(text, r#"["crd",{"temperature":0.5}]"#);
    assert_eq!(read.log_name(), "unweighted_hidden_crd_0_0");
    let shown = r#"loss : ["crd",{"temperature":0.5}], weight : 1"#;
    assert!(read.to_string().contains(shown), "{read}");

    let by_map = LayerMap::uniform(1, 1).unwrap().hidden(("crd", [0.5]));
    let expected = IntermediateMatch::hidden(1, 1).loss(("crd", [0.5]));
    assert_eq!(by_map, [expected]);
}

/// The first line of what comes of a match with this loss.
fn refused(loss: &str) -> String {
    let folder = folder();
    let json = MATCHED.replace(r#"["minilmv2", 6]"#, loss);
    first_line(with_distiller(&json, folder.path(), |_, _, _| ()))
}

#[test]
fn arguments_that_cannot_be_are_refused_with_their_key() {
    let _alone = alone();
    let place = "intermediate_matches[0].loss: ";
    for (loss, expected) in [
        (r#""minilm""#, "`minilm` needs `heads`; it takes (heads)"),
        (
            r#"["minilmv2", 2.5]"#,
            "`minilmv2` relation_heads: must be a whole number from 1 to 65536, is 2.5",
        ),
        (
            r#"["minilmv2", {"heads": 12}]"#,
            "`minilmv2` has no parameter `heads`; it takes (relation_heads = 48)",
        ),
        (
            r#"["crd", 0]"#,
            "`crd` temperature: must be a finite number above 0, is 0",
        ),
        (
            r#"["hidden_mse", 1]"#,
            "`hidden_mse` was given 1 arguments; it takes no arguments",
        ),
    ] {
        assert_eq!(refused(loss), format!("{place}{expected}"));
    }
    let not_finite = IntermediateMatch::new("qkv", 0, 0).loss(("minilmv2", [f64::NAN]));
    let config = DistillationConfig::default().intermediate_matches([not_finite]);
    let error = first_line(config.validate());
    assert!(
        error.starts_with("intermediate_matches[0].loss[1]: "),
        "{error}"
    );
}

#[test]
fn layers_that_do_not_fit_are_refused_at_the_match() {
    let _alone = alone();
    let folder = folder();
    let json = MATCHED.replace('6', "5");
    let error = with_distiller(&json, folder.path(), |distiller, _, _| {
        let step = textbrewer::StepInfo::new(0, 0, 1, 0);
        first_line(distiller.train_on_batch(&batch(3), &step))
    });
    assert_eq!(
        error.unwrap(),
        "intermediate_matches[0]: minilmv2: expected widths that can be cut into 5 heads \
         (`relation_heads`, at least 1), got student [3, 5, 24] and teacher [3, 5, 48]"
    );

    let presets = Presets::default();
    let apply = |loss: textbrewer::PresetSpec, student: &[i64], teacher: &[i64]| {
        let loss = presets.find_match_loss("loss", loss).unwrap();
        let (student, teacher) = ([waves(student, 0.1)], [waves(teacher, 0.5)]);
        first_line(loss.apply(&student, &teacher, None))
    };
    assert_eq!(
        apply("minilmv2".into(), &[2, 4, 48], &[2, 3, 4, 48]),
        "minilmv2: expected queries, keys and values of a layer in one tensor, \
         [batch, 3, length, width], got student [2, 4, 48] and teacher [2, 3, 4, 48]"
    );
    let error = apply("crd".into(), &[2, 4, 6], &[2, 4, 6]);
    assert!(
        error.starts_with("crd: expected embeddings [batch, width] "),
        "{error}"
    );
    let error = apply("crd".into(), &[2, 4], &[2, 6]);
    assert!(error.contains("`proj` where the widths differ"), "{error}");
    let error = apply("crd".into(), &[1, 4], &[1, 4]);
    assert!(error.contains("at least 2 examples"), "{error}");
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
