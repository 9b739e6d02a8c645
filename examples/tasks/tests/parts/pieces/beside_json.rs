//! `tokenizer.json` and what the files beside it say. As before, what is right is what `transformers`
//! 4.57 makes of the same folder.

use serde_json::{Value, json};

use super::{WORDS, folder, pieces, read};

/// A `tokenizer.json` of the words with these settings of its normalizer.
fn tokenizer(settings: &Value) -> String {
    let vocabulary = WORDS.replace(' ', "\n");
    let plain = folder(&[("vocab.txt", &vocabulary)]);
    let json = read(plain.path()).unwrap().tokenizer().to_string(false);
    let mut json: Value = serde_json::from_str(&json.unwrap()).unwrap();
    for (key, value) in settings.as_object().unwrap() {
        json["normalizer"][key] = value.clone();
    }
    json.to_string()
}

/// The pieces of a text by a `tokenizer.json` that says otherwise than BERT's defaults.
fn beside(config: &Value, model: &Value, text: &str) -> String {
    let json = tokenizer(&json!({"strip_accents": false, "handle_chinese_chars": false}));
    let (config, model) = (config.to_string(), model.to_string());
    let files = [
        ("tokenizer.json", json.as_str()),
        ("tokenizer_config.json", &config),
        ("config.json", &model),
    ];
    pieces(&folder(&files), text)
}

#[test]
fn settings_of_bert_count_and_so_do_the_defaults_of_the_others() {
    let bert = json!({"model_type": "bert"});
    let class = "BertTokenizer";
    for (config, expected) in [
        (json!({}), "schon film 東 京"),
        (json!({"tokenizer_class": class}), "schon film 東 京"),
        (
            json!({"tokenizer_class": "ElectraTokenizerFast", "strip_accents": null}),
            "schon film 東 京",
        ),
        (
            json!({"tokenizer_class": class, "strip_accents": false}),
            "schön film 東 京",
        ),
        (
            json!({"tokenizer_class": class, "do_lower_case": false, "strip_accents": true,
                   "tokenize_chinese_chars": false}),
            "schon Film 東京",
        ),
    ] {
        let expected = format!("[CLS] {expected} [SEP]");
        assert_eq!(
            beside(&config, &bert, "schön Film 東京"),
            expected,
            "{config}"
        );
    }
}

#[test]
fn settings_of_another_tokenizer_do_not_count() {
    let settings = json!({"do_lower_case": false, "strip_accents": true,
                          "tokenize_chinese_chars": true});
    let class = json!({"tokenizer_class": "PreTrainedTokenizerFast"});
    let mut both = settings.clone();
    both["tokenizer_class"] = class["tokenizer_class"].clone();
    for (config, model) in [(both, json!({"model_type": "bert"})), (settings, class)] {
        let pieces = beside(&config, &model, "schön Film 東京");
        assert_eq!(pieces, "[CLS] schön film 東京 [SEP]", "{config}");
    }
}

/// The `config.json` of a model that is trained is another.
#[test]
fn a_class_that_only_the_model_names_stays_with_the_tokenizer() {
    let json = tokenizer(&json!({"strip_accents": false}));
    let model = json!({"tokenizer_class": "PreTrainedTokenizerFast"}).to_string();
    for config in [None, Some("{\"model_max_length\": 8}")] {
        let config = config.map(|config| ("tokenizer_config.json", config));
        let files = [("tokenizer.json", json.as_str()), ("config.json", &model)];
        let theirs = folder(&files.into_iter().chain(config).collect::<Vec<_>>());
        let ours = folder(&[]);
        read(theirs.path()).unwrap().copy_to(ours.path()).unwrap();
        assert_eq!(pieces(&ours, "schön"), "[CLS] schön [SEP]", "{config:?}");
        let written = std::fs::read(ours.path().join("tokenizer_config.json")).unwrap();
        let written: Value = serde_json::from_slice(&written).unwrap();
        let length = config.map(|_| 8);
        assert_eq!(written["model_max_length"].as_u64(), length);
    }
}

#[test]
fn added_tokens_count_too() {
    let json = tokenizer(&json!({}));
    let count = WORDS.split(' ').count();
    let settings = json!({"strip_accents": false, "added_tokens_decoder": {
        count.to_string(): {"content": "[E1]", "special": true},
    }});
    let settings = settings.to_string();
    let files = [
        ("tokenizer.json", json.as_str()),
        ("tokenizer_config.json", &settings),
    ];
    assert_eq!(
        pieces(&folder(&files), "[E1] schön"),
        "[CLS] [E1] schön [SEP]"
    );
}
