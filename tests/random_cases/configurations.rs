//! Configurations that are valid, for models that mostly fit them.

use std::path::Path;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::Device;
use textbrewer::config::Precision;
use textbrewer::{
    DistillationConfig, EmdConfig, IntermediateMatch, LayerWeights, ProjectionSpec, TrainingConfig,
};

use crate::models::Says;
use crate::one;

/// The student's sizes come second.
type Sizes<'a> = (&'a Says, &'a Says);

pub fn training(random: &mut ChaCha8Rng, folder: &Path) -> TrainingConfig {
    let mut config = TrainingConfig::default()
        .device(Device::Cpu)
        .output_dir(folder.join("models"))
        .gradient_accumulation_steps(*one(random, &[1, 1, 1, 1, 2, 2, 3]))
        .ckpt_frequency(*one(random, &[1, 1, 2, u64::MAX]))
        .ckpt_epoch_frequency(*one(random, &[1, 1, 2, u64::MAX]))
        .ckpt_steps(*one(
            random,
            &[None, None, Some(1), Some(2), Some(u64::MAX)],
        ))
        .clip_projections(random.random())
        .step_on_remainder(random.random())
        .log_interval(*one(random, &[Some(20), Some(1), Some(u64::MAX), None]));
    if random.random_bool(0.2) {
        config = config.log_dir(folder.join("logs"));
    }
    if random.random_bool(0.2) {
        config = config.precision(*one(random, &[Precision::Bf16, Precision::Fp16]));
    }
    if random.random_bool(0.2) {
        let precisions = [Precision::Float32, Precision::Bf16, Precision::Fp16];
        config = config.teacher_precision(*one(random, &precisions));
    }
    config
}

pub fn distillation(
    random: &mut ChaCha8Rng,
    sizes: Sizes<'_>,
    teachers: usize,
) -> DistillationConfig {
    let losses = [
        "ce",
        "ce",
        "mse",
        "kl",
        "bce",
        "regression_mse",
        "smooth_l1",
    ];
    let mut config = DistillationConfig::default()
        .temperature(*one(random, &[4.0, 1.0, 8.0, 0.1, 1e3, 1e-30]))
        .kd_loss_type(*one(random, &losses))
        .kd_loss_weight(*one(random, &[1.0, 0.5, 0.0, -1.0, 1e30]))
        .hard_label_weight(*one(random, &[0.0, 1.0, 1e-3]))
        .probability_shift(random.random_bool(0.2));
    if random.random_bool(0.3) {
        config = match random.random_range(0..4) {
            0 => config.temperature_scheduler("constant"),
            1 => config.temperature_scheduler(("flsw", [1.0, 2.0])),
            2 => config.temperature_scheduler(("flsw", [100.0, -1.0])),
            _ => config.temperature_scheduler(("cwsm", [*one(random, &[1.0, -50.0])])),
        };
    }
    let schedules = ["linear_decay", "linear_growth", "none"];
    if random.random_bool(0.2) {
        config = config.kd_loss_weight_scheduler(*one(random, &schedules));
    }
    if random.random_bool(0.2) {
        config = config.hard_label_weight_scheduler(*one(random, &schedules));
    }
    let matches = (0..*one(random, &[0, 0, 1, 2, 3])).map(|_| matching(random, sizes, teachers));
    config = config.intermediate_matches(matches.collect::<Vec<_>>());
    if random.random_bool(0.3) {
        config = config
            .is_caching_logits(true)
            .cache_features(random.random_bool(0.95))
            .cache_dtype(*one(
                random,
                &[None, Some(Precision::Bf16), Some(Precision::Fp16)],
            ))
            .cache_limit_mb(*one(
                random,
                &[None, None, Some(1), Some(1), Some(u64::MAX), Some(0)],
            ));
    }
    config
}

fn matching(random: &mut ChaCha8Rng, sizes: Sizes<'_>, teachers: usize) -> IntermediateMatch {
    let (teacher, student) = sizes;
    let mut layer = |layers: i64| match random.random_bool(0.97) {
        true => random.random_range(-layers..layers),
        false => *one(random, &[7, -7, i64::MAX, i64::MIN]),
    };
    let [first, second] = [layer(teacher.layers), layer(teacher.layers)];
    let [one_s, other_s] = [layer(student.layers), layer(student.layers)];
    let single = ["hidden_mse", "cos", "pkd"];
    let several = ["fsp", "gram", "mmd", "nst"];
    let attentions = [
        "attention_mse",
        "attention_mse_sum",
        "attention_ce",
        "attention_ce_mean",
    ];
    let mut matched = match random.random_range(0..3) {
        0 => IntermediateMatch::hidden(first, one_s).loss(*one(random, &single)),
        1 => IntermediateMatch::hidden([first, second], [one_s, other_s])
            .loss(*one(random, &several)),
        _ => IntermediateMatch::attention(first, one_s).loss(*one(random, &attentions)),
    };
    if matched.feature == "hidden" && random.random_bool(0.9) {
        matched = matched.proj(projection(random, sizes));
    }
    if random.random_bool(0.3) {
        let missing = usize::from(random.random_bool(0.1));
        matched = matched.teacher(random.random_range(0..teachers + missing));
    }
    matched.weight(*one(random, &[1.0, 0.1, 0.0, -1.0]))
}

fn projection(random: &mut ChaCha8Rng, (teacher, student): Sizes<'_>) -> ProjectionSpec {
    let name = *one(random, &["linear", "relu", "tanh"]);
    let mut proj = ProjectionSpec::new(name, student.width, teacher.width);
    if random.random() {
        proj = proj.learning_rate(1e-3).weight_decay(0.1);
    }
    proj
}

pub fn emd(random: &mut ChaCha8Rng, sizes: Sizes<'_>) -> EmdConfig {
    let mut config = EmdConfig::default()
        .hidden_weight(*one(random, &[1.0, 1.0, 1.0, 1.0, 0.5, 0.0]))
        .attention_weight(*one(random, &[1.0, 0.5, 0.0]))
        .hidden_loss(*one(random, &["hidden_mse", "cos"]))
        .attention_loss(*one(
            random,
            &["attention_mse", "attention_mse_sum", "attention_ce"],
        ));
    if random.random_bool(0.8) {
        config = config.hidden_projection(projection(random, sizes));
    }
    if random.random_bool(0.3) {
        let temperature = *one(random, &[1.0, 2.0, 1e-3, 1e9]);
        config = config.layer_weights(LayerWeights::Reestimated { temperature });
    }
    config
}
