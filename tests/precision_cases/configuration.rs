//! Which keys lead to which precision, and when they are written.

use Precision::{Bf16, Float32, Fp16};
use serde_json::{Value, json};
use tch::Device;
use textbrewer::config::Precision;
use textbrewer::{Side, TrainingConfig};

#[test]
fn fp16_is_bf16_on_the_cpu_and_fp16_on_cuda() {
    let cpu = || TrainingConfig::default().device(Device::Cpu);
    let cuda = || TrainingConfig::default().device(Device::Cuda(0));
    for (config, student, teacher) in [
        (cpu(), Float32, Float32),
        (cuda(), Float32, Float32),
        (cpu().fp16(true), Bf16, Bf16),
        (cuda().fp16(true), Fp16, Fp16),
        (cuda().fp16(true).fp16_opt_level("O2"), Fp16, Fp16),
        (cuda().fp16(true).fp16_opt_level("O0"), Float32, Float32),
        (cpu().fp16(true).fp16_opt_level("O0"), Float32, Float32),
        // The level counts only where `fp16` is true.
        (cuda().fp16_opt_level("O2"), Float32, Float32),
        (cuda().fp16(true).teacher_precision(Bf16), Fp16, Bf16),
        (cpu().precision(Fp16), Fp16, Fp16),
        (cuda().precision(Bf16), Bf16, Bf16),
        (
            cpu().precision(Bf16).teacher_precision(Float32),
            Bf16,
            Float32,
        ),
        (cpu().teacher_precision(Bf16), Float32, Bf16),
    ] {
        let found = [Side::Student, Side::Teacher].map(|side| config.precision_of(side));
        assert_eq!(found, [student, teacher], "{config}");
    }
}

#[test]
fn the_keys_are_written_only_when_they_say_something() {
    let written = |config: TrainingConfig| -> (Value, Value) {
        let json = config.to_json_string().unwrap();
        assert_eq!(TrainingConfig::from_json_str(&json).unwrap(), config);
        let mut json: Value = serde_json::from_str(&json).unwrap();
        let mut take = |key: &str| json.as_object_mut().unwrap().remove(key);
        let mut text = |key| take(key).unwrap_or_else(|| json!("absent"));
        (text("precision"), text("teacher_precision"))
    };
    let config = TrainingConfig::default;
    for (config, precision, teacher_precision) in [
        (config(), "absent", "absent"),
        (config().precision(Float32), "absent", "absent"),
        (config().precision(Bf16), "bf16", "absent"),
        (config().precision(Fp16), "fp16", "absent"),
        (config().teacher_precision(Float32), "absent", "float32"),
        (
            config().precision(Bf16).teacher_precision(Fp16),
            "bf16",
            "fp16",
        ),
        (config().fp16(true), "absent", "absent"),
    ] {
        let expected = (json!(precision), json!(teacher_precision));
        assert_eq!(written(config), expected);
    }
}
