//! A checkpoint whose files a stranger changed: checksums are no secret, so they are right.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, Distiller, Result, TrainSummary, TrainingConfig, VecLoader,
    from_fn,
};

use crate::mutate::Mutator;

const MANIFEST: &str = "manifest.json";
const FILES: [&str; 5] = [
    "progress.json",
    "student.safetensors",
    "optimizer.safetensors",
    "distiller.safetensors",
    "random.safetensors",
];

/// The state folder of a run that is complete, and its files as they were written.
pub struct Checkpoint {
    output_dir: PathBuf,
    state: PathBuf,
    manifest: String,
    files: Vec<Vec<u8>>,
}

impl Checkpoint {
    pub fn new(folder: &Path) -> Self {
        let output_dir = folder.join("run");
        train(&output_dir, None).unwrap();
        let state = output_dir.join("state/gs3");
        // The one before would be used where this is refused.
        std::fs::remove_dir_all(output_dir.join("state/gs2")).unwrap();
        let read = |name: &str| std::fs::read(state.join(name)).unwrap();
        Checkpoint {
            manifest: String::from_utf8(read(MANIFEST)).unwrap(),
            files: FILES.map(read).into(),
            output_dir,
            state,
        }
    }

    /// The number of a file, that of the manifest being the last, and what is in it.
    pub fn mutate(&self, mutator: &mut Mutator) -> Vec<u8> {
        let index = match mutator.below(3) {
            0 => FILES.len(),
            1 => 0,
            _ => 1 + mutator.below(FILES.len() - 1),
        };
        let mut input = vec![index as u8];
        input.extend(match self.files.get(index) {
            None => mutator.json(&[&self.manifest]),
            Some(text) if index == 0 => mutator.json(&[std::str::from_utf8(text).unwrap()]),
            Some(file) => mutator.weights(std::slice::from_ref(file)),
        });
        input
    }

    /// Writes what [`mutate`](Self::mutate) made, and lets the run go on from it.
    pub fn resume(&self, input: &[u8]) -> Result<()> {
        let (index, content) = input.split_first().unwrap();
        let index = usize::from(*index);
        let write = |name: &str, content: &[u8]| {
            // Not into a file that has other names.
            let path = self.state.join(name);
            std::fs::remove_file(&path).unwrap();
            std::fs::write(path, content).unwrap();
        };
        match FILES.get(index) {
            None => write(MANIFEST, content),
            Some(name) => {
                write(name, content);
                let mut manifest: Value = serde_json::from_str(&self.manifest).unwrap();
                let crc32 = crc32fast::hash(content);
                manifest["files"][name] = json!({ "bytes": content.len(), "crc32": crc32 });
                write(MANIFEST, manifest.to_string().as_bytes());
            }
        }
        let elsewhere = self.output_dir.with_file_name("resumed");
        let resumed = train(&elsewhere, Some(&self.output_dir));
        write(MANIFEST, self.manifest.as_bytes());
        if let (Some(name), Some(file)) = (FILES.get(index), self.files.get(index)) {
            write(name, file);
        }
        resumed.map(|summary| assert!(summary.resumed_from.is_some()))
    }
}

/// Three optimizer steps of two batches each, or what is left of them.
fn train(output_dir: &Path, from: Option<&Path>) -> Result<TrainSummary> {
    let variables = VarStore::new(Device::Cpu);
    let layer = nn::linear(variables.root(), 3, 2, Default::default());
    let model = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
    let config = TrainingConfig::default()
        .device(Device::Cpu)
        .output_dir(output_dir)
        .gradient_accumulation_steps(2)
        .ckpt_steps(1);
    let mut trainer = BasicTrainer::builder(&model, &variables)
        .train_config(config)
        .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.square())))
        .build()?;
    let batches = (0..4).map(|n| Tensor::full([1, 3], n as f64, (Kind::Float, Device::Cpu)));
    let mut loader = VecLoader::new(batches.collect())?.shuffle(1);
    let run = trainer
        .train(&mut loader)
        .steps(3)
        .optimizer(AdamW::new(0.1))
        .progress(false)
        .callback(|_, info| Ok(info.global_step as f64));
    match from {
        Some(folder) => run.resume(folder).overwrite(true).save_state(false).run(),
        None => run.run(),
    }
}
