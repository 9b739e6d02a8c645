//! A teacher as a file: what it says is computed once, kept on disk, and found by the example.
//!
//! The first part records a teacher; the second trains students from the file alone, in other batches
//! and another order. `cargo run --example teacher_file -- --help` explains the options.

use std::path::PathBuf;

use clap::Parser;
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::data::{DataLoader, TensorLoader};
use textbrewer::teacher_file::{Recording, Stored, hash_of_variables};
use textbrewer::{
    AdamW, AdaptorOutput, Distiller, GeneralDistiller, Ids, TeacherFile, TrainingConfig, from_fn,
};

/// Records a teacher, then distils from the file.
#[derive(Parser)]
struct Options {
    /// The folder that the file is kept in, and found again; not at all by default.
    #[arg(long)]
    teacher_file: Option<PathBuf>,
}

type Batch = (Ids, Vec<Tensor>);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tch::manual_seed(0);
    let unkept = tempfile::tempdir()?;
    let folder = Options::parse().teacher_file;
    let folder = folder.unwrap_or(unkept.path().join("teacher"));
    let rows = Tensor::f_randn([2048, 16], (Kind::Float, Device::Cpu))?;
    let loader = |batch_size| TensorLoader::new(vec![rows.shallow_clone()], batch_size);

    // Once: a teacher of 4 classes, its logits in 16 bytes for each example.
    let variables = VarStore::new(Device::Cpu);
    let root = variables.root();
    let wide = nn::linear(&root / "wide", 16, 512, Default::default());
    let scores = nn::linear(&root / "scores", 512, 4, Default::default());
    let teacher =
        from_fn(|(_, columns): &Batch, _| Ok(scores.forward(&wide.forward(&columns[0]).f_tanh()?)));
    Recording::new(&folder)
        .logits(Stored::Float32)
        .fact("teacher", hash_of_variables(&variables)?)
        .device(Device::Cpu)
        .run(
            &teacher,
            |_, logits| Ok(AdaptorOutput::new().logits(logits)),
            &mut loader(256)?.with_ids(),
        )?;

    // Whenever a student is trained: the teacher itself is not needed.
    let file = TeacherFile::open(&folder)?;
    file.check_ids(0..2048)?;
    println!("{} examples in {} bytes", file.len(), file.bytes());
    let variables = VarStore::new(Device::Cpu);
    let layer = nn::linear(&variables.root() / "scores", 16, 4, Default::default());
    let student = from_fn(|(_, columns): &Batch, _| Ok(layer.forward(&columns[0])));
    let teacher = file.teacher(|_: &Batch| Ok(AdaptorOutput::new()));
    let config = TrainingConfig::default().device(Device::Cpu);
    let mut distiller = GeneralDistiller::builder(teacher, &student, &variables)
        .train_config(config.output_dir(unkept.path().join("student")))
        .teacher_adaptor(|_, said| Ok(said.shallow_clone()))
        .student_adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
        .build()?;
    let mut batches = loader(32)?.shuffle(7).with_ids();
    let run = distiller
        .train(&mut batches)
        .epochs(5)
        .optimizer(AdamW::new(1e-2));
    let summary = run.run()?;
    println!("{} steps from the file", summary.global_steps);
    Ok(())
}
