//! What a user is told about a configuration that cannot work.

use std::error::Error as _;
use std::path::Path;

use tch::{Cuda, Device};
use textbrewer::config::{Precision, parse_device};
use textbrewer::{
    DistillationConfig, Error, IntermediateMatch, PresetSpec, ProjectionSpec, Result,
    TrainingConfig,
};

fn training(json: &str) -> String {
    let error = TrainingConfig::from_json_str(json).expect_err(json);
    assert!(matches!(error, Error::Json { .. }), "{error:?}");
    assert!(error.source().is_some(), "{error:?}");
    error.to_string()
}

fn distillation(json: &str) -> String {
    let error = DistillationConfig::from_json_str(json).expect_err(json);
    assert!(matches!(error, Error::Json { .. }), "{error:?}");
    assert!(error.source().is_some(), "{error:?}");
    error.to_string()
}

const MATCH: &str =
    r#"{"layer_T": 0, "layer_S": 0, "feature": "hidden", "loss": "hidden_mse", "weight": 1}"#;

/// A configuration of two matches, the second of which, on the third line, is `MATCH`
/// with something replaced.
fn second_match(from: &str, to: &str) -> String {
    assert!(MATCH.contains(from), "{from}");
    let changed = MATCH.replace(from, to);
    distillation(&format!(
        "{{\"intermediate_matches\": [\n{MATCH},\n{changed}\n]}}"
    ))
}

#[test]
fn precisions_are_told_by_name() {
    let names = "one of \"float32\", \"bf16\", \"fp16\"";
    for key in ["precision", "teacher_precision"] {
        assert_eq!(
            training(&format!("{{\"{key}\": 16}}")),
            format!(
                "JSON text: {key}: invalid type: integer `16`, expected {names} at line 1 column {}",
                key.len() + 7
            )
        );
        let message = training(&format!("{{\"{key}\": {{\"bf16\": null}}}}"));
        assert!(message.contains(names), "{message}");
        let message = training(&format!("{{\"{key}\": \"BF16\"}}"));
        assert!(
            message.contains("unknown variant `BF16`, expected one of `float32`, `bf16`, `fp16`"),
            "{message}"
        );
    }
    for precision in [Precision::Float32, Precision::Bf16, Precision::Fp16] {
        assert_eq!(
            precision.to_string().parse::<Precision>().unwrap(),
            precision
        );
    }
    assert_eq!(
        "BF\u{1b}16".parse::<Precision>().unwrap_err().to_string(),
        "precision: unknown precision `BF\\u{1b}16`, expected one of `float32`, `bf16`, `fp16`"
    );
}

#[test]
fn devices_are_told_by_pytorchs_names() {
    for (name, device) in [
        ("cpu", Device::Cpu),
        ("cuda", Device::Cuda(0)),
        ("cuda:3", Device::Cuda(3)),
        ("mps", Device::Mps),
        ("vulkan", Device::Vulkan),
    ] {
        assert_eq!(parse_device(name).unwrap(), device);
        let json = format!("{{\"device\": {name:?}}}");
        let config = TrainingConfig::from_json_str(&json).unwrap();
        assert_eq!(config.device, device);
    }
    for (name, shown) in [
        ("gpu", "gpu"),
        ("cuda:+1", "cuda:+1"),
        ("\u{1b}", r"\u{1b}"),
    ] {
        assert_eq!(
            parse_device(name).unwrap_err().to_string(),
            format!(
                "device: unknown device `{shown}`, expected `cpu`, `cuda`, `cuda:N`, `mps` or \
                 `vulkan`"
            )
        );
    }
}

#[test]
fn emd_is_an_object_of_keys() {
    for list in ["[]", "[1, 2]"] {
        let message = distillation(&format!("{{\"emd\": {list}}}"));
        let expected =
            "JSON text: emd: invalid type: sequence, expected an object of keys and values";
        assert!(message.starts_with(expected), "{message}");
    }
    let read = |text: &str| DistillationConfig::from_json_str(text).unwrap().emd;
    assert!(read(r#"{"emd": {}}"#).is_some());
    assert!(read(r#"{"emd": null}"#).is_none());
    let error = DistillationConfig::from_json_str(r#"{"emd": {"hidden_weight": -1}}"#)
        .and_then(|config| config.validate());
    assert_eq!(
        refused(error),
        (
            "emd.hidden_weight".to_owned(),
            "must be a finite number, at least 0, is -1".to_owned()
        )
    );
}

#[test]
fn fp16_beside_a_precision_is_a_contradiction() {
    let message = "JSON text: fp16: is true, and `precision` is `float32`; give one of them";
    assert_eq!(
        training(r#"{"fp16": true, "precision": "float32"}"#),
        message
    );
    // The other two are read, and refused when they are checked.
    let read = |text: &str| TrainingConfig::from_json_str(text).unwrap();
    let both = read(r#"{"precision": "bf16", "fp16": true, "device": "cpu"}"#);
    assert_eq!(refused(both.validate()).0, "fp16");
    for fits in [
        r#"{"fp16": true}"#,
        r#"{"fp16": false, "precision": "float32"}"#,
        r#"{"fp16": false, "precision": "bf16"}"#,
        // What `O0` means.
        r#"{"fp16": true, "fp16_opt_level": "O0", "precision": "float32"}"#,
    ] {
        read(fits);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.json");
    std::fs::write(&path, r#"{"fp16": true, "precision": "float32"}"#).unwrap();
    let error = TrainingConfig::from_json_file(&path).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&path.display().to_string()) && text.contains("give one of them"),
        "{text}"
    );
}

#[test]
fn unknown_keys_are_named_with_their_place() {
    assert_eq!(
        training(r#"{"ckpt_frequancy": 2}"#),
        "JSON text: ckpt_frequancy: unknown field `ckpt_frequancy`, expected one of \
         `gradient_accumulation_steps`, `ckpt_frequency`, `ckpt_epoch_frequency`, `ckpt_steps`, \
         `log_dir`, `output_dir`, `device`, `fp16`, `fp16_opt_level`, `data_parallel`, \
         `local_rank`, `clip_projections`, `step_on_remainder`, `log_interval`, `precision`, \
         `teacher_precision`, `weigh_by_positions` at line 1 column 17"
    );
    assert_eq!(
        distillation("{\n  \"temperature\": 4,\n  \"tmp\": 1\n}"),
        "JSON text: tmp: unknown field `tmp`, expected one of `temperature`, \
         `temperature_scheduler`, `hard_label_weight`, `hard_label_weight_scheduler`, \
         `kd_loss_type`, `kd_loss_weight`, `kd_loss_weight_scheduler`, `tau_squared`, \
         `standardize_logits`, `tail`, `probability_shift`, `diagnostics`, `intermediate_matches`, \
         `emd`, `is_caching_logits`, `cache_features`, `cache_dtype`, `cache_limit_mb` at line 3 \
         column 7"
    );
    let keys = "`layer_T`, `layer_S`, `feature`, `loss`, `weight`, `proj`, `teacher`";
    assert_eq!(
        second_match("loss", "lss"),
        format!(
            "JSON text: intermediate_matches[1].lss: unknown field `lss`, expected one of {keys} \
             at line 3 column 55"
        )
    );
    assert_eq!(
        second_match("layer_T", "layer_teacher"),
        format!(
            "JSON text: intermediate_matches[1].layer_teacher: unknown field `layer_teacher`, \
             expected one of {keys} at line 3 column 16"
        )
    );
    let message = second_match(
        "1}",
        r#"1, "proj": ["linear", 2, 3, {"learning_rate": 1}]}"#,
    );
    assert_eq!(
        message,
        "JSON text: intermediate_matches[1].proj[3].learning_rate: unknown field \
         `learning_rate`, expected one of `lr`, `weight_decay`, `betas`, `eps`, `momentum` \
         at line 3 column 126"
    );
}

#[test]
fn missing_and_repeated_keys_are_named_with_their_place() {
    assert_eq!(
        second_match(r#""weight": 1"#, r#""proj": null"#),
        "JSON text: intermediate_matches[1]: missing field `weight` at line 3 column 85"
    );
    assert_eq!(
        training(r#"{"fp16": true, "fp16": false}"#),
        "JSON text: duplicate field `fp16` at line 1 column 21"
    );
    assert_eq!(
        distillation(r#"{"temperature_scheduler": ["flsw", {"beta": 1, "beta": 2}]}"#),
        "JSON text: temperature_scheduler[1]: duplicate argument `beta` at line 1 column 57"
    );
}

#[test]
fn wrong_types_are_named_with_path_line_and_column() {
    for (json, message) in [
        (
            "[1, 2]",
            "invalid type: sequence, expected an object of keys and values at line 1 column 0",
        ),
        (
            "3",
            "invalid type: integer `3`, expected an object of keys and values at line 1 column 1",
        ),
        (
            r#"{"ckpt_frequency": "1"}"#,
            r#"ckpt_frequency: invalid type: string "1", expected a whole number, 0 or more at line 1 column 22"#,
        ),
        (
            r#"{"ckpt_frequency": 1.5}"#,
            "ckpt_frequency: invalid type: floating point `1.5`, expected a whole number, 0 or more at line 1 column 22",
        ),
        (
            "{\n \"fp16\": false,\n \"gradient_accumulation_steps\": -1\n}",
            "gradient_accumulation_steps: invalid value: integer `-1`, expected a whole number, 0 or more at line 3 column 34",
        ),
        (
            r#"{"fp16": 1}"#,
            "fp16: invalid type: integer `1`, expected true or false at line 1 column 10",
        ),
        (
            r#"{"output_dir": null}"#,
            "output_dir: invalid type: null, expected path string at line 1 column 19",
        ),
        (
            r#"{"device": "gpu"}"#,
            "device: unknown device `gpu`, expected `cpu`, `cuda`, `cuda:N`, `mps` or `vulkan` at line 1 column 17",
        ),
        (
            r#"{"local_rank": "0"}"#,
            r#"local_rank: invalid type: string "0", expected a whole number at line 1 column 18"#,
        ),
    ] {
        assert_eq!(training(json), format!("JSON text: {message}"));
    }
    for (json, message) in [
        (
            r#"{"temperature": "hot"}"#,
            r#"temperature: invalid type: string "hot", expected a number at line 1 column 21"#,
        ),
        (
            r#"{"temperature": null}"#,
            "temperature: invalid type: null, expected a number at line 1 column 20",
        ),
        (
            r#"{"temperature_scheduler": 3}"#,
            "temperature_scheduler: invalid type: integer `3`, expected a name (\"none\" for no schedule), [name, numbers ...] or [name, {argument: number}] at line 1 column 27",
        ),
        (
            r#"{"temperature_scheduler": []}"#,
            "temperature_scheduler: invalid length 0, expected a name (\"none\" for no schedule), [name, numbers ...] or [name, {argument: number}] at line 1 column 28",
        ),
        (
            r#"{"temperature_scheduler": ["flsw", "1"]}"#,
            r#"temperature_scheduler[1]: invalid type: string "1", expected a number, or an object of numbers by argument name at line 1 column 38"#,
        ),
        (
            r#"{"temperature_scheduler": ["flsw", {"beta": "1"}]}"#,
            r#"temperature_scheduler[1].beta: invalid type: string "1", expected a number at line 1 column 47"#,
        ),
        (
            r#"{"temperature_scheduler": ["flsw", 1, {"gamma": 1}]}"#,
            "temperature_scheduler: arguments by name must be the only ones: [name, {argument: number}] at line 1 column 51",
        ),
        (
            r#"{"intermediate_matches": {}}"#,
            "intermediate_matches: invalid type: map, expected null, the name of a match set or a list of matches at line 1 column 27",
        ),
        (
            r#"{"intermediate_matches": [[0, 0, "hidden", "hidden_mse", 1]]}"#,
            "intermediate_matches[0]: invalid type: sequence, expected an object of keys and values or the name of a match set at line 1 column 27",
        ),
    ] {
        assert_eq!(distillation(json), format!("JSON text: {message}"));
    }
    let with_proj = |proj: &str| second_match("1}", &format!(r#"1, "proj": {proj}}}"#));
    for (shown, message) in [
        (
            second_match(r#""layer_T": 0"#, r#""layer_T": "0""#),
            r#"layer_T: invalid type: string "0", expected the number of a layer or a list of them at line 3 column 15"#,
        ),
        (
            second_match(r#""layer_S": 0"#, r#""layer_S": [0, 1.5]"#),
            "layer_S[1]: invalid type: floating point `1.5`, expected a whole number at line 3 column 33",
        ),
        (
            second_match(r#""layer_S": 0"#, r#""layer_S": 9223372036854775808"#),
            "layer_S: invalid value: integer `9223372036854775808`, expected the number of a layer or a list of them at line 3 column 45",
        ),
        (
            with_proj(r#"["linear", 24]"#),
            "proj: invalid length 2, expected [name, dim_in, dim_out] or [name, dim_in, dim_out, {options}] at line 3 column 107",
        ),
        (
            with_proj(r#"["linear", 24.5, 32]"#),
            "proj[1]: invalid type: floating point `24.5`, expected a whole number at line 3 column 108",
        ),
        (
            with_proj(r#"["linear", 24, 32, [1]]"#),
            "proj[3]: invalid type: sequence, expected an object of keys and values at line 3 column 112",
        ),
        (
            with_proj(r#"["linear", 24, 32, {"betas": [0.9]}]"#),
            "proj[3].betas: invalid length 1, expected a tuple of size 2 at line 3 column 127",
        ),
        (
            with_proj(r#"["linear", 24, 32, {}, 1]"#),
            "proj: more than four elements, expected [name, dim_in, dim_out, {options}] at line 3 column 118",
        ),
        (
            with_proj(r#""linear""#),
            r#"proj: invalid type: string "linear", expected [name, dim_in, dim_out] or [name, dim_in, dim_out, {options}] at line 3 column 101"#,
        ),
    ] {
        assert_eq!(
            shown,
            format!("JSON text: intermediate_matches[1].{message}")
        );
    }
}

#[test]
fn damaged_json_is_told_from_wrong_json() {
    for (json, message) in [
        ("", "there is no JSON, the text is empty; write at least {}"),
        (
            "  \n",
            "there is no JSON, the text is empty; write at least {}",
        ),
        ("{", "the JSON is cut short: it ends at line 1 column 1"),
        (
            "{\n  \"temperature\": 4,\n  \"kd_loss_type\": \"c",
            "the JSON is cut short inside `kd_loss_type`: it ends at line 3 column 20",
        ),
        (
            r#"{"intermediate_matches": [{"layer_T": 0, "layer_S": 0,"#,
            "the JSON is cut short inside `intermediate_matches[0]`: it ends at line 1 column 54",
        ),
        (
            r#"{"temperature": 4 "kd_loss_type": "ce"}"#,
            "not valid JSON: expected `,` or `}` at line 1 column 19",
        ),
        (
            r#"{"temperature": NaN}"#,
            "not valid JSON near `temperature`: expected value at line 1 column 17",
        ),
        (
            "{} {}",
            "not valid JSON: trailing characters at line 1 column 4",
        ),
        (
            "temperature: 4",
            "not valid JSON: expected ident at line 1 column 2",
        ),
    ] {
        assert_eq!(
            distillation(json),
            format!("JSON text: {message}"),
            "{json}"
        );
    }
}

/// Wherever a text is cut, the error says so; it is never read as a shorter configuration.
#[test]
fn every_way_of_cutting_json_short_is_noticed() {
    let text = format!(
        r#"{{"temperature": 4.5, "temperature_scheduler": ["flsw", 1, 2], "intermediate_matches": [{MATCH}]}}"#
    );
    DistillationConfig::from_json_str(&text).unwrap();
    for end in 1..text.len() {
        let message = distillation(&text[..end]);
        assert!(
            message.starts_with("JSON text: the JSON is cut short"),
            "{end}: {message}"
        );
        assert!(
            message.ends_with(&format!("it ends at line 1 column {end}")),
            "{end}: {message}"
        );
    }
}

#[test]
fn errors_in_files_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.json");
    let error = TrainingConfig::from_json_file(&missing).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if *path == missing),
        "{error:?}"
    );
    let shown = error.to_string();
    assert!(
        shown.starts_with(&format!("{}: No such file", missing.display())),
        "{shown}"
    );
    let error = DistillationConfig::from_json_file(folder.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if path == folder.path()),
        "{error:?}"
    );

    let file = folder.path().join("train.json");
    std::fs::write(&file, b"{\"log_dir\": \"\xff\"}").unwrap();
    let error = TrainingConfig::from_json_file(&file).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if *path == file),
        "{error:?}"
    );

    std::fs::write(&file, "{\"fp16\": 0}").unwrap();
    let error = TrainingConfig::from_json_file(&file).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: fp16: invalid type: integer `0`, expected true or false at line 1 column 10",
            file.display()
        )
    );
    std::fs::write(&file, "{\"fp16\": ").unwrap();
    let error = TrainingConfig::from_json_file(&file).unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.starts_with(&format!("{}: the JSON is cut short", file.display())),
        "{shown}"
    );
}

fn refused(result: Result<()>) -> (String, String) {
    match result {
        Err(Error::Config { field, reason, .. }) => (field, reason),
        other => panic!("expected Error::Config, got {other:?}"),
    }
}

#[test]
fn training_values_that_cannot_work_are_refused() {
    let config = || TrainingConfig::default().device(Device::Cpu);
    config().validate().unwrap();
    config()
        .fp16_opt_level("O3")
        .ckpt_steps(None)
        .log_interval(None)
        .validate()
        .unwrap();
    // What the level means is asked only where `fp16` is true, as in TextBrewer.
    config().fp16_opt_level("none").validate().unwrap();
    for level in ["O0", "O1", "O2", "O3"] {
        config()
            .fp16(true)
            .fp16_opt_level(level)
            .validate()
            .unwrap();
    }
    let zero = "must be at least 1, is 0";
    let empty = "must not be empty; give a folder";
    for (config, field, reason) in [
        (
            config().gradient_accumulation_steps(0),
            "gradient_accumulation_steps",
            zero,
        ),
        (config().ckpt_frequency(0), "ckpt_frequency", zero),
        (
            config().ckpt_epoch_frequency(0),
            "ckpt_epoch_frequency",
            zero,
        ),
        (config().ckpt_steps(0), "ckpt_steps", zero),
        (config().log_interval(0), "log_interval", zero),
        (config().log_dir(""), "log_dir", empty),
        (config().output_dir(""), "output_dir", empty),
        (
            config().fp16(true).precision(Precision::Bf16),
            "fp16",
            "is true, and `precision` is `bf16`; give one of them",
        ),
        (
            config().fp16(true).fp16_opt_level("O4"),
            "fp16_opt_level",
            "must be one of O0, O1, O2, O3, is `O4`",
        ),
    ] {
        assert_eq!(
            refused(config.validate()),
            (field.to_owned(), reason.to_owned())
        );
    }
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let count = usize::try_from(Cuda::device_count()).unwrap();
    let config =
        TrainingConfig::from_json_str(&format!(r#"{{"device": "cuda:{count}"}}"#)).unwrap();
    assert_eq!(config.device, Device::Cuda(count));
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        format!(
            "device: `cuda:{count}` is not there: libtorch finds {count} CUDA device(s) here; \
             choose another, or leave the key out to get CUDA where there is one and the CPU \
             otherwise"
        )
    );
}

#[test]
fn distillation_values_that_cannot_work_are_refused() {
    let config = DistillationConfig::default;
    config().validate().unwrap();
    for (temperature, shown) in [
        (0.0, "0"),
        (-1.0, "-1"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
    ] {
        assert_eq!(
            refused(config().temperature(temperature).validate()),
            (
                "temperature".to_owned(),
                format!("must be a finite number above 0, is {shown}")
            )
        );
    }
    let mut none = config();
    none.temperature_scheduler = Some(PresetSpec::new("none"));
    for (config, field, reason) in [
        (
            config().hard_label_weight(f64::NAN),
            "hard_label_weight",
            "must be a finite number, is NaN",
        ),
        (
            config().kd_loss_weight(f64::INFINITY),
            "kd_loss_weight",
            "must be a finite number, is inf",
        ),
        (
            config().kd_loss_type(""),
            "kd_loss_type",
            "must not be empty; give the name of a KD loss",
        ),
        (
            config().hard_label_weight_scheduler(""),
            "hard_label_weight_scheduler",
            "must not be empty; give the name of a schedule, or \"none\"",
        ),
        (
            config().temperature_scheduler(("flsw", [1.0, f64::NAN])),
            "temperature_scheduler[2]",
            "must be a finite number, is NaN",
        ),
        (
            config()
                .kd_loss_weight_scheduler(PresetSpec::new("own").named([("slope", f64::INFINITY)])),
            "kd_loss_weight_scheduler[1].slope",
            "must be a finite number, is inf",
        ),
        (
            none,
            "temperature_scheduler",
            "a schedule cannot be called `none`; set the field to `None` for no schedule",
        ),
    ] {
        assert_eq!(
            refused(config.validate()),
            (field.to_owned(), reason.to_owned())
        );
    }
}

#[test]
fn matches_that_cannot_work_are_refused() {
    let hidden = || IntermediateMatch::hidden(8, 2);
    let linear = || ProjectionSpec::linear(384, 768);
    let betas = |first, second| hidden().proj(linear().betas(first, second));
    let eps = |eps| hidden().proj(linear().eps(eps));
    for (item, field, reason) in [
        (
            IntermediateMatch::new("hidden", [8, 8], 2).loss("nst"),
            "",
            "layer_T ([8,8]) and layer_S (2) must both be one layer, or lists of the same length",
        ),
        (
            IntermediateMatch::new("hidden", [0, 8], [0, 1, 2]).loss("nst"),
            "",
            "layer_T ([0,8]) and layer_S ([0,1,2]) must both be one layer, or lists of the same length",
        ),
        (
            IntermediateMatch::new("hidden", 0, vec![]).loss("nst"),
            ".layer_S",
            "the list of layers must not be empty",
        ),
        (
            IntermediateMatch::new("hidden", 0, 0),
            ".loss",
            "must not be empty; give the name of a match loss",
        ),
        (
            IntermediateMatch::new("", 0, 0).loss("cos"),
            ".feature",
            "must not be empty; give `hidden`, `attention` or the name of a feature that the adaptors return",
        ),
        (
            hidden().weight(f64::NAN),
            ".weight",
            "must be a finite number, is NaN",
        ),
        (
            hidden().proj(ProjectionSpec::linear(0, 768)),
            ".proj[1]",
            "a size must be at least 1, is 0",
        ),
        (
            hidden().proj(ProjectionSpec::tanh(384, -768)),
            ".proj[2]",
            "a size must be at least 1, is -768",
        ),
        (
            hidden().proj(ProjectionSpec::new("", 1, 1)),
            ".proj[0]",
            "must not be empty; give the name of a projection",
        ),
        (
            hidden().proj(linear().learning_rate(-1e-3)),
            ".proj[3].lr",
            "must be a finite number, at least 0, is -0.001",
        ),
        (
            hidden().proj(linear().weight_decay(f64::INFINITY)),
            ".proj[3].weight_decay",
            "must be a finite number, at least 0, is inf",
        ),
        (
            eps(f64::NAN),
            ".proj[3].eps",
            "must be a finite number, at least 0, is NaN",
        ),
        (
            betas(0.9, 1.0),
            ".proj[3].betas[1]",
            "must be at least 0 and less than 1, is 1",
        ),
        (
            betas(-0.1, 0.9),
            ".proj[3].betas[0]",
            "must be at least 0 and less than 1, is -0.1",
        ),
    ] {
        let config = DistillationConfig::default().intermediate_matches([hidden(), item]);
        assert_eq!(
            refused(config.validate()),
            (format!("intermediate_matches[1]{field}"), reason.to_owned())
        );
    }
}

#[test]
fn keys_of_the_cache_need_the_cache() {
    for json in [
        r#"{"cache_features": true}"#,
        r#"{"cache_dtype": "bf16"}"#,
        r#"{"cache_limit_mb": 5}"#,
    ] {
        let error = DistillationConfig::from_json_str(json)
            .unwrap()
            .validate()
            .unwrap_err();
        let key = json.split('"').nth(1).unwrap();
        let message = format!("{key}: needs `is_caching_logits` = true");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn as_many_classes_as_there_may_be_are_compared() {
    for k in [1, 1000] {
        DistillationConfig::default()
            .diagnostics(k)
            .validate()
            .unwrap();
    }
    for k in [0, 1001, u64::MAX] {
        let error = DistillationConfig::default().diagnostics(k).validate();
        let message = format!(
            "diagnostics: must be from 1 to 1000, as many of the likeliest classes as are to be \
             compared, is {k}"
        );
        assert_eq!(error.unwrap_err().to_string(), message);
    }
    let message = distillation(r#"{"diagnostics": -1}"#);
    let start = "JSON text: diagnostics: invalid value: integer `-1`, ";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn making_a_configuration_touches_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("models");
    let logs = folder.path().join("logs");
    let config = TrainingConfig::default()
        .device(Device::Cpu)
        .output_dir(&output)
        .log_dir(&logs);
    config.validate().unwrap();
    TrainingConfig::from_json_str(&config.to_json_string().unwrap()).unwrap();
    assert!(!Path::new(&output).exists() && !Path::new(&logs).exists());
}
