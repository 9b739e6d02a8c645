//! The measured times as a line of JSON.

use std::time::Instant;

use serde_json::json;
use tch::Device;
use textbrewer::{Distiller, Error, Result, TrainSummary, backend};

use crate::Options;
use crate::shape::Shape;
use crate::timed::Timed;

/// The first keys are those of the Python scripts that the times are compared with.
pub fn line<D: Distiller>(
    options: &Options,
    timed: &Timed<D>,
    batches_per_epoch: u64,
    run_started: Instant,
    summary: &TrainSummary,
) -> Result<serde_json::Value> {
    let before = options.steps_before(batches_per_epoch);
    let epochs = (before + options.steps).div_ceil(batches_per_epoch);
    let starts = timed.starts.get(before as usize..).unwrap_or_default();
    let mut steps: Vec<f64> = (starts.iter().zip(starts.iter().skip(1)))
        .map(|(begin, end)| end.duration_since(*begin).as_secs_f64())
        .collect();
    steps.sort_by(f64::total_cmp);
    let (Some(fastest), Some(median), Some(first), Some(last)) = (
        steps.first(),
        steps.get(steps.len() / 2),
        starts.first(),
        starts.last(),
    ) else {
        return Err(Error::other("no step was measured"));
    };
    let mut line = match options.shape {
        Shape::RandomTokens => json!({
            "steps": steps.len(),
            "median_step_s": median,
            "min_step_s": fastest,
            "total_s": last.duration_since(*first).as_secs_f64(),
            "peak_rss_mb": timed.peak_rss_mb,
            "peak_gpu_mb": peak_gpu_mb(timed.config().device)?,
        }),
        Shape::Tiny => {
            // Python's time holds the beginning of the run too. With a cache the first epoch
            // is between the two.
            let begin = if before == 0 { run_started } else { *first };
            let total = last.duration_since(begin).as_secs_f64();
            json!({
                "steps": steps.len(),
                "ms_per_step": total / steps.len() as f64 * 1e3,
                "median_step_ms": median * 1e3,
            })
        }
    };
    let config = serde_json::to_value(timed.config()).map_err(Error::other)?;
    let teacher_precision = options.teacher_precision.unwrap_or(options.precision);
    let cache_mb = summary.cache_bytes.map(|bytes| bytes as f64 / 1048576.0);
    for (key, value) in [
        ("shape", json!(options.shape.name())),
        ("student", json!(options.student.name())),
        ("device", json!(config["device"])),
        ("threads", json!(tch::get_num_threads())),
        ("precision", json!(options.precision)),
        ("teacher_precision", json!(teacher_precision)),
        ("cached", json!(options.cache)),
        ("memory_kept", json!(!options.return_memory)),
        ("measured_from_epoch", json!(1 + u64::from(options.cache))),
        ("cache_mb", json!(cache_mb)),
        ("epochs", json!(epochs)),
        ("final_loss", json!(summary.losses.get("total_loss"))),
    ] {
        line[key] = value;
    }
    Ok(line)
}

/// Peak memory allocated on a GPU so far.
fn peak_gpu_mb(device: Device) -> Result<Option<f64>> {
    if !device.is_cuda() {
        return Ok(None);
    }
    let memory = backend::memory(device)?;
    Ok(Some(memory.peak_allocated as f64 / 1048576.0))
}

/// Peak resident size of this process so far, if the system reports it.
pub fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}
