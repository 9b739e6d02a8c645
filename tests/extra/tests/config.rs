//! Configurations: TextBrewer's JSON as it stands, defaults, round trips, and how they look.

use std::path::{Path, PathBuf};

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use tch::Device;
use textbrewer::config::Precision;
use textbrewer::optim::GroupOptions;
use textbrewer::{
    DistillationConfig, IntermediateMatch, Layers, PresetSpec, ProjectionSpec, TrainingConfig,
};

fn golden_folder() -> PathBuf {
    match std::env::var_os("TEXTBREWER_GOLDEN_DIR") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden"),
    }
}

/// Whether everything that was given is in what was written. Python does not tell 4 from
/// 4.0, and `cuda` is `cuda:0`.
fn contains(written: &Value, given: &Value) -> bool {
    match (written, given) {
        (Value::Object(written), Value::Object(given)) => given
            .iter()
            .all(|(key, value)| written.get(key).is_some_and(|w| contains(w, value))),
        (Value::Array(written), Value::Array(given)) => {
            written.len() == given.len() && written.iter().zip(given).all(|(w, g)| contains(w, g))
        }
        (Value::Number(written), Value::Number(given)) => written.as_f64() == given.as_f64(),
        (Value::String(written), Value::String(given)) if given == "cuda" => written == "cuda:0",
        _ => written == given,
    }
}

#[test]
fn every_configuration_of_the_golden_trainings_loads_as_it_stands() {
    let folder = golden_folder().join("trainings");
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases = 0;
    for entry in entries {
        let file = entry.unwrap().path().join("case.json");
        let name = file.display();
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        let case: Value = serde_json::from_str(&text).unwrap();

        let given = &case["train_config"];
        assert!(given.is_object(), "{name}");
        let config = TrainingConfig::from_json_str(&given.to_string())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = serde_json::from_str(&config.to_json_string().unwrap()).unwrap();
        assert!(
            contains(&written, given),
            "{name}: {given} became {written}"
        );

        let given = &case["distill_config"];
        assert!(given.is_object(), "{name}");
        let config = DistillationConfig::from_json_str(&given.to_string())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = serde_json::from_str(&config.to_json_string().unwrap()).unwrap();
        assert!(
            contains(&written, given),
            "{name}: {given} became {written}"
        );
        config
            .validate()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        cases += 1;
    }
    assert!(cases > 0, "{} has no case", folder.display());
}

/// The defaults are those of the constructors in TextBrewer 0.2.1's `configurations.py`.
#[test]
fn defaults_are_textbrewers() {
    let config = TrainingConfig::from_json_str("{}").unwrap();
    assert_eq!(config, TrainingConfig::default());
    assert_eq!(config.device, Device::cuda_if_available());
    assert_eq!(
        (config.clip_projections, config.step_on_remainder),
        (false, false)
    );
    assert_eq!(config.log_interval, Some(20));
    // Without this crate's own keys at their defaults: TextBrewer refuses keys it does not know.
    assert_eq!(
        serde_json::to_value(config.device(Device::Cpu)).unwrap(),
        json!({
            "gradient_accumulation_steps": 1, "ckpt_frequency": 1, "ckpt_epoch_frequency": 1,
            "ckpt_steps": null, "log_dir": null, "output_dir": "./saved_models", "device": "cpu",
            "fp16": false, "fp16_opt_level": "O1", "data_parallel": false, "local_rank": -1
        })
    );
    let config = DistillationConfig::from_json_str("{}").unwrap();
    assert_eq!(config, DistillationConfig::default());
    assert_eq!(
        serde_json::to_value(config).unwrap(),
        json!({
            "temperature": 4.0, "temperature_scheduler": "none", "hard_label_weight": 0.0,
            "hard_label_weight_scheduler": "none", "kd_loss_type": "ce", "kd_loss_weight": 1.0,
            "kd_loss_weight_scheduler": "none", "probability_shift": false,
            "intermediate_matches": [], "is_caching_logits": false
        })
    );
}

#[test]
fn every_training_key_is_read_into_its_field() {
    let json = r#"{
        "gradient_accumulation_steps": 2, "ckpt_frequency": 3, "ckpt_epoch_frequency": 4,
        "ckpt_steps": 5, "log_dir": "none", "output_dir": "out", "device": "cuda:1", "fp16": true,
        "fp16_opt_level": "O2", "data_parallel": true, "local_rank": 6, "clip_projections": true,
        "step_on_remainder": true, "log_interval": null, "precision": "bf16",
        "teacher_precision": "fp16", "weigh_by_positions": false}"#;
    let built = TrainingConfig::default()
        .gradient_accumulation_steps(2)
        .ckpt_frequency(3)
        .ckpt_epoch_frequency(4)
        .ckpt_steps(5)
        .log_dir("none")
        .output_dir("out")
        .device(Device::Cuda(1))
        .fp16(true)
        .fp16_opt_level("O2")
        .data_parallel(true)
        .local_rank(6)
        .clip_projections(true)
        .step_on_remainder(true)
        .log_interval(None)
        .precision(Precision::Bf16)
        .teacher_precision(Precision::Fp16)
        .weigh_by_positions(false);
    let read = TrainingConfig::from_json_str(json).unwrap();
    assert_eq!(read, built);
    // Fields one by one: a setter and a reader could be wrong in the same way.
    assert_eq!(
        (
            read.gradient_accumulation_steps,
            read.ckpt_frequency,
            read.ckpt_epoch_frequency
        ),
        (2, 3, 4)
    );
    assert_eq!((read.ckpt_steps, read.log_interval), (Some(5), None));
    assert_eq!(read.log_dir.as_deref(), Some(Path::new("none")));
    assert_eq!(read.output_dir, Path::new("out"));
    assert_eq!((read.device, read.local_rank), (Device::Cuda(1), 6));
    assert!(read.fp16 && read.data_parallel && read.clip_projections && read.step_on_remainder);
    assert_eq!(read.fp16_opt_level, "O2");
    assert_eq!(
        (read.precision, read.teacher_precision),
        (Precision::Bf16, Some(Precision::Fp16))
    );
    assert_eq!(read.weigh_by_positions, Some(false));
    assert_eq!(
        TrainingConfig::from_json_str(&read.to_json_string().unwrap()).unwrap(),
        read
    );
}

#[test]
fn every_distillation_key_is_read_into_its_field() {
    let json = r#"{
        "temperature": 8, "temperature_scheduler": ["flsw", {"beta": 1, "gamma": 2}],
        "hard_label_weight": 0.25, "hard_label_weight_scheduler": "linear_growth",
        "kd_loss_type": "mse", "kd_loss_weight": 0.75, "kd_loss_weight_scheduler": ["own", 3],
        "probability_shift": true, "diagnostics": 5, "is_caching_logits": true,
        "intermediate_matches": [
            {"layer_T": -1, "layer_S": 2, "feature": "values", "loss": "cos", "weight": -1,
             "proj": ["linear", 24, 32, {"lr": 1e-3, "weight_decay": 0, "betas": [0.8, 0.9], "eps": 1e-6}]},
            {"layer_T": [0, 4], "layer_S": [0, -2], "feature": "hidden", "loss": "fsp",
             "weight": 0.5, "proj": null}
        ]}"#;
    let projection = ProjectionSpec::linear(24, 32)
        .learning_rate(1e-3)
        .weight_decay(0.0)
        .betas(0.8, 0.9)
        .eps(1e-6);
    let built = DistillationConfig::default()
        .temperature(8.0)
        .temperature_scheduler(PresetSpec::new("flsw").named([("beta", 1.0), ("gamma", 2.0)]))
        .hard_label_weight(0.25)
        .hard_label_weight_scheduler("linear_growth")
        .kd_loss_type("mse")
        .kd_loss_weight(0.75)
        .kd_loss_weight_scheduler(("own", [3.0]))
        .probability_shift(true)
        .diagnostics(5)
        .is_caching_logits(true)
        .intermediate_matches([
            IntermediateMatch::new("values", -1, 2)
                .loss("cos")
                .weight(-1.0)
                .proj(projection),
            IntermediateMatch::new("hidden", [0, 4], [0, -2])
                .loss("fsp")
                .weight(0.5),
        ]);
    let read = DistillationConfig::from_json_str(json).unwrap();
    assert_eq!(read, built);
    // Fields one by one: a setter and a reader could be wrong in the same way.
    assert_eq!(
        (
            read.temperature,
            read.hard_label_weight,
            read.kd_loss_weight
        ),
        (8.0, 0.25, 0.75)
    );
    assert_eq!(read.kd_loss_type, "mse".into());
    assert!(read.probability_shift && read.is_caching_logits);
    assert_eq!(read.diagnostics, Some(5));
    let [first, second] = read.intermediate_matches.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!(
        (&first.layer_teacher, &first.layer_student),
        (&Layers::One(-1), &Layers::One(2))
    );
    assert_eq!(
        (first.feature.as_str(), first.loss.to_string(), first.weight),
        ("values", "cos".to_owned(), -1.0)
    );
    let proj = first.proj.as_ref().unwrap();
    assert_eq!(
        (proj.name.as_str(), proj.dim_in, proj.dim_out),
        ("linear", 24, 32)
    );
    let options = &proj.options;
    assert_eq!(
        (options.learning_rate, options.weight_decay),
        (Some(1e-3), Some(0.0))
    );
    assert_eq!((options.betas, options.eps), (Some((0.8, 0.9)), Some(1e-6)));
    assert_eq!(second.layer_teacher, Layers::Many(vec![0, 4]));
    assert_eq!(second.layer_student, Layers::Many(vec![0, -2]));
    assert_eq!(second.proj, None);
}

#[test]
fn no_schedule_and_no_matches_can_be_said_in_several_ways() {
    for json in [
        "{}",
        r#"{"temperature_scheduler": "none"}"#,
        r#"{"temperature_scheduler": null}"#,
        r#"{"kd_loss_weight_scheduler": null, "hard_label_weight_scheduler": null}"#,
        r#"{"intermediate_matches": null}"#,
        r#"{"intermediate_matches": []}"#,
    ] {
        let config = DistillationConfig::from_json_str(json).unwrap();
        assert_eq!(config, DistillationConfig::default(), "{json}");
    }
    let built = DistillationConfig::default()
        .temperature_scheduler(("flsw", [1.0, 2.0]))
        .temperature_scheduler("none");
    assert_eq!(built, DistillationConfig::default());
}

/// Tags as TextBrewer's `GeneralDistiller.compute_loss` makes them: student before teacher.
#[test]
fn log_names_are_textbrewers() {
    for (item, name) in [
        (
            IntermediateMatch::hidden(8, 2),
            "unweighted_hidden_hidden_mse_2_8",
        ),
        (
            IntermediateMatch::attention(-1, 0),
            "unweighted_attention_attention_mse_0_-1",
        ),
        (
            IntermediateMatch::new("hidden", [0, 4], [0, 2]).loss("fsp"),
            "unweighted_hidden_fsp_0-2_0-4",
        ),
    ] {
        assert_eq!(item.log_name(), name);
    }
}

#[test]
fn configurations_are_shown_as_an_aligned_list() {
    assert_eq!(
        TrainingConfig::default()
            .device(Device::Cpu)
            .log_dir("logs")
            .to_string(),
        "\
gradient_accumulation_steps : 1
ckpt_frequency              : 1
ckpt_epoch_frequency        : 1
ckpt_steps                  : null
log_dir                     : logs
output_dir                  : ./saved_models
device                      : cpu
fp16                        : false
fp16_opt_level              : O1
data_parallel               : false
local_rank                  : -1
clip_projections            : false
step_on_remainder           : false
log_interval                : 20
precision                   : float32
teacher_precision           : null
weigh_by_positions          : null"
    );
    let config = DistillationConfig::default()
        .temperature(8.0)
        .temperature_scheduler(("flsw", [1.0, 2.0]))
        .kd_loss_weight_scheduler("linear_decay")
        .intermediate_matches([
            IntermediateMatch::hidden(8, 2).proj(ProjectionSpec::linear(384, 768)),
            IntermediateMatch::new("hidden", [8, 8], [2, 2])
                .loss("nst")
                .weight(0.5),
        ]);
    assert_eq!(
        config.to_string(),
        r#"temperature                 : 8
temperature_scheduler       : ["flsw",1.0,2.0]
hard_label_weight           : 0
hard_label_weight_scheduler : none
kd_loss_type                : ce
kd_loss_weight              : 1
kd_loss_weight_scheduler    : linear_decay
tau_squared                 : false
standardize_logits          : false
tail                        : bucket
probability_shift           : false
diagnostics                 : null
is_caching_logits           : false
intermediate_matches        : 2
  [0] layer_T : 8, layer_S : 2, feature : hidden, loss : hidden_mse, weight : 1, proj : ["linear",384,768]
  [1] layer_T : [8,8], layer_S : [2,2], feature : hidden, loss : nst, weight : 0.5"#
    );
}

fn finite() -> impl Strategy<Value = f64> {
    use proptest::num::f64;
    f64::POSITIVE | f64::NEGATIVE | f64::NORMAL | f64::SUBNORMAL | f64::ZERO
}

fn positive() -> impl Strategy<Value = f64> {
    use proptest::num::f64;
    f64::POSITIVE | f64::NORMAL | f64::SUBNORMAL
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("a name", |name| !name.is_empty() && name != "none")
}

fn scheduler() -> impl Strategy<Value = Option<PresetSpec>> {
    let positional = (text(), vec(finite(), 0..4))
        .prop_map(|(name, arguments)| PresetSpec::new(name).positional(arguments));
    let named = (text(), btree_map(any::<String>(), finite(), 0..4))
        .prop_map(|(name, arguments)| PresetSpec::new(name).named(arguments));
    option::of(prop_oneof![positional, named])
}

fn group_options() -> impl Strategy<Value = GroupOptions> {
    let beta = || 0.0..1.0;
    (
        option::of(positive()),
        option::of(positive()),
        option::of((beta(), beta())),
        option::of(positive()),
        option::of(positive()),
    )
        .prop_map(|(learning_rate, weight_decay, betas, eps, momentum)| {
            let mut options = GroupOptions::new();
            options.learning_rate = learning_rate;
            options.weight_decay = weight_decay;
            options.betas = betas;
            options.eps = eps;
            options.momentum = momentum;
            options
        })
}

fn projection() -> impl Strategy<Value = Option<ProjectionSpec>> {
    let size = || 1..4096i64;
    option::of((text(), size(), size(), group_options()).prop_map(
        |(name, dim_in, dim_out, options)| {
            ProjectionSpec::new(name, dim_in, dim_out).options(options)
        },
    ))
}

fn layers() -> impl Strategy<Value = (Layers, Layers)> {
    let one = any::<(i64, i64)>().prop_map(|(t, s)| (t.into(), s.into()));
    let many = vec(any::<(i64, i64)>(), 1..4).prop_map(|pairs| {
        let (teacher, student): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
        (teacher.into(), student.into())
    });
    prop_oneof![one, many]
}

fn intermediate_match() -> impl Strategy<Value = IntermediateMatch> {
    (layers(), text(), text(), finite(), projection()).prop_map(
        |((teacher, student), feature, loss, weight, projection)| {
            let item = IntermediateMatch::new(feature, teacher, student)
                .loss(loss)
                .weight(weight);
            match projection {
                Some(projection) => item.proj(projection),
                None => item,
            }
        },
    )
}

fn distillation() -> impl Strategy<Value = DistillationConfig> {
    (
        (positive(), finite(), finite()),
        (scheduler(), scheduler(), scheduler()),
        text(),
        (any::<bool>(), option::of(1..=1000u64)),
        vec(intermediate_match(), 0..4),
    )
        .prop_map(|(numbers, schedulers, kd_loss_type, options, matches)| {
            let mut config = DistillationConfig::default()
                .temperature(numbers.0)
                .hard_label_weight(numbers.1)
                .kd_loss_weight(numbers.2)
                .kd_loss_type(kd_loss_type)
                .probability_shift(options.0)
                .diagnostics(options.1)
                .intermediate_matches(matches);
            config.temperature_scheduler = schedulers.0;
            config.hard_label_weight_scheduler = schedulers.1;
            config.kd_loss_weight_scheduler = schedulers.2;
            config
        })
}

fn precision() -> impl Strategy<Value = Precision> {
    prop_oneof![
        Just(Precision::Float32),
        Just(Precision::Bf16),
        Just(Precision::Fp16)
    ]
}

fn training() -> impl Strategy<Value = TrainingConfig> {
    (
        (1..u64::MAX, 1..u64::MAX, 1..u64::MAX),
        (option::of(1..u64::MAX), option::of(1..u64::MAX)),
        (option::of(text()), text(), text()),
        prop_oneof![Just(Device::Cpu), (0..16usize).prop_map(Device::Cuda)],
        any::<[bool; 4]>(),
        any::<i64>(),
        (precision(), option::of(precision())),
    )
        .prop_map(|(counts, steps, texts, device, on, rank, precisions)| {
            let mut config = TrainingConfig::default()
                .gradient_accumulation_steps(counts.0)
                .ckpt_frequency(counts.1)
                .ckpt_epoch_frequency(counts.2)
                .ckpt_steps(steps.0)
                .log_interval(steps.1)
                .output_dir(texts.1)
                .fp16_opt_level(texts.2)
                .device(device)
                .fp16(on[0])
                .data_parallel(on[1])
                .clip_projections(on[2])
                .step_on_remainder(on[3])
                .local_rank(rank)
                .precision(precisions.0)
                .teacher_precision(precisions.1);
            config.log_dir = texts.0.map(PathBuf::from);
            config
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_distillation_config_is_the_same_after_json(config in distillation()) {
        config.validate().unwrap();
        let json = config.to_json_string().unwrap();
        prop_assert_eq!(DistillationConfig::from_json_str(&json).unwrap(), config, "{}", json);
    }

    #[test]
    fn a_training_config_is_the_same_after_json(config in training()) {
        let json = config.to_json_string().unwrap();
        prop_assert_eq!(TrainingConfig::from_json_str(&json).unwrap(), config, "{}", json);
    }
}
