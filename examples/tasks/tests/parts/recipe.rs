//! What a recipe makes of a teacher and a student.

use std::path::Path;

use serde_json::json;
use tasks::recipe::Recipe;
use textbrewer::{IntermediateMatch, ProjectionSpec};

fn recipe(json: serde_json::Value) -> Recipe {
    Recipe::from_json_str(Path::new("recipe"), &json.to_string()).unwrap()
}

#[test]
fn embeddings_and_even_layers_are_matched() {
    let recipe = recipe(json!({"hidden_matches": ["hidden_mse", "nst"]}));
    let config = recipe.distill_config((6, 384), (3, 384)).unwrap();
    let expected: Vec<_> = [(0, 0), (2, 1), (4, 2), (6, 3)]
        .map(|(t, s)| IntermediateMatch::hidden(t, s).loss("hidden_mse"))
        .into_iter()
        .chain(
            [(0i64, 0i64), (2, 1), (4, 2), (6, 3)]
                .map(|(t, s)| IntermediateMatch::hidden([t, t], [s, s]).loss("nst")),
        )
        .collect();
    assert_eq!(config.intermediate_matches, expected);
}

#[test]
fn a_narrow_student_is_fitted_and_a_deep_one_spread() {
    let recipe = recipe(json!({"hidden_matches": ["hidden_mse", "nst", "fsp"]}));
    let config = recipe.distill_config((2, 384), (4, 312)).unwrap();
    let projection = ProjectionSpec::linear(312, 384).learning_rate(1e-3);
    let fitted = |m: IntermediateMatch| m.proj(projection.clone());
    let hidden = |t: i64, s: i64| fitted(IntermediateMatch::hidden(t, s).loss("hidden_mse"));
    let nst = |t: i64, s: i64| IntermediateMatch::hidden([t, t], [s, s]).loss("nst");
    let fsp = |t: [i64; 2], s: [i64; 2]| fitted(IntermediateMatch::hidden(t, s).loss("fsp"));
    let expected = [
        hidden(0, 0),
        hidden(1, 2),
        hidden(2, 4),
        nst(0, 0),
        nst(1, 2),
        nst(2, 4),
        fsp([0, 1], [0, 2]),
        fsp([1, 2], [2, 4]),
    ];
    assert_eq!(config.intermediate_matches, expected);
}

#[test]
fn labels_are_learned_at_once_or_by_a_schedule() {
    assert!(!recipe(json!({})).learns_labels());
    assert!(recipe(json!({"distillation": {"hard_label_weight": 0.5}})).learns_labels());
    let later = json!({"distillation": {"hard_label_weight_scheduler": "linear_growth"}});
    assert!(recipe(later).learns_labels());
}

#[test]
fn a_stride_stays_shorter_than_what_it_strides_over() {
    let mut recipe = recipe(json!({"max_length": 384, "stride": 128}));
    recipe.cut_at(512);
    assert_eq!((recipe.max_length, recipe.stride), (512, 128));
    recipe.max_length = 384;
    recipe.cut_at(384);
    assert_eq!((recipe.max_length, recipe.stride), (384, 128));
    recipe.cut_at(128);
    assert_eq!((recipe.max_length, recipe.stride), (128, 32));
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    for (json, expected) in [
        (r#"{"epoch": 1}"#, "epoch"),
        (r#"{"epochs": 0}"#, "epochs"),
        (r#"{"learning_rate": -1}"#, "learning_rate"),
        (r#"{"warmup": 2}"#, "warmup"),
        (r#"{"max_length": 2}"#, "max_length"),
        (r#"{"student": "T5"}"#, "known are: full, T6, T3"),
        (r#"{"distillation": {"temprature": 8}}"#, "temprature"),
        (r#"{"training": {"precision": 16}}"#, "float32"),
        (
            r#"{"training": {"fp16": true, "precision": "float32"}}"#,
            "give one of them",
        ),
    ] {
        let error = Recipe::from_json_str(Path::new("mine.json"), json).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("mine.json: "), "{message}");
        assert!(message.contains(expected), "{json}: {message}");
    }
}

#[test]
fn lengths_that_are_left_out_are_those_of_the_example() {
    let own = recipe(json!({"max_length": 384, "stride": 128}));
    for (text, expected) in [
        (json!({}), (384, 128)),
        (json!({"max_length": 256}), (256, 64)),
        (json!({"max_length": 512}), (512, 128)),
        (json!({"stride": 32}), (384, 32)),
        (json!({"max_length": 64, "stride": 60}), (64, 60)),
    ] {
        let mut given = recipe(text.clone());
        given.take_lengths(&text.to_string(), &own);
        assert_eq!((given.max_length, given.stride), expected, "{text}");
    }
}

#[test]
fn layers_that_are_not_there_are_named() {
    let with = |layer_t: i64, layer_s: i64, feature: &str| {
        let one = json!({"layer_T": layer_t, "layer_S": layer_s, "feature": feature,
                         "loss": format!("{feature}_mse"), "weight": 1});
        let recipe = recipe(json!({"distillation": {"intermediate_matches": [one]}}));
        recipe.distill_config((6, 384), (3, 384)).map(|_| ())
    };
    for (layer_t, layer_s, feature) in [(6, 3, "hidden"), (5, 2, "attention"), (-7, -4, "hidden")] {
        with(layer_t, layer_s, feature).unwrap();
    }
    for (layer_t, layer_s, feature, expected) in [
        (
            7,
            3,
            "hidden",
            "the teacher has no layer 7 of `hidden`, it has 0 to 6",
        ),
        (
            6,
            4,
            "hidden",
            "the student has no layer 4 of `hidden`, it has 0 to 3",
        ),
        (
            6,
            2,
            "attention",
            "the teacher has no layer 6 of `attention`, it has 0 to 5",
        ),
        (
            0,
            -4,
            "attention",
            "the student has no layer -4 of `attention`",
        ),
    ] {
        let error = with(layer_t, layer_s, feature).unwrap_err().to_string();
        let expected = format!("intermediate_matches[0]: {expected}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

/// Where the text that is read is not that of the file, a line would be that of another.
#[test]
fn errors_name_the_line_of_the_file_or_none() {
    let name = Path::new("mine.json");
    let text = "{\n\"training\": {\"device\": \"cuda:7\"},\n\"epochs\":\n\"x\"\n}";
    let message = |read: tasks::Result<Recipe>| read.unwrap_err().to_string();
    let error = message(Recipe::on_any_device(name, text));
    assert_eq!(
        error,
        "mine.json: epochs: invalid type: string \"x\", expected u64"
    );
    let text = text.replace("\"device\": \"cuda:7\"", "");
    for read in [Recipe::on_any_device, Recipe::from_json_str] {
        assert!(message(read(name, &text)).ends_with("at line 4 column 3"));
    }
    let value = json!({"training": {"device": "cuda:7", "log_interval": 3}});
    let recipe = Recipe::from_value(name, value).unwrap();
    assert_eq!(recipe.training.log_interval, Some(3));
    let error = message(Recipe::from_value(
        name,
        json!({"distillation": {"temperature": "hot"}}),
    ));
    assert!(error.starts_with("mine.json: distillation.temperature: ") && !error.contains("line"));
}
