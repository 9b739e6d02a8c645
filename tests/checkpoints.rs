//! The files that a training leaves behind. They are looked into with the `safetensors`
//! crate, which this crate's own reader does not use for the data.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::tiny::{Net, config, files, loader, numbers, square};
use safetensors::{Dtype, SafeTensors};
use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs};
use textbrewer::weights::{LoadOptions, load_file};
use textbrewer::{AdamW, AdaptorOutput, BasicTrainer, Distiller, Model, Result, Sgd, VecLoader};

fn bert() -> (BertForSequenceClassification, VarStore) {
    let config = BertConfig::default()
        .vocab_size(11)
        .hidden_size(8)
        .num_hidden_layers(1)
        .num_attention_heads(2)
        .intermediate_size(12)
        .max_position_embeddings(6)
        .num_labels(3);
    let variables = VarStore::new(Device::Cpu);
    let model = BertForSequenceClassification::new(&variables.root(), &config).unwrap();
    (model, variables)
}

fn sentences() -> BertInputs {
    BertInputs::new(Tensor::from_slice2(&[[1i64, 7, 4, 2], [1, 9, 2, 0]]))
        .attention_mask(Tensor::from_slice2(&[[1i64, 1, 1, 1], [1, 1, 1, 0]]))
        .labels(Tensor::from_slice(&[0i64, 2]))
}

/// Three steps, with a checkpoint after each.
fn train(
    model: &BertForSequenceClassification,
    variables: &VarStore,
    folder: &Path,
    callback: impl FnMut(u64, &Path) -> Result<()>,
) {
    let mut callback = callback;
    let mut trainer = BasicTrainer::builder(model, variables)
        .train_config(config(folder).ckpt_steps(1))
        .adaptor(|_, output: &textbrewer::models::LogitsOutput| {
            let loss = output.loss.as_ref();
            let loss = loss.ok_or_else(|| textbrewer::Error::other("no labels"))?;
            Ok(AdaptorOutput::new().losses(loss))
        })
        .build()
        .unwrap();
    let mut batches = VecLoader::new(vec![sentences()]).unwrap();
    trainer
        .train(&mut batches)
        .optimizer(AdamW::new(0.01))
        .steps(3)
        .callback(|_, info| callback(info.global_step, &info.path))
        .run()
        .unwrap();
}

/// Hugging Face's names and shapes for a classifier of this size.
fn expected_shapes() -> BTreeMap<String, Vec<usize>> {
    let (hidden, wide) = (8, 12);
    let mut shapes = vec![
        (
            "bert.embeddings.word_embeddings.weight".to_owned(),
            vec![11, hidden],
        ),
        (
            "bert.embeddings.position_embeddings.weight".to_owned(),
            vec![6, hidden],
        ),
        (
            "bert.embeddings.token_type_embeddings.weight".to_owned(),
            vec![2, hidden],
        ),
        ("bert.embeddings.LayerNorm.weight".to_owned(), vec![hidden]),
        ("bert.embeddings.LayerNorm.bias".to_owned(), vec![hidden]),
    ];
    let mut linear = |name: &str, rows: usize, columns: usize| {
        shapes.push((format!("{name}.weight"), vec![rows, columns]));
        shapes.push((format!("{name}.bias"), vec![rows]));
    };
    let layer = |name: &str| format!("bert.encoder.layer.0.{name}");
    for name in ["query", "key", "value"] {
        linear(&layer(&format!("attention.self.{name}")), hidden, hidden);
    }
    linear(&layer("attention.output.dense"), hidden, hidden);
    linear(&layer("intermediate.dense"), wide, hidden);
    linear(&layer("output.dense"), hidden, wide);
    linear("bert.pooler.dense", hidden, hidden);
    linear("classifier", 3, hidden);
    for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
        shapes.push((layer(&format!("{name}.weight")), vec![hidden]));
        shapes.push((layer(&format!("{name}.bias")), vec![hidden]));
    }
    shapes.into_iter().collect()
}

#[test]
fn a_checkpoint_has_hugging_faces_names_and_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let (model, variables) = bert();
    train(&model, &variables, folder.path(), |_, _| Ok(()));
    let bytes = std::fs::read(folder.path().join("gs3.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let shapes: BTreeMap<_, _> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), Dtype::F32, "{name}");
            (name, view.shape().to_vec())
        })
        .collect();
    assert_eq!(shapes, expected_shapes());

    // What transformers looks at before it loads a file.
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    assert_eq!(metadata.len(), 1);
    assert_eq!(metadata["format"], "pt");
}

#[test]
fn no_temporary_file_is_left_and_each_checkpoint_is_whole_when_it_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let (model, variables) = bert();
    let mut told = Vec::new();
    train(&model, &variables, folder.path(), |step, path| {
        let bytes = std::fs::read(path).map_err(textbrewer::Error::other)?;
        SafeTensors::deserialize(&bytes).map_err(textbrewer::Error::other)?;
        told.push((step, files(folder.path())));
        Ok(())
    });
    let names = ["gs1.safetensors", "gs2.safetensors", "gs3.safetensors"];
    let expected: Vec<_> = (1..=3u64)
        .map(|step| {
            (
                step,
                names[..step as usize]
                    .iter()
                    .map(|n| n.to_string())
                    .collect(),
            )
        })
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn a_model_that_loads_a_checkpoint_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (model, variables) = bert();
    let mut said = BTreeMap::new();
    train(&model, &variables, folder.path(), |step, _| {
        let logits = model.forward(&sentences(), false)?.logits;
        said.insert(step, logits);
        Ok(())
    });
    assert_ne!(said[&1], said[&3]);
    for (step, logits) in said {
        let (other, other_variables) = bert();
        let path = folder.path().join(format!("gs{step}.safetensors"));
        let report = load_file(&other_variables, &path, &LoadOptions::new()).unwrap();
        assert_eq!(report.loaded.len(), expected_shapes().len());
        let same = other.forward(&sentences(), false).unwrap().logits;
        assert_eq!(same, logits, "gs{step}");
    }
}

#[test]
fn a_file_of_an_earlier_run_is_replaced_by_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than the checkpoint, so that a part of it would be noticed.
    let path = folder.path().join("gs2.safetensors");
    std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
    let student = Net::new(2, 4, 0.2);
    BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(2))
        .optimizer(Sgd::new(0.1))
        .epochs(1)
        .overwrite(true)
        .run()
        .unwrap();
    let other = Net::new(2, 4, 0.9);
    load_file(&other.variables, &path, &LoadOptions::new()).unwrap();
    assert_eq!(numbers(&other.variables), numbers(&student.variables));
    assert_eq!(files(folder.path()), ["gs2.safetensors"]);
}
