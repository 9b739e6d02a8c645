//! Validation of a configuration.

use std::path::Path;

use super::{BertConfig, ModelType};
use crate::error::{Error, Result};

/// Limits on sizes, far above any real BERT: a file that is not trusted could contain any number,
/// and memory is allocated before the weights are read.
const MOST_LAYERS: i64 = 4096;
const MOST_LABELS: i64 = 1 << 24;
const MOST_NUMBERS: u128 = 1 << 34;
/// Weights that a model may have beyond those in its file: 64 MiB in `float32`.
const SLACK: u128 = 1 << 24;

fn size(size: i64) -> u128 {
    u128::try_from(size).unwrap_or(0)
}

impl BertConfig {
    /// Checks that a model of this shape can be built.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Unsupported`], naming the key.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("embedding_size", self.embedding_width()),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
            ("num_labels", self.label_count()),
        ];
        for (key, size) in sizes {
            if size <= 0 && self.model_type.key(key).is_some() {
                let reason = format!("{size} must be at least 1");
                return Err(Error::config(self.key(key), reason));
            }
        }
        for (key, size, most) in [
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_labels", self.label_count(), MOST_LABELS),
        ] {
            if size > most {
                let reason = format!("{size} is more than the {most} that a BERT may have here");
                return Err(Error::config(self.key(key), reason));
            }
        }
        let numbers = self.numbers();
        if numbers > MOST_NUMBERS {
            let (key, size) = self.largest();
            let key = self.key(key);
            let reason = format!(
                "{size} and the other sizes make a model of {numbers} numbers, more than the \
                 {MOST_NUMBERS} that a BERT may have here"
            );
            return Err(Error::config(key, reason));
        }
        if self.hidden_size % self.num_attention_heads != 0 {
            let reason = format!(
                "{} is no multiple of {}, {}",
                self.hidden_size,
                self.key("num_attention_heads"),
                self.num_attention_heads
            );
            return Err(Error::config(self.key("hidden_size"), reason));
        }
        let probabilities = [
            ("hidden_dropout_prob", Some(self.hidden_dropout_prob)),
            (
                "attention_probs_dropout_prob",
                Some(self.attention_probs_dropout_prob),
            ),
            ("classifier_dropout", self.classifier_dropout),
            ("qa_dropout", self.qa_dropout),
        ];
        for (key, probability) in probabilities {
            if probability.is_some_and(|p| !(0.0..1.0).contains(&p)) {
                let reason = "must be at least 0 and less than 1";
                return Err(Error::config(self.key(key), reason));
            }
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(Error::config("layer_norm_eps", "must be positive"));
        }
        if !(self.initializer_range.is_finite() && self.initializer_range >= 0.0) {
            return Err(Error::config("initializer_range", "must not be negative"));
        }
        if let Some(id) = self.pad_token_id
            && !(0..self.vocab_size).contains(&id)
        {
            let reason = format!("{id} must be in 0..{} (vocab_size)", self.vocab_size);
            return Err(Error::config("pad_token_id", reason));
        }
        self.validate_kind()?;
        self.validate_model_type()
    }

    /// The approximate number of weights of this model: embeddings, layers, labels, and the output
    /// matrix where it is not the embeddings. Saturates.
    fn numbers(&self) -> u128 {
        let labels = size(self.label_count()).saturating_mul(size(self.hidden_size));
        let output = match self.tie_word_embeddings {
            true => 0,
            false => size(self.vocab_size).saturating_mul(size(self.embedding_width())),
        };
        let heads = labels.saturating_add(output);
        self.core_numbers().saturating_add(heads)
    }

    /// The number of weights in the embeddings and the layers.
    fn core_numbers(&self) -> u128 {
        let (hidden, wide) = (size(self.hidden_size), size(self.intermediate_size));
        let times = |a: u128, b: u128| a.saturating_mul(b);
        let sum = |parts: &[u128]| parts.iter().fold(0u128, |a, b| a.saturating_add(*b));
        let token_types = match self.model_type.has_token_types() {
            true => self.type_vocab_size,
            false => 0,
        };
        let tables = [self.vocab_size, self.max_position_embeddings, token_types];
        // A row for each id, weight and bias of the norm, and the projection to the layers.
        let width = size(self.embedding_width());
        let rows = sum(&[sum(&tables.map(size)), 2]);
        let project = match width == hidden {
            true => 0,
            false => times(sum(&[width, 1]), hidden),
        };
        // Four square matrices, two of the feed-forward block, biases, two norms.
        let square = times(4, times(hidden, hidden));
        let layer = sum(&[
            square,
            times(times(2, hidden), wide),
            times(9, hidden),
            wide,
        ]);
        let layers = times(size(self.num_hidden_layers), layer);
        sum(&[times(rows, width), project, layers])
    }

    /// The key and value of the largest size, for errors.
    fn largest(&self) -> (&'static str, i64) {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("embedding_size", self.embedding_width()),
            ("vocab_size", self.vocab_size),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        let sizes = sizes
            .into_iter()
            .filter(|(key, _)| self.model_type.key(key).is_some());
        let largest = sizes.max_by_key(|(_, size)| *size);
        largest.unwrap_or(("hidden_size", self.hidden_size))
    }

    /// Checks that a file with this many weights can be of this model, before memory is
    /// allocated. The check is rough; names and shapes are compared later.
    pub(in crate::models::bert) fn check_against_file(
        &self,
        in_file: u128,
        path: &Path,
    ) -> Result<()> {
        let allowed = in_file.saturating_mul(2).saturating_add(SLACK);
        let core = self.core_numbers();
        if core > allowed {
            let reason = format!(
                "has {in_file} numbers, but the configuration describes a model of {core}; are \
                 they of one model?"
            );
            let path = path.to_path_buf();
            return Err(Error::WeightsFile { path, reason });
        }
        // A head may be missing from the file, so only the configuration tells its size.
        let labels = size(self.label_count()).saturating_mul(size(self.hidden_size));
        if labels > allowed {
            let reason = format!(
                "{} labels would need a head larger than all of {}",
                self.label_count(),
                path.display()
            );
            return Err(Error::config("num_labels", reason));
        }
        Ok(())
    }

    /// Refuses features of other models with these keys that this one does not support.
    fn validate_kind(&self) -> Result<()> {
        let unsupported = |feature: String, remedy: &str| {
            Err(Error::Unsupported {
                feature,
                remedy: remedy.to_owned(),
            })
        };
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => {
                return unsupported(
                    format!("position_embedding_type `{other}`"),
                    "use a checkpoint with `absolute` positions",
                );
            }
        }
        if self.is_decoder {
            return unsupported(
                "is_decoder".to_owned(),
                "use an encoder; set it to false to read the checkpoint as one",
            );
        }
        Ok(())
    }

    /// Checks settings that only some models of the family have.
    fn validate_model_type(&self) -> Result<()> {
        let model = self.model_type;
        if model != ModelType::Electra && self.embedding_width() != self.hidden_size {
            let reason = format!(
                "{} is not hidden_size, {}; only ELECTRA's embeddings have a width of their own",
                self.embedding_width(),
                self.hidden_size
            );
            return Err(Error::config("embedding_size", reason));
        }
        if model != ModelType::DistilBert {
            for (key, is_set) in [
                ("qa_dropout", self.qa_dropout.is_some()),
                ("sinusoidal_pos_embds", self.sinusoidal_pos_embds),
            ] {
                if is_set {
                    let reason = format!("only DistilBERT has it, {model} does not");
                    return Err(Error::config(key, reason));
                }
            }
        } else if self.layer_norm_eps != 1e-12 {
            let reason = format!("{} must be 1e-12 for DistilBERT", self.layer_norm_eps);
            return Err(Error::config("layer_norm_eps", reason));
        }
        if model.is_roberta() {
            let Some(padding) = self.pad_token_id else {
                let reason = format!("must be there: {model} counts positions from it");
                return Err(Error::config("pad_token_id", reason));
            };
            if self.max_length() < 1 {
                let reason = format!(
                    "{} must be at least {}: {model} counts positions from pad_token_id + 1",
                    self.max_position_embeddings,
                    padding.saturating_add(2)
                );
                return Err(Error::config("max_position_embeddings", reason));
            }
        }
        Ok(())
    }
}
