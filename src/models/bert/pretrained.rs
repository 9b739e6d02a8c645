//! Loading and saving models in Hugging Face's format.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use tch::nn::VarStore;

use super::{Bert, BertConfig, Head};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::weights::{self, LoadOptions, LoadReport, Names, WeightsFile};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

impl<H: Head> Bert<H> {
    /// Makes a model from a folder with `config.json` and `model.safetensors`, as
    /// `transformers` writes it.
    ///
    /// `model_type` in `config.json` decides which model of the family it is
    /// ([`ModelType`](super::ModelType)); the Rust type is the same for all.
    ///
    /// The folder may hold a model with another head or without one. Embeddings and layers must
    /// be there and fit. Missing weights of the head and the pooler keep their initial values,
    /// and heads that this model lacks are ignored; the report names both. Weights of another
    /// dtype are converted to that of `variables`. A prefix shared by all names, such as a
    /// compiled model's, is removed with a warning; the report names it.
    ///
    /// ```no_run
    /// use tch::{nn, Device};
    /// use textbrewer::models::BertForSequenceClassification;
    ///
    /// let variables = nn::VarStore::new(Device::cuda_if_available());
    /// let (model, report) =
    ///     BertForSequenceClassification::from_pretrained(&variables, "bert-base-uncased")?;
    /// println!("to be trained: {:?}", report.missing);
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// When `variables` is not empty, the configuration is invalid, or the weights cannot be
    /// read or do not fit. After an error use a new `VarStore`.
    pub fn from_pretrained(
        variables: &VarStore,
        folder: impl AsRef<Path>,
    ) -> Result<(Self, LoadReport)> {
        let folder = folder.as_ref();
        let config = BertConfig::from_json_file(folder.join(CONFIG))?;
        let unexpected = Names::not_starting_with(config.model_type.core_prefixes());
        Self::load_pretrained(variables, folder, &config, unexpected)
    }

    /// As [`from_pretrained`](Self::from_pretrained), but only `model.safetensors` is read from
    /// the folder: for another number of labels, another dropout, or fewer layers. Layers
    /// beyond those of `config` are ignored and reported.
    ///
    /// # Errors
    /// As [`from_pretrained`](Self::from_pretrained).
    ///
    /// ```
    /// use tch::{nn::VarStore, Device};
    /// use textbrewer::models::{BertConfig, BertForSequenceClassification};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
    /// #     .num_attention_heads(2).num_hidden_layers(2);
    /// # let variables = VarStore::new(Device::Cpu);
    /// # BertForSequenceClassification::new(&variables.root(), &config)?
    /// #     .save_pretrained(&variables, folder.path())?;
    /// // The first of the two layers in the folder.
    /// let config = config.num_hidden_layers(1);
    /// let variables = VarStore::new(Device::Cpu);
    /// let (_model, report) = BertForSequenceClassification::from_pretrained_with_config(
    ///     &variables, folder.path(), &config,
    /// )?;
    /// assert!(report.missing.is_empty());
    /// assert!(report.unexpected.iter().all(|name| name.starts_with("bert.encoder.layer.1.")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_pretrained_with_config(
        variables: &VarStore,
        folder: impl AsRef<Path>,
        config: &BertConfig,
    ) -> Result<(Self, LoadReport)> {
        Self::load_pretrained(variables, folder.as_ref(), config, Names::All)
    }

    fn load_pretrained(
        variables: &VarStore,
        folder: &Path,
        config: &BertConfig,
        unexpected: Names,
    ) -> Result<(Self, LoadReport)> {
        if !variables.is_empty() {
            let reason = "must be empty: a pretrained model needs a VarStore of its own";
            return Err(Error::config("variables", reason));
        }
        config.validate()?;
        let mut file = WeightsFile::open(&weights_file(folder)?)?;
        config.check_against_file(file.numbers(), file.path())?;
        let model = Self::new(&variables.root(), config)?;
        let options = LoadOptions::new()
            .convert_dtype(true)
            .ignore_missing(Names::not_starting_with(config.model_type.core_prefixes()))
            .ignore_unexpected(unexpected)
            .base_prefix(config.model_type.base_name())
            .remove_prefix(true);
        let report = weights::load_opened(variables, &mut file, &options)?;
        Ok((model, report))
    }

    /// Writes `config.json` and `model.safetensors` to a folder that `transformers` and
    /// [`from_pretrained`](Self::from_pretrained) can read. The folder is created if needed.
    ///
    /// `variables` is the store that the model was created in; all variables under the model's
    /// path are saved.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    ///
    /// ```
    /// use tch::{nn::VarStore, Device};
    /// use textbrewer::models::{BertConfig, BertForSequenceClassification};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
    /// #     .num_attention_heads(2).num_hidden_layers(2);
    /// let variables = VarStore::new(Device::Cpu);
    /// let model = BertForSequenceClassification::new(&variables.root(), &config)?;
    /// model.save_pretrained(&variables, folder.path())?;
    ///
    /// let again = VarStore::new(Device::Cpu);
    /// let (model, report) = BertForSequenceClassification::from_pretrained(&again, folder.path())?;
    /// assert_eq!(model.config().num_hidden_layers, config.num_hidden_layers);
    /// assert_eq!(report.loaded.len(), variables.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn save_pretrained(&self, variables: &VarStore, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
        let tensors: Vec<_> = weights::state_dict(variables)
            .into_iter()
            .filter_map(|(name, tensor)| {
                let name = name.strip_prefix(self.scope.as_str())?;
                Some((name.to_owned(), tensor))
            })
            .collect();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        weights::save(folder.join(WEIGHTS), &tensors, &metadata)?;
        let path = folder.join(CONFIG);
        // Heads have the name of BERT's class.
        let architecture = match H::ARCHITECTURE.strip_prefix("Bert") {
            Some(head) => format!("{}{head}", self.config.model_type.class()),
            None => H::ARCHITECTURE.to_owned(),
        };
        let text = self
            .config
            .to_json(&architecture)
            .map_err(|source| Error::Json {
                place: path.display().to_string(),
                reason: source.to_string(),
                source,
            })?;
        write_atomically(&path, |file| {
            writeln!(file, "{text}").map_err(|source| Error::io(&path, source))
        })
    }
}

/// The file of weights in `folder`; if there is another format instead, the error explains how to
/// convert it.
fn weights_file(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(WEIGHTS);
    if path.exists() {
        return Ok(path);
    }
    let instead = [
        (
            "model.safetensors.index.json",
            "load it with transformers and save it with a larger max_shard_size",
        ),
        (
            "pytorch_model.bin",
            "load it with transformers and save it again, or convert it with \
             safetensors.torch.save_file",
        ),
    ];
    for (name, remedy) in instead {
        if folder.join(name).exists() {
            let reason = format!("is not there, only {name}, which is not read: {remedy}");
            return Err(Error::WeightsFile { path, reason });
        }
    }
    Err(Error::io(path, std::io::ErrorKind::NotFound.into()))
}
