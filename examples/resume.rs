//! A distillation that can be interrupted at any moment and continues when it is started again.
//!
//! ```sh
//! cargo run --release --example resume -- --output-dir resumed
//! ```
//!
//! Ctrl-C stops it after the current step, and a second Ctrl-C at once; it also survives
//! `kill -9`. Started again with the same options it ends with the same weights, to the last bit,
//! as without an interruption. Several processes (`torchrun --no-python`, `srun`, or the example
//! `launch`) train together, and go on together.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::Parser;
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::checkpoint::Keep;
use textbrewer::distributed::ProcessGroup;
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    AdamW, AdaptorOutput, DataLoader, DistillationConfig, Distiller, GeneralDistiller,
    IntermediateMatch, LogSink, Model, ProjectionSpec, Result, TensorLoader, TrainingConfig,
};

#[derive(Debug, Parser)]
struct Options {
    /// The folder for checkpoints.
    #[arg(long, default_value = "resume_output")]
    output_dir: PathBuf,
    /// Number of epochs.
    #[arg(long, default_value_t = 4)]
    epochs: u64,
    /// Print each loss and each file operation, and wait for a line of input before continuing, so
    /// that a test can kill the process at a moment of its choice.
    #[arg(long)]
    announce: bool,
}

/// Two layers and a head, with dropout.
struct Network {
    first: nn::Linear,
    second: nn::Linear,
    head: nn::Linear,
}

struct Output {
    logits: Tensor,
    hidden: Tensor,
}

impl Network {
    fn new(variables: &VarStore, width: i64) -> Self {
        let root = variables.root();
        Network {
            first: nn::linear(&root / "first", 8, width, Default::default()),
            second: nn::linear(&root / "second", width, width, Default::default()),
            head: nn::linear(&root / "head", width, 3, Default::default()),
        }
    }
}

impl Model<Tensor> for Network {
    type Output = Output;

    fn forward(&self, batch: &Tensor, train: bool) -> Result<Output> {
        let hidden = self.first.forward(batch).gelu("none").dropout(0.1, train);
        let hidden = self.second.forward(&hidden).gelu("none");
        Ok(Output {
            logits: self.head.forward(&hidden.dropout(0.1, train)),
            hidden,
        })
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    if options.announce {
        log::set_logger(&FileOperations)?;
        log::set_max_level(log::LevelFilter::Trace);
    } else {
        env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    }
    // Of one process, unless several were started.
    let group = ProcessGroup::from_env()?;
    // The same teacher, data and initial student each time.
    tch::manual_seed(7);
    let (teacher_vars, student_vars) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let teacher = Network::new(&teacher_vars, 24);
    let student = Network::new(&student_vars, 120);
    let rows = Tensor::randn([26, 8], (Kind::Float, Device::Cpu));
    let mut loader = TensorLoader::new(vec![rows], 4)?
        .shuffle(1)
        .map(|tensors| Ok(tensors[0].shallow_clone()));
    let projected = IntermediateMatch::hidden(0, 0)
        .loss("hidden_mse")
        .proj(ProjectionSpec::linear(120, 24));
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student_vars)
        .train_config(
            TrainingConfig::default()
                .device(Device::Cpu)
                .output_dir(&options.output_dir)
                .gradient_accumulation_steps(2)
                .ckpt_frequency(2)
                .log_interval(1),
        )
        .distill_config(
            // A loss that remembers: its target moves with each step, and goes on where it was.
            DistillationConfig::default()
                .kd_loss_type(("taid", [0.2, 0.9, 0.3, 0.5]))
                .intermediate_matches([projected]),
        )
        .adaptor(|_, output: &Output| {
            let layers = std::slice::from_ref(&output.hidden);
            Ok(AdaptorOutput::new().logits(&output.logits).hidden(layers))
        })
        .build()?;
    let mut run = distiller
        .train(&mut loader)
        .epochs(options.epochs)
        .optimizer(AdamW::new(1e-2))
        .schedule(linear_with_warmup(2, 12))
        .max_grad_norm(1.0)
        .keep(Keep::last(2))
        .process_group(&group)
        .handle_interrupts()
        .resume_or_start();
    if options.announce {
        run = run.log_sink(Losses);
    }
    let summary = run.run()?;
    if !group.is_first() {
        return Ok(());
    }
    if let Some(step) = summary.resumed_from {
        println!("resumed from step {step}");
    }
    match summary.interrupted {
        true => println!("interrupted after step {}", summary.global_steps),
        false => println!("done after step {}", summary.global_steps),
    }
    Ok(())
}

/// Prints a line and waits for one.
fn announce(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

struct Losses;

impl LogSink for Losses {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        announce(&format!("loss {tag} {step} {:016x}", value.to_bits()));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

struct FileOperations;

impl log::Log for FileOperations {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "textbrewer::checkpoint"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            announce(&format!("file {}", record.args()));
        }
    }

    fn flush(&self) {}
}
