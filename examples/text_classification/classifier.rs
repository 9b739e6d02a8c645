//! The models: teachers from folders, students from teachers.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use tch::nn::VarStore;
use tch::Device;
use textbrewer::models::{BertConfig, BertForSequenceClassification};
use textbrewer::weights::{load_into, state_dict, LoadOptions};
use textbrewer::{DistillationConfig, Side};

use crate::dataset::LABELS;

/// A model and its variables.
pub struct Classifier {
    pub model: BertForSequenceClassification,
    pub variables: VarStore,
}

impl Classifier {
    /// A pretrained encoder with a new head.
    pub fn from_encoder(folder: &Path, device: Device) -> textbrewer::Result<Self> {
        let config = BertConfig::from_json_file(folder.join("config.json"))?.num_labels(LABELS);
        let variables = VarStore::new(device);
        let (model, report) = BertForSequenceClassification::from_pretrained_with_config(
            &variables, folder, &config,
        )?;
        println!(
            "encoder {}: {} layers, new: {}",
            folder.display(),
            config.num_hidden_layers,
            report.missing.join(", ")
        );
        Ok(Classifier { model, variables })
    }

    /// A model that was fine-tuned before.
    pub fn from_fine_tuned(folder: &Path, device: Device) -> Result<Self, Box<dyn Error>> {
        let variables = VarStore::new(device);
        let (model, report) = BertForSequenceClassification::from_pretrained(&variables, folder)?;
        let (shown, labels) = (folder.display(), model.config().label_count());
        if let Some(name) = report.missing.first() {
            let reason = format!("{shown}: no `{name}`; not fine-tuned, give it as --encoder");
            return Err(reason.into());
        }
        if labels != LABELS {
            let reason = format!("{shown}: it has {labels} labels, the data has {LABELS}");
            return Err(reason.into());
        }
        Ok(Classifier { model, variables })
    }

    /// A student of as many layers as named, which has the values of these layers of the
    /// teacher, and of its embeddings, pooler and head.
    pub fn student_of(&self, layers: &[usize]) -> Result<Self, Box<dyn Error>> {
        let teacher_layers = self.layers();
        if let Some(layer) = layers.iter().find(|layer| **layer >= teacher_layers) {
            let reason = format!(
                "--student-layers: there is no layer {layer}; the teacher's are 0 to {}",
                teacher_layers - 1
            );
            return Err(reason.into());
        }
        let config = self.model.config().clone();
        let config = config.num_hidden_layers(layers.len() as i64);
        let variables = VarStore::new(self.variables.device());
        let model = BertForSequenceClassification::new(&variables.root(), &config)?;
        let mut values = BTreeMap::new();
        for (name, value) in state_dict(&self.variables) {
            let Some((layer, rest)) = layer_of(&name) else {
                values.insert(name, value);
                continue;
            };
            let places = layers
                .iter()
                .enumerate()
                .filter(|(_, from)| **from == layer);
            for (place, _) in places {
                let name = format!("{LAYERS}{place}.{rest}");
                values.insert(name, value.shallow_clone());
            }
        }
        load_into(&variables, &values, "the teacher", &LoadOptions::new())?;
        Ok(Classifier { model, variables })
    }

    /// The same model, which hands out what the matches of a distillation need of it.
    pub fn showing(mut self, config: &DistillationConfig, side: Side) -> Self {
        let hidden = config.layers(side, "hidden");
        self.model = self.model.output_hidden_states(hidden);
        self
    }

    /// How many layers there are, without the embeddings.
    pub fn layers(&self) -> usize {
        self.model.config().num_hidden_layers as usize
    }
}

const LAYERS: &str = "bert.encoder.layer.";

/// The layer that a weight belongs to, and its name there.
fn layer_of(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix(LAYERS)?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}
