//! Every parser of files of the crate, given files that were mutated at random: none panics, and none
//! takes more memory than a few times the file.
//!
//! An input depends on the seed and its number alone. `FUZZ_INPUTS` is how many each parser
//! gets, `FUZZ_SEED` the seed and `FUZZ_FIRST` the first number: a failure names those that
//! bring it back. Many inputs are for an optimised build:
//!
//! ```text
//! FUZZ_INPUTS=1000000 ./cargow test --release --test fuzz -- --nocapture --test-threads 1
//! ```
//!
//! The parsers of the examples' files are in `examples/tasks/tests/task_fuzz.rs`.

#[path = "fuzz_cases/checkpoint.rs"]
mod checkpoint;
#[path = "fuzz_cases/corpus.rs"]
mod corpus;
#[path = "teacher_shards/forge.rs"]
mod forge;
#[path = "fuzz_cases/harness.rs"]
mod harness;
#[path = "teacher_shards/mixture.rs"]
mod mixture;
#[path = "fuzz_cases/mutate.rs"]
mod mutate;
#[path = "fuzz_cases/others.rs"]
mod others;
#[path = "fuzz_cases/teacher.rs"]
mod teacher;
#[path = "fuzz_cases/values.rs"]
mod values;

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification, ModelType};
use textbrewer::weights::{LoadOptions, Names, Transfer, load_file, read, read_metadata, save};
use textbrewer::{
    AdaptorOutput, DistillationConfig, EmdConfig, Error, MultiTeacherDistiller, Presets, Result,
    TrainingConfig, from_fn,
};

use checkpoint::Checkpoint;
use harness::{check_message, fuzz};
use mutate::Mutator;
use teacher::Teacher;

/// JSON in, JSON out, and in again: the same.
fn round_trip<T: PartialEq + std::fmt::Debug>(
    config: &T,
    to: impl Fn(&T) -> Result<String>,
    from: impl Fn(&str) -> Result<T>,
) -> Result<()> {
    let text = to(config)?;
    assert_eq!(&from(&text)?, config, "{text}");
    Ok(())
}

#[test]
fn training_configurations() {
    let mutate = |mutator: &mut Mutator| mutator.json(corpus::TRAINING);
    fuzz("TrainingConfig", 4000, mutate, |input| {
        let config = TrainingConfig::from_json_str(&String::from_utf8_lossy(input))?;
        let _ = config.to_string();
        round_trip(
            &config,
            TrainingConfig::to_json_string,
            TrainingConfig::from_json_str,
        )?;
        config.validate()
    });
}

#[test]
fn distillation_configurations() {
    let mutate = |mutator: &mut Mutator| mutator.json(corpus::DISTILLATION);
    let presets = Presets::default();
    let variables = VarStore::new(Device::Cpu);
    let model = from_fn(|batch: &Tensor, _| Ok(batch.shallow_clone()));
    fuzz("DistillationConfig", 4000, mutate, |input| {
        let config = DistillationConfig::from_json_str(&String::from_utf8_lossy(input))?;
        let _ = config.to_string();
        round_trip(
            &config,
            DistillationConfig::to_json_string,
            DistillationConfig::from_json_str,
        )?;
        config.validate()?;
        // What is looked up by name, and the arguments of schedules. Projections take time.
        let mut config = config;
        for item in &mut config.intermediate_matches {
            let _ = item.log_name();
            item.proj = None;
        }
        if let Some(emd) = &mut config.emd {
            emd.hidden_projection = None;
        }
        let says = |logits: &Tensor| Ok(AdaptorOutput::new().logits(logits));
        MultiTeacherDistiller::builder(&model, &variables)
            .teachers([&model, &model], |_, logits| says(logits))
            .student_adaptor(|_, logits| says(logits))
            .train_config(TrainingConfig::default().device(Device::Cpu))
            .distill_config(config)
            .presets(presets.clone())
            .build()
            .map(drop)
    });
}

#[test]
fn emd_configurations() {
    let mutate = |mutator: &mut Mutator| mutator.json(corpus::EMD);
    fuzz("EmdConfig", 4000, mutate, |input| {
        let config: EmdConfig = serde_json::from_slice(input).map_err(|_| Error::other("JSON"))?;
        config.validate()
    });
}

#[test]
fn bert_configurations() {
    let mutate = |mutator: &mut Mutator| mutator.json(corpus::BERT);
    fuzz("BertConfig", 4000, mutate, |input| {
        let config = BertConfig::from_json_str(&String::from_utf8_lossy(input))?;
        let _ = config.label_count();
        config.validate()
    });
}

#[test]
fn files_of_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let files = corpus::weights(folder.path());
    let variables = VarStore::new(Device::Cpu);
    let root = variables.root();
    let _ = (root.sub("encoder").sub("layer").sub(0)).zeros("bias", &[2]);
    let _ = root.zeros("a", &[2, 3]);
    let options = LoadOptions::new()
        .convert_dtype(true)
        .base_prefix("bert")
        .ignore_missing(Names::All)
        .ignore_unexpected(Names::All);
    let mutate = |mutator: &mut Mutator| mutator.weights(&files);
    fuzz("safetensors", 1500, mutate, |input| {
        std::fs::write(&path, input).unwrap();
        let tensors = read(&path);
        // What the two readers say of one file is the same.
        assert!(read_metadata(&path).is_ok() || tensors.is_err());
        let loaded = load_file(&variables, &path, &options);
        let transferred = Transfer::layers([0])
            .base_prefix("bert")
            .copy_file(&path, &variables);
        if tensors.is_err() {
            check_message(&loaded.expect_err("a bad file was loaded"));
            check_message(&transferred.expect_err("a bad file was copied from"));
        }
        let tensors: Vec<_> = tensors?.into_iter().collect();
        let bytes: usize = tensors
            .iter()
            .map(|(_, t)| t.numel() * t.kind().elt_size_in_bytes())
            .sum();
        assert!(bytes <= input.len(), "{bytes} bytes of tensors");
        save(&path, &tensors, &Default::default())?;
        let again = read(&path)?;
        assert!(
            again
                .into_iter()
                .zip(&tensors)
                .all(|((name, tensor), (known, other))| {
                    name == *known && tensor.size() == other.size() && tensor.kind() == other.kind()
                })
        );
        Ok::<_, Error>(())
    });
}

#[test]
fn folders() {
    let folder = tempfile::tempdir().unwrap();
    let models = [
        ModelType::Bert,
        ModelType::Roberta,
        ModelType::Electra,
        ModelType::DistilBert,
    ]
    .map(|model_type| corpus::folder(folder.path(), model_type));
    let paths = ["config.json", "model.safetensors"].map(|name| folder.path().join(name));
    // Both files in one input, the length of the first before it.
    let mutate = |mutator: &mut Mutator| {
        let (config, weights) = &models[mutator.below(models.len())];
        let (mut json, mut file) = (config.clone().into_bytes(), weights.clone());
        match mutator.below(3) {
            0 => json = mutator.json(&[config]),
            1 => file = mutator.weights(std::slice::from_ref(weights)),
            _ => {
                json = mutator.json(&[config]);
                file = mutator.weights(std::slice::from_ref(weights));
            }
        }
        let mut input = (json.len() as u64).to_le_bytes().to_vec();
        input.append(&mut json);
        input.append(&mut file);
        input
    };
    fuzz("Hugging Face folder", 300, mutate, |input| {
        let (length, rest) = input.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let (json, file) = rest.split_at(length);
        std::fs::write(&paths[0], json).unwrap();
        std::fs::write(&paths[1], file).unwrap();
        let variables = VarStore::new(Device::Cpu);
        BertForSequenceClassification::from_pretrained(&variables, folder.path()).map(|_| ())
    });
}

#[test]
fn checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::new(folder.path());
    let mutate = |mutator: &mut Mutator| checkpoint.mutate(mutator);
    fuzz("checkpoint", 200, mutate, |input| checkpoint.resume(input));
}

#[test]
fn teacher_files() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Teacher::new(folder.path());
    let mutate = |mutator: &mut Mutator| teacher.mutate(mutator);
    fuzz("teacher file", 1000, mutate, |input| teacher.read(input));
}
