//! A student trained by as many processes as were started: one for each GPU, or for some cores of
//! a CPU. The program is the same for one and for many:
//!
//! ```sh
//! ./cargow build --release --examples
//! cd target/release/examples
//! ./data_parallel                                                   # one
//! ./launch -n 2 --max-restarts 3 ./data_parallel                    # two on this machine
//! torchrun --standalone --nproc-per-node 2 --no-python ./data_parallel
//! # In a batch script of Slurm, on all its machines:
//! export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1) MASTER_PORT=29500
//! srun ./data_parallel
//! ```
//!
//! Ctrl-C saves and ends all of them. Started again, by hand or because one was killed, they go on
//! from the newest checkpoint. `--output-dir` is a folder that all of them see.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::data::Uneven;
use textbrewer::distributed::{ProcessGroup, Reduce};
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs, LogitsOutput};
use textbrewer::{
    AdamW, AdaptorOutput, BasicDistiller, Batch, BoxError, DataLoader, Distiller, Model, Result,
    TensorLoader, TrainingConfig, from_fn,
};

/// Trains a student, alone or as one of several processes.
#[derive(Parser)]
struct Options {
    /// The folder for checkpoints, the same for all processes.
    #[arg(long, default_value = "data_parallel_output")]
    output_dir: PathBuf,
    /// Number of epochs.
    #[arg(long, default_value_t = 4)]
    epochs: u64,
    /// Examples in a step, of all processes together.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
}

const VOCABULARY: i64 = 50;
/// Odd, so that there is always a majority.
const LENGTH: i64 = 9;

fn main() -> ExitCode {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        // Whoever started it is to know that it is not done.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // In one piece, for other processes write too.
            let message = format!("Error: {error}\n");
            drop(std::io::stderr().write_all(message.as_bytes()));
            ExitCode::FAILURE
        }
    }
}

/// Whether the training is complete.
fn run() -> std::result::Result<bool, BoxError> {
    let options = Options::parse();
    let group = ProcessGroup::from_env()?;

    // Every process makes the same data, and the run gives each its share. A batch size is that of
    // one process: this way a step sees as many examples however many processes there are.
    tch::manual_seed(7);
    let batch_size = options.batch_size.div_ceil(group.world_size());
    let mut loader = sequences(2000, batch_size)?.shuffle(1).map(inputs);
    let unseen = sequences(501, batch_size)?.map(inputs);
    // For evaluation each process has some of the batches, and no sequence comes twice.
    let mut share = unseen.shard(group.shard(Uneven::Keep)?);

    // Are most of a sequence's numbers even? A rule stands in for a large model.
    let teacher = from_fn(|batch: &BertInputs, _| {
        let odd = batch.input_ids.f_bitwise_and(1)?;
        let odd = odd.f_mean_dim([1i64].as_slice(), false, Kind::Float)?;
        let logits = Tensor::f_stack(&[&odd, &(1 - &odd)], 1)?.f_mul_scalar(10)?;
        Ok(LogitsOutput::new(logits))
    });
    let variables = VarStore::new(group.device());
    let student = BertForSequenceClassification::new(&variables.root(), &bert())?;
    let config = TrainingConfig::default().device(group.device());
    let mut distiller = BasicDistiller::builder(&teacher, &student, &variables)
        .train_config(config.output_dir(options.output_dir))
        .adaptor(|_, output: &LogitsOutput| Ok(AdaptorOutput::new().logits(&output.logits)))
        .build()?;

    // All processes do all of this, and one tells of it.
    if group.is_first() {
        println!("{:>6}{:>8}{:>12}{:>10}", "epoch", "step", "loss", "right");
    }
    let summary = distiller
        .train(&mut loader)
        .epochs(options.epochs)
        .optimizer(AdamW::new(3e-3))
        .process_group(&group)
        .handle_interrupts()
        .resume_or_start()
        .callback(|student, checkpoint| {
            let accuracy = accuracy(&teacher, student, &mut share, &group)?;
            if group.is_first() {
                let loss = checkpoint.mean_losses.get("total_loss");
                let loss = loss.copied().unwrap_or(f64::NAN);
                let (epoch, step) = (checkpoint.epoch, checkpoint.global_step);
                println!("{epoch:>6}{step:>8}{loss:>12.4}{accuracy:>8.1} %");
            }
            Ok(accuracy)
        })
        .run()?;
    if group.is_first() {
        let ended = match summary.interrupted {
            true => "interrupted",
            false => "done",
        };
        let (steps, count) = (summary.global_steps, group.world_size());
        println!("{ended} after {steps} steps of {count} process(es) with {batch_size} examples");
    }
    Ok(!summary.interrupted)
}

/// Of how many sequences student and teacher say the same, in percent: each process looks at its
/// share, and all learn the sum.
fn accuracy(
    teacher: &dyn Model<BertInputs, Output = LogitsOutput>,
    student: &BertForSequenceClassification,
    share: &mut dyn DataLoader<Batch = BertInputs>,
    group: &ProcessGroup,
) -> Result<f64> {
    let (mut right, mut all) = (0, 0);
    for batch in share.epoch(1)? {
        let batch = batch?.to_device(group.device())?;
        let truth = teacher.forward(&batch, false)?.logits.f_argmax(-1, false)?;
        let said = student.forward(&batch, false)?.logits.f_argmax(-1, false)?;
        let hits = said.f_eq_tensor(&truth)?.f_sum(Kind::Int64)?;
        right += hits.f_int64_value(&[])?;
        all += truth.size1()?;
    }
    let counts = Tensor::f_from_slice(&[right, all])?;
    let counts = group.all_reduce(&counts, Reduce::Sum)?;
    Ok(100.0 * counts.f_int64_value(&[0])? as f64 / counts.f_int64_value(&[1])? as f64)
}

/// Small, and without dropout, which each process draws for itself.
fn bert() -> BertConfig {
    BertConfig::default()
        .vocab_size(VOCABULARY)
        .max_position_embeddings(LENGTH)
        .num_hidden_layers(2)
        .hidden_size(32)
        .num_attention_heads(2)
        .intermediate_size(64)
        .hidden_dropout_prob(0.0)
        .attention_probs_dropout_prob(0.0)
        .num_labels(2)
}

/// Random sequences of numbers.
fn sequences(count: i64, batch_size: usize) -> Result<TensorLoader> {
    let numbers = Tensor::f_randint(VOCABULARY, [count, LENGTH], (Kind::Int64, Device::Cpu))?;
    TensorLoader::new(vec![numbers], batch_size)
}

fn inputs(mut tensors: Vec<Tensor>) -> Result<BertInputs> {
    Ok(BertInputs::new(tensors.swap_remove(0)))
}
