//! Reading and writing `config.json`, whose keys differ between models.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{BertConfig, ModelType};

/// BERT's keys and DistilBERT's.
const DISTILBERT: [(&str, &str); 8] = [
    ("hidden_size", "dim"),
    ("num_hidden_layers", "n_layers"),
    ("num_attention_heads", "n_heads"),
    ("intermediate_size", "hidden_dim"),
    ("hidden_act", "activation"),
    ("hidden_dropout_prob", "dropout"),
    ("attention_probs_dropout_prob", "attention_dropout"),
    ("classifier_dropout", "seq_classif_dropout"),
];

impl ModelType {
    /// The model's key for BERT's `key`; `None` if it has no such setting.
    pub(super) fn key(self, key: &'static str) -> Option<&'static str> {
        let has = match key {
            "type_vocab_size" => self.has_token_types(),
            "embedding_size" => self == ModelType::Electra,
            "qa_dropout" | "sinusoidal_pos_embds" => self == ModelType::DistilBert,
            "layer_norm_eps" | "position_embedding_type" => self != ModelType::DistilBert,
            _ => true,
        };
        let mut own = DISTILBERT.iter().filter(|_| self == ModelType::DistilBert);
        let renamed = own.find(|(bert, _)| *bert == key);
        has.then_some(renamed.map_or(key, |(_, own)| own))
    }
}

/// An object without duplicate keys.
pub(super) struct Keys(Map<String, Value>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of keys and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Map::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if keys.contains_key(&key) {
                        return Err(A::Error::custom(format!("duplicate field `{key}`")));
                    }
                    keys.insert(key, value);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(Unique)
    }
}

/// A value of a configuration, from and to JSON.
trait Field {
    /// An error names the place inside the value.
    fn set(&mut self, key: &str, value: Value) -> Result<(), String>;

    fn get(&self) -> serde_json::Result<Value>;
}

impl<T: DeserializeOwned + Serialize> Field for T {
    fn set(&mut self, key: &str, value: Value) -> Result<(), String> {
        *self = serde_path_to_error::deserialize(value).map_err(|error| {
            let inside = match error.path().to_string() {
                path if path == "." => String::new(),
                path => format!(".{path}"),
            };
            format!("{key}{inside}: {}", error.inner())
        })?;
        Ok(())
    }

    fn get(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }
}

impl<'de> Deserialize<'de> for BertConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Keys::deserialize(deserializer)?;
        BertConfig::from_keys(keys).map_err(|bad| D::Error::custom(bad.reason))
    }
}

/// A key whose value is not one that it may have.
pub(super) struct Bad {
    pub(super) key: String,
    /// The place inside the configuration, and what is wrong there.
    pub(super) reason: String,
}

impl Serialize for BertConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let keys = self.to_map().map_err(S::Error::custom)?;
        keys.serialize(serializer)
    }
}

impl BertConfig {
    /// The configuration with these keys and values.
    pub(super) fn from_keys(Keys(mut keys): Keys) -> Result<Self, Bad> {
        let mut set = |field: &mut dyn Field, key: &str| match keys.remove_entry(key) {
            Some((key, value)) => {
                let read = field.set(&key, value);
                read.map_err(|reason| Bad { key, reason })
            }
            None => Ok(()),
        };
        let mut model_type = None::<ModelType>;
        set(&mut model_type, "model_type")?;
        let model_type = model_type.unwrap_or_default();
        let mut config = BertConfig::new(model_type);
        for (key, field) in config.fields() {
            if let Some(key) = model_type.key(key) {
                set(field, key)?;
            }
        }
        Ok(config)
    }

    /// This model's key for BERT's `key`.
    pub(super) fn key(&self, key: &'static str) -> &'static str {
        self.model_type.key(key).unwrap_or(key)
    }

    /// The fields in files, under BERT's keys.
    fn fields(&mut self) -> [(&'static str, &mut dyn Field); 25] {
        [
            ("vocab_size", &mut self.vocab_size),
            ("hidden_size", &mut self.hidden_size),
            ("embedding_size", &mut self.embedding_size),
            ("num_hidden_layers", &mut self.num_hidden_layers),
            ("num_attention_heads", &mut self.num_attention_heads),
            ("intermediate_size", &mut self.intermediate_size),
            ("hidden_act", &mut self.hidden_act),
            ("hidden_dropout_prob", &mut self.hidden_dropout_prob),
            (
                "attention_probs_dropout_prob",
                &mut self.attention_probs_dropout_prob,
            ),
            ("classifier_dropout", &mut self.classifier_dropout),
            ("qa_dropout", &mut self.qa_dropout),
            ("max_position_embeddings", &mut self.max_position_embeddings),
            ("sinusoidal_pos_embds", &mut self.sinusoidal_pos_embds),
            ("type_vocab_size", &mut self.type_vocab_size),
            ("initializer_range", &mut self.initializer_range),
            ("layer_norm_eps", &mut self.layer_norm_eps),
            ("pad_token_id", &mut self.pad_token_id),
            ("num_labels", &mut self.num_labels),
            ("id2label", &mut self.id2label),
            ("problem_type", &mut self.problem_type),
            ("output_hidden_states", &mut self.output_hidden_states),
            ("output_attentions", &mut self.output_attentions),
            ("tie_word_embeddings", &mut self.tie_word_embeddings),
            ("is_decoder", &mut self.is_decoder),
            ("position_embedding_type", &mut self.position_embedding_type),
        ]
    }

    fn to_map(&self) -> serde_json::Result<Map<String, Value>> {
        let labels: BTreeMap<i64, String> = match &self.id2label {
            Some(labels) => labels.clone(),
            None => (0..self.label_count())
                .map(|id| (id, format!("LABEL_{id}")))
                .collect(),
        };
        let ids: Map<String, Value> = labels
            .iter()
            .map(|(id, label)| (label.clone(), (*id).into()))
            .collect();
        // A value that is absent here would be replaced by the default of `transformers`.
        let mut full = self.clone();
        full.embedding_size = Some(self.embedding_width());
        full.qa_dropout = Some(self.qa_dropout.unwrap_or(0.0));
        if self.model_type == ModelType::DistilBert {
            full.classifier_dropout = Some(self.classifier_dropout_or_hidden());
        }
        full.id2label = Some(labels);

        let mut map = Map::new();
        map.insert("model_type".to_owned(), self.model_type.get()?);
        for (key, field) in full.fields() {
            let is_read_only = matches!(key, "num_labels" | "is_decoder");
            let is_absent = key == "problem_type" && self.problem_type.is_none();
            let own = self.model_type.key(key);
            if let Some(key) = own.filter(|_| !is_read_only && !is_absent) {
                map.insert(key.to_owned(), field.get()?);
            }
        }
        map.insert("label2id".to_owned(), ids.into());
        Ok(map)
    }

    /// The text of a `config.json` for a model class of `transformers`.
    pub(in crate::models::bert) fn to_json(
        &self,
        architecture: &str,
    ) -> serde_json::Result<String> {
        let mut json = Map::new();
        json.insert("architectures".to_owned(), vec![architecture].into());
        json.extend(self.to_map()?);
        serde_json::to_string_pretty(&json)
    }
}
