//! A head and a divergence of 1,024 positions: logits all at once, or some positions at a time.
//!
//! Prints a line of JSON: the median seconds of forward and backward pass, with the gradients of hidden
//! states and head, the peak of bytes beyond the inputs, the loss, and the norm of the hidden states'
//! gradient. The book's chapter on performance says what it is compared with.

use std::error::Error;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use serde_json::json;
use tch::{Device, Kind, Tensor};
use textbrewer::config::{PresetSpec, parse_device};
use textbrewer::logits::FromHidden;
use textbrewer::{KdInput, Logits, Presets};

/// A head and a divergence: logits all at once, or some positions at a time.
#[derive(Debug, Parser)]
struct Options {
    /// How the logits are made.
    #[arg(value_enum)]
    mode: Mode,
    /// Number of classes.
    vocabulary: i64,
    /// 0: forward KL; 1: reverse KL; between: generalised JSD.
    beta: f64,
    #[arg(default_value_t = 1024)]
    positions: i64,
    #[arg(default_value_t = 512)]
    hidden: i64,
    #[arg(default_value_t = 3)]
    repeats: usize,
    /// Another loss on logits, by its name.
    #[arg(long)]
    loss: Option<String>,
    /// Bytes for the logits of some positions at a time.
    #[arg(long)]
    bytes: Option<u64>,
    /// The share of positions that count.
    #[arg(long, default_value_t = 1.0)]
    kept: f64,
    /// float32 or bf16.
    #[arg(long, default_value = "float32")]
    precision: String,
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Dense,
    Fused,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let device = parse_device(&options.device)?;
    let kind = match options.precision.as_str() {
        "float32" => Kind::Float,
        "bf16" => Kind::BFloat16,
        other => return Err(format!("--precision {other}: float32 or bf16").into()),
    };
    tch::manual_seed(0);
    let numbers = |rows: i64, scale: f64| -> Tensor {
        let numbers = Tensor::randn([rows, options.hidden], (Kind::Float, device)) * scale;
        numbers.to_kind(kind)
    };
    let hidden = numbers(options.positions, 1.0).set_requires_grad(true);
    let of_teacher = numbers(options.positions, 1.0);
    let weight = numbers(options.vocabulary, 0.05).set_requires_grad(true);
    let weight_of_teacher = numbers(options.vocabulary, 0.05);
    let counts = Tensor::rand([options.positions], (Kind::Float, device)).lt(options.kept);
    let counts = counts.to_kind(Kind::Float);
    let spec: PresetSpec = match (&options.loss, options.beta) {
        (Some(name), _) => name.as_str().into(),
        (None, 0.0) => "forward_kl".into(),
        (None, 1.0) => "reverse_kl".into(),
        (None, beta) => ("generalized_jsd", [beta]).into(),
    };
    let loss = Presets::default().find_kd_loss("loss", spec)?;
    let logits = |hidden: &Tensor, weight: &Tensor| -> Result<Logits, textbrewer::Error> {
        let mut logits = FromHidden::new(hidden, weight)?;
        if let Some(bytes) = options.bytes {
            logits = logits.bytes_at_once(bytes);
        }
        Ok(match options.mode {
            Mode::Fused => logits.into(),
            Mode::Dense => Logits::from(logits).whole()?.into(),
        })
    };
    let run = || -> Result<Tensor, textbrewer::Error> {
        let teacher = tch::no_grad(|| logits(&of_teacher, &weight_of_teacher))?;
        let input = KdInput::new(logits(&hidden, &weight)?, teacher, 1.0)?;
        let input = match options.kept < 1.0 {
            true => input.with_weights(&counts),
            false => input,
        };
        loss.apply(&input)
    };
    let before = peak_bytes(device);
    let (mut times, mut value) = (Vec::new(), f64::NAN);
    for _ in 0..=options.repeats {
        for leaf in [&hidden, &weight] {
            leaf.shallow_clone().zero_grad();
        }
        wait_for(device);
        let start = Instant::now();
        let loss = run()?;
        loss.backward();
        wait_for(device);
        times.push(start.elapsed().as_secs_f64());
        value = loss.double_value(&[]);
    }
    let mut times = times.split_off(1);
    times.sort_by(f64::total_cmp);
    let line = json!({
        "mode": format!("{:?}", options.mode).to_lowercase(),
        "vocabulary": options.vocabulary,
        "beta": options.beta,
        "positions": options.positions,
        "hidden": options.hidden,
        "median_s": times.get(options.repeats / 2),
        "peak_bytes": peak_bytes(device) - before,
        "loss": value,
        "gradient_norm": hidden.grad().to_kind(Kind::Double).norm().double_value(&[]),
        "threads": tch::get_num_threads(),
    });
    println!("{line}");
    Ok(())
}

fn wait_for(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// The most bytes that the process has had in memory, or tensors on the device.
fn peak_bytes(device: Device) -> i64 {
    if let Device::Cuda(_) = device {
        let memory = textbrewer::backend::memory(device);
        return memory.map_or(0, |memory| memory.peak_allocated as i64);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
