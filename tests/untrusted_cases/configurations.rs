//! Configurations in JSON.

use std::path::Path;

use textbrewer::models::BertConfig;
use textbrewer::{DistillationConfig, EmdConfig, Error, IntermediateMatch, Result, TrainingConfig};

use crate::message;

/// Reads and checks a text as each kind of configuration.
fn each(text: &str) -> [(&'static str, Result<()>); 3] {
    let training = TrainingConfig::from_json_str(text).and_then(|config| config.validate());
    let distillation = DistillationConfig::from_json_str(text).and_then(|config| config.validate());
    let bert = BertConfig::from_json_str(text).map(|_| ());
    [
        ("training", training),
        ("distillation", distillation),
        ("bert", bert),
    ]
}

#[test]
fn texts_that_no_configuration_is() {
    let deep = 100_000;
    let long = "a\u{1b}[2J".repeat(1 << 20);
    let texts = [
        "[".repeat(deep),
        "{\"a\":".repeat(deep),
        format!("{{\"a\": {}{}}}", "[".repeat(deep), "]".repeat(deep)),
        format!("{{\"temperature\": {}", "[".repeat(deep)),
        format!("{{\"vocab_size\": {}}}", "9".repeat(deep)),
        format!("{{\"temperature\": 1{}}}", "0".repeat(400)),
        "{\"temperature\": NaN}".to_owned(),
        "{\"hidden_dropout_prob\": Infinity}".to_owned(),
        format!("\"{}\"", "a".repeat(1 << 20)),
        "\u{0}".to_owned(),
        "{\"\\ud800\": 1}".to_owned(),
        "\u{feff}{}".to_owned(),
    ];
    for text in &texts {
        for (kind, result) in each(text) {
            // A BERT's file may have any keys of other programs.
            let ignorable = kind == "bert" && result.is_ok();
            let shown = &text[..text.floor_char_boundary_at(40)];
            if !ignorable {
                message(&format!("{kind} {shown}"), result);
            }
        }
    }
    // The text that is quoted is cut, and what the parser says of it stays.
    for quoted in [
        format!("{{\"{}\": 1}}", "a".repeat(1 << 20)),
        format!("{{\"temperature\": \"{}\"}}", "b".repeat(1 << 20)),
        format!(
            "{{\"device\": {:?}, \"kd_loss_type\": {0:?}, \"x\": 0}}",
            long
        ),
    ] {
        for (kind, result) in each(&quoted).into_iter().take(2) {
            let shown = message(kind, result);
            assert!(shown.contains("line 1 column"), "{shown}");
        }
    }
}

trait Boundary {
    fn floor_char_boundary_at(&self, at: usize) -> usize;
}

impl Boundary for String {
    fn floor_char_boundary_at(&self, at: usize) -> usize {
        let mut at = at.min(self.len());
        while !self.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

#[test]
fn numbers_that_ask_for_more_than_there_is() {
    let cases = [
        (
            r#"{"vocab_size": 1152921504606846976}"#,
            "vocab_size: 1152921504606846976 and",
        ),
        (
            r#"{"vocab_size": 9223372036854775807}"#,
            "vocab_size: 9223372036854775807 and",
        ),
        (
            r#"{"vocab_size": 9223372036854775808}"#,
            "JSON text: vocab_size: invalid value",
        ),
        (
            r#"{"vocab_size": 1e30}"#,
            "JSON text: vocab_size: invalid type",
        ),
        (
            r#"{"hidden_size": 9223372036854775807, "num_attention_heads": 1}"#,
            "hidden_size: 9223372036854775807 and",
        ),
        (
            r#"{"intermediate_size": 1000000000000}"#,
            "intermediate_size: 1000000000000 and",
        ),
        (
            r#"{"max_position_embeddings": 4611686018427387904}"#,
            "max_position_embeddings: ",
        ),
        (
            r#"{"type_vocab_size": 4611686018427387904}"#,
            "type_vocab_size: ",
        ),
        (
            r#"{"num_hidden_layers": 1000000000}"#,
            "num_hidden_layers: 1000000000 is more",
        ),
        (
            r#"{"num_labels": 1000000000000}"#,
            "num_labels: 1000000000000 is more",
        ),
        (
            r#"{"hidden_size": 1, "num_attention_heads": 1, "vocab_size": 1,
                "intermediate_size": 1, "num_hidden_layers": 100000}"#,
            "num_hidden_layers: 100000 is more",
        ),
        (
            r#"{"model_type": "electra", "embedding_size": 9223372036854775807}"#,
            "embedding_size: 9223372036854775807 and",
        ),
        (
            r#"{"model_type": "electra", "embedding_size": -9223372036854775808}"#,
            "embedding_size: -9223372036854775808 must be at least 1",
        ),
        (
            r#"{"model_type": "roberta", "pad_token_id": 9223372036854775806,
                "vocab_size": 9223372036854775807}"#,
            "vocab_size: 9223372036854775807 and",
        ),
        (
            r#"{"model_type": "distilbert", "dim": 9223372036854775807, "n_heads": 1}"#,
            "dim: 9223372036854775807 and",
        ),
        (
            r#"{"model_type": "distilbert", "hidden_dim": 1000000000000}"#,
            "hidden_dim: 1000000000000 and",
        ),
        (
            r#"{"model_type": "distilbert", "n_layers": 1000000000}"#,
            "n_layers: 1000000000 is more",
        ),
        (
            r#"{"model_type": "distilbert", "dim": 8, "dim": 16}"#,
            "JSON text: duplicate field `dim`",
        ),
        (
            r#"{"id2label": {"9223372036854775808": "a"}}"#,
            "JSON text: id2label.",
        ),
        (
            r#"{"hidden_size": 768, "hidden_size": 1024}"#,
            "JSON text: duplicate field",
        ),
    ];
    for (text, expected) in cases {
        let shown = message(text, BertConfig::from_json_str(text));
        assert!(shown.starts_with(expected), "{text}\n{expected}\n{shown}");
    }
    // What a model of this shape is made from is checked, too.
    let built = BertConfig::default().vocab_size(1 << 40);
    assert!(matches!(built.validate(), Err(Error::Config { .. })));
}

fn distillation(text: &str) -> Result<()> {
    DistillationConfig::from_json_str(text)?.validate()
}

fn matches(count: usize, proj: &str) -> String {
    let one = format!(
        r#"{{"layer_T": 0, "layer_S": 0, "feature": "hidden", "loss": "hidden_mse",
            "weight": 1, "proj": {proj}}}"#
    );
    format!(
        "{{\"intermediate_matches\": [{}]}}",
        vec![one; count].join(",")
    )
}

#[test]
fn matches_without_number_and_projections_without_end() {
    let sets = vec![r#""L6_hidden_smmd""#; 500_000].join(",");
    let layers = vec!["0"; 1_000_000].join(",");
    let lists = format!(
        r#"{{"intermediate_matches": [{{"layer_T": [{layers}], "layer_S": [{layers}],
            "feature": "hidden", "loss": "nst", "weight": 1}}]}}"#
    );
    let uneven = lists.replacen("0,", "", 1);
    let long = "l".repeat(1 << 20);
    let named = matches(1, "null").replace("hidden_mse", &long);
    let cases = [
        (
            format!("{{\"intermediate_matches\": [{sets}]}}"),
            "JSON text: intermediate_matches: more than 10000 matches",
        ),
        (
            matches(10_001, "null"),
            "JSON text: intermediate_matches: more than 10000 matches",
        ),
        (
            lists,
            "intermediate_matches[0].layer_T: 1000000 layers are more than",
        ),
        (
            uneven,
            "intermediate_matches[0].layer_T: 999999 layers are more than",
        ),
        (
            named,
            "intermediate_matches[0].loss: 1048576 bytes are too long",
        ),
        (
            matches(1, r#"["linear", 1152921504606846976, 1152921504606846976]"#),
            "intermediate_matches[0].proj: 1152921504606846976 × 1152921504606846976 weights",
        ),
        (
            matches(1, r#"["linear", 1, 9223372036854775807]"#),
            "intermediate_matches[0].proj: 1 × 9223372036854775807 weights",
        ),
        (
            matches(5000, r#"["linear", 1024, 1024]"#),
            "intermediate_matches: the projections have 5242880000 weights together",
        ),
        (
            matches(1, r#"["linear", 2, 3, {"lr": 1}, 5]"#),
            "JSON text: intermediate_matches[0].proj: more than four elements",
        ),
    ];
    for (text, expected) in &cases {
        let shown = message(expected, distillation(text));
        assert!(shown.starts_with(expected), "{expected}\n{shown}");
    }
    // What was built obeys the same limits.
    let many = vec![IntermediateMatch::hidden(0, 0); 10_001];
    let built = DistillationConfig::default().intermediate_matches(many);
    assert!(message("built", built.validate()).starts_with("intermediate_matches: more than"));
}

#[test]
fn emd_projections_have_the_same_limits() {
    let text = r#"{"hidden_projection": ["linear", 4611686018427387904, 4]}"#;
    let config: EmdConfig = serde_json::from_str(text).unwrap();
    let shown = message(text, config.validate());
    assert!(
        shown.starts_with("hidden_projection: 4611686018427387904 × 4 weights"),
        "{shown}"
    );
}

#[test]
fn folders_with_names_that_no_folder_has() {
    let long = format!(r#"{{"output_dir": "{}"}}"#, "d".repeat(1 << 20));
    let config = TrainingConfig::from_json_str(&long).unwrap();
    let shown = message("long", config.validate());
    assert!(
        shown.starts_with("output_dir: 1048576 bytes are too long"),
        "{shown}"
    );
}

#[test]
fn files_that_are_no_ordinary_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let read = |path: &Path| TrainingConfig::from_json_file(path).map(|_| ());

    let large = path("large.json");
    std::fs::write(&large, " ".repeat((16 << 20) + 1)).unwrap();
    assert!(message("large", read(&large)).contains("is larger than 16777216 bytes"));
    std::fs::write(&large, b"{\"temperature\": \xff}").unwrap();
    assert!(matches!(read(&large), Err(Error::Io { .. })));
    assert!(matches!(read(folder.path()), Err(Error::Io { .. })));

    #[cfg(target_os = "linux")]
    {
        let zero = path("zero.json");
        std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
        let shown = message("device", read(&zero));
        assert!(shown.contains("is a pipe or a device"), "{shown}");
        let circle = path("circle.json");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        message("circle", read(&circle));
        // A pipe that nobody writes to would be waited for.
        let pipe = path("pipe.json");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if made.is_ok_and(|status| status.success()) {
            let shown = message("pipe", read(&pipe));
            assert!(shown.contains("is a pipe or a device"), "{shown}");
            message("pipe", textbrewer::weights::read(&pipe));
        }
    }
}
