//! Hugging Face folders.

use std::path::Path;

use tch::Device;
use tch::nn::VarStore;
use textbrewer::models::{BertConfig, BertForSequenceClassification, ModelType};

use crate::message;

fn tiny(model_type: ModelType) -> BertConfig {
    BertConfig::new(model_type)
        .vocab_size(10)
        .hidden_size(4)
        .num_attention_heads(2)
        .intermediate_size(4)
        .num_hidden_layers(1)
        .max_position_embeddings(4)
}

/// A folder as `save_pretrained` makes it.
fn saved(folder: &Path) {
    saved_as(folder, &tiny(ModelType::Bert));
}

fn saved_as(folder: &Path, config: &BertConfig) {
    let variables = VarStore::new(Device::Cpu);
    let model = BertForSequenceClassification::new(&variables.root(), config).unwrap();
    model.save_pretrained(&variables, folder).unwrap();
}

fn load(folder: &Path) -> textbrewer::Result<()> {
    let variables = VarStore::new(Device::Cpu);
    BertForSequenceClassification::from_pretrained(&variables, folder).map(|_| ())
}

#[test]
fn sizes_are_compared_with_the_file_before_memory_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path());
    load(folder.path()).unwrap();
    let path = folder.path().join("config.json");
    let good: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (key, size, expected) in [
        // 32 GB each, within the limits of a configuration alone.
        (
            "vocab_size",
            2_000_000_000u64,
            "model.safetensors: has 238 numbers",
        ),
        (
            "max_position_embeddings",
            2_000_000_000,
            "model.safetensors: has 238 numbers",
        ),
        (
            "type_vocab_size",
            2_000_000_000,
            "model.safetensors: has 238 numbers",
        ),
        (
            "intermediate_size",
            1_000_000_000,
            "model.safetensors: has 238 numbers",
        ),
        ("hidden_size", 32_768, "model.safetensors: has 238 numbers"),
        (
            "num_labels",
            16_000_000,
            "num_labels: 16000000 labels would need a head larger",
        ),
        ("num_hidden_layers", 4096, "does not fit the model"),
        (
            "num_hidden_layers",
            1 << 60,
            "num_hidden_layers: 1152921504606846976 is more than",
        ),
    ] {
        let mut config = good.clone();
        config[key] = size.into();
        if key == "num_labels" {
            config.as_object_mut().unwrap().remove("id2label");
        }
        std::fs::write(&path, config.to_string()).unwrap();
        let shown = message(key, load(folder.path()));
        assert!(shown.contains(expected), "{key}\n{shown}");
    }
}

#[test]
fn so_are_the_sizes_that_other_models_have() {
    let folder = tempfile::tempdir().unwrap();
    let electra = tiny(ModelType::Electra).embedding_size(2);
    for (config, key, size) in [
        (electra, "embedding_size", 100_000_000u64),
        (tiny(ModelType::DistilBert), "hidden_dim", 1_000_000_000),
        (tiny(ModelType::DistilBert), "dim", 32_768),
        (
            tiny(ModelType::Roberta).max_position_embeddings(6),
            "max_position_embeddings",
            2_000_000_000,
        ),
    ] {
        saved_as(folder.path(), &config);
        load(folder.path()).unwrap();
        let path = folder.path().join("config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[key] = size.into();
        std::fs::write(&path, json.to_string()).unwrap();
        let shown = message(key, load(folder.path()));
        assert!(shown.contains("model.safetensors: has "), "{key}\n{shown}");
    }
}

#[test]
fn an_index_that_points_outside_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    saved(outside.path());
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        outside.path().join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    let target = outside.path().join("model.safetensors");
    let index = format!(r#"{{"weight_map": {{"bert.embeddings.LayerNorm.bias": {target:?}}}}}"#);
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let shown = message("index", load(folder.path()));
    assert!(
        shown.contains("is not there, only model.safetensors.index.json"),
        "{shown}"
    );
}

#[test]
fn pickles_are_not_run() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path());
    // "os.system" as a pickle would call it.
    let pickle = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
    std::fs::write(folder.path().join("model.safetensors"), pickle).unwrap();
    let shown = message("pickle", load(folder.path()));
    assert!(shown.contains("is a PyTorch pickle"), "{shown}");
    std::fs::rename(
        folder.path().join("model.safetensors"),
        folder.path().join("pytorch_model.bin"),
    )
    .unwrap();
    let shown = message("pickle", load(folder.path()));
    assert!(
        shown.contains("pytorch_model.bin, which is not read"),
        "{shown}"
    );
}

/// The cache of Hugging Face's hub is made of links, so they are followed for reading.
#[cfg(unix)]
#[test]
fn folders_of_links_are_read() {
    let blobs = tempfile::tempdir().unwrap();
    saved(blobs.path());
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::os::unix::fs::symlink(blobs.path().join(name), folder.path().join(name)).unwrap();
    }
    load(folder.path()).unwrap();
}
