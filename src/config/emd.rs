//! What layers learn from layers by optimal transport.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{LayerSelection, Needs, ProjectionSpec, json};
use crate::error::{Error, Result};

/// What an [`EmdDistiller`](crate::EmdDistiller) matches, and how much it counts.
///
/// ```
/// use textbrewer::config::{EmdConfig, LayerWeights};
/// use textbrewer::ProjectionSpec;
///
/// let config = EmdConfig::default()
///     .attention_weight(0.5)
///     .hidden_projection(ProjectionSpec::linear(312, 768).learning_rate(1e-3))
///     .layer_weights(LayerWeights::Reestimated { temperature: 2.0 });
/// config.validate()?;
///
/// let same: EmdConfig = serde_json::from_str(r#"{
///     "attention_weight": 0.5,
///     "hidden_projection": ["linear", 312, 768, {"lr": 1e-3}],
///     "layer_weights": {"reestimated": {"temperature": 2.0}}
/// }"#)?;
/// assert_eq!(config, same);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EmdConfig {
    /// Weight of the distance between the hidden states; with 0 the adaptors need return
    /// none. Default 1.
    pub hidden_weight: f64,
    /// Weight of the distance between the attentions; with 0 the adaptors need return none.
    /// Default 1.
    pub attention_weight: f64,
    /// Registered name of the loss between two hidden states. Default `hidden_mse`.
    pub hidden_loss: String,
    /// Registered name of the loss between two attentions. Default `attention_mse`, for which
    /// both models need as many heads; `attention_mse_sum` takes any.
    pub attention_loss: String,
    /// Brings the student's hidden states to the teacher's size; one for all layers. Default
    /// none, for models of one size.
    pub hidden_projection: Option<ProjectionSpec>,
    /// How much each layer has to give or to take. Default uniform.
    pub layer_weights: LayerWeights,
}

/// How much each layer has to give or to take.
///
/// ```
/// use textbrewer::config::LayerWeights;
///
/// let weights: LayerWeights = serde_json::from_str(r#"{"reestimated": {"temperature": 2.0}}"#)?;
/// assert_eq!(weights, LayerWeights::Reestimated { temperature: 2.0 });
/// assert_eq!(serde_json::to_string(&LayerWeights::default())?, r#""uniform""#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum LayerWeights {
    /// All layers of a model the same, in every batch. In JSON `"uniform"`.
    #[default]
    Uniform,
    /// Uniform in the first batch, and after each batch re-estimated from what it cost to move
    /// a unit of each layer, so that cheap layers get more weight. In JSON
    /// `{"reestimated": {"temperature": 1.0}}`.
    ///
    /// Both features share the weights, so the adaptors must return as many hidden states as
    /// attentions: leave out the output of the embeddings. The formula stands in
    /// [`EmdDistiller`](crate::EmdDistiller).
    Reestimated {
        /// τ: the higher, the closer to uniform. The number of layers is a mild one: when all
        /// of M layers cost the same, what the softmax is taken of is M / τ each.
        temperature: f64,
    },
}

impl Default for EmdConfig {
    fn default() -> Self {
        EmdConfig {
            hidden_weight: 1.0,
            attention_weight: 1.0,
            hidden_loss: "hidden_mse".to_owned(),
            attention_loss: "attention_mse".to_owned(),
            hidden_projection: None,
            layer_weights: LayerWeights::Uniform,
        }
    }
}

impl EmdConfig {
    /// Sets [`hidden_weight`](Self#structfield.hidden_weight).
    #[must_use]
    pub fn hidden_weight(mut self, weight: f64) -> Self {
        self.hidden_weight = weight;
        self
    }

    /// Sets [`attention_weight`](Self#structfield.attention_weight).
    #[must_use]
    pub fn attention_weight(mut self, weight: f64) -> Self {
        self.attention_weight = weight;
        self
    }

    /// Sets [`hidden_loss`](Self#structfield.hidden_loss).
    #[must_use]
    pub fn hidden_loss(mut self, name: impl Into<String>) -> Self {
        self.hidden_loss = name.into();
        self
    }

    /// Sets [`attention_loss`](Self#structfield.attention_loss).
    #[must_use]
    pub fn attention_loss(mut self, name: impl Into<String>) -> Self {
        self.attention_loss = name.into();
        self
    }

    /// Sets [`hidden_projection`](Self#structfield.hidden_projection).
    #[must_use]
    pub fn hidden_projection(mut self, projection: ProjectionSpec) -> Self {
        self.hidden_projection = Some(projection);
        self
    }

    /// Sets [`layer_weights`](Self#structfield.layer_weights).
    #[must_use]
    pub fn layer_weights(mut self, weights: LayerWeights) -> Self {
        self.layer_weights = weights;
        self
    }

    /// All layers of what is matched, of the first teacher and of the student.
    pub(crate) fn needs(&self) -> Needs {
        let features = [
            ("hidden", self.hidden_weight),
            ("attention", self.attention_weight),
        ];
        let matched = features.into_iter().filter(|(_, weight)| *weight > 0.0);
        matched.fold(Needs::new(), |needs, (feature, _)| {
            needs
                .teacher_layers(0, feature, LayerSelection::All)
                .student_layers(feature, LayerSelection::All)
        })
    }

    /// Checks every number. Names are looked up when the distiller gets the configuration.
    ///
    /// # Errors
    /// [`Error::Config`] with the key of the first value that cannot work.
    pub fn validate(&self) -> Result<()> {
        self.check("")
    }

    /// The same, where the configuration is part of another: `path` comes before each key.
    pub(crate) fn check(&self, path: &str) -> Result<()> {
        let invalid =
            |key: &str, reason: String| Err(Error::config(format!("{path}{key}"), reason));
        for (key, weight) in [
            ("hidden_weight", self.hidden_weight),
            ("attention_weight", self.attention_weight),
        ] {
            if !(weight.is_finite() && weight >= 0.0) {
                let reason = format!("must be a finite number, at least 0, is {weight}");
                return invalid(key, reason);
            }
        }
        if self.hidden_weight == 0.0 && self.attention_weight == 0.0 {
            let reason = "is 0, and so is attention_weight: nothing to match; set one of them \
                          above 0, or use GeneralDistiller without `emd`";
            return invalid("hidden_weight", reason.to_owned());
        }
        if self.hidden_weight == 0.0 && self.hidden_projection.is_some() {
            let reason = "would never be trained, because hidden_weight is 0";
            return invalid("hidden_projection", reason.to_owned());
        }
        if let Some(projection) = &self.hidden_projection {
            projection.check(&format!("{path}hidden_projection"))?;
        }
        match self.layer_weights {
            LayerWeights::Reestimated { temperature }
                if !(temperature.is_finite() && temperature > 0.0) =>
            {
                let reason = format!("must be a finite number above 0, is {temperature}");
                invalid("layer_weights.reestimated.temperature", reason)
            }
            _ => Ok(()),
        }
    }
}

/// As in JSON.
impl fmt::Display for EmdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json::write_compact(f, self)
    }
}
