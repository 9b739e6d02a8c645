//! The distillation objective: losses, weights, temperature.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use super::preset_spec::optional;
use super::projection_spec::MOST_ELEMENTS;
use super::{
    EmdConfig, IntermediateMatch, LayerSelection, Needs, Precision, PresetSpec, check_finite,
    check_name, is_false, json, match_list, or_null, write_aligned,
};
use crate::error::{Error, Side};
use crate::logits::Tail;

/// The most likeliest classes that [`diagnostics`](DistillationConfig::diagnostics) compares.
const MOST_CLASSES: u64 = 1000;

/// What the student learns from: the losses, their weights and the temperature.
///
/// The total is `kd_loss_weight · L_kd + hard_label_weight · L_labels + Σ weight · L_match`.
/// Defaults are TextBrewer's: temperature 4, `ce` on the logits with weight 1, nothing else.
///
/// ```
/// use textbrewer::{DistillationConfig, IntermediateMatch};
///
/// let config = DistillationConfig::default()
///     .temperature(8.0)
///     .hard_label_weight(0.5)
///     .intermediate_matches([IntermediateMatch::hidden(0, 0), IntermediateMatch::hidden(8, 2)]);
/// config.validate()?;
///
/// let same = DistillationConfig::from_json_str(r#"{
///     "temperature": 8, "hard_label_weight": 0.5, "intermediate_matches": [
///         {"layer_T": 0, "layer_S": 0, "feature": "hidden", "loss": "hidden_mse", "weight": 1},
///         {"layer_T": 8, "layer_S": 2, "feature": "hidden", "loss": "hidden_mse", "weight": 1}
///     ]}"#)?;
/// assert_eq!(config, same);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DistillationConfig {
    /// What logits are divided by before the softmax. Default 4.
    pub temperature: f64,
    /// Adjusts the temperature to each example. Default none.
    #[serde(with = "optional")]
    pub temperature_scheduler: Option<PresetSpec>,
    /// Weight of the losses that the student's adaptor returns. Default 0.
    pub hard_label_weight: f64,
    /// Changes that weight during the run. Default none.
    #[serde(with = "optional")]
    pub hard_label_weight_scheduler: Option<PresetSpec>,
    /// Registered name of the loss between logits, with its arguments if it takes some: one of
    /// those in the table of [`Presets`](crate::Presets) or a user's own. Default `ce`.
    pub kd_loss_type: PresetSpec,
    /// Weight of the loss between logits. Default 1.
    pub kd_loss_weight: f64,
    /// Changes that weight during the run. Default none.
    #[serde(with = "optional")]
    pub kd_loss_weight_scheduler: Option<PresetSpec>,
    /// Multiplies the loss between logits by the square of the temperature, which keeps its
    /// gradients of one size at every temperature (Hinton et al. 2015). Default false, as in
    /// TextBrewer; `kl` and some others have the factor by their definition.
    #[serde(skip_serializing_if = "is_false")]
    pub tau_squared: bool,
    /// Brings the logits of both models to mean 0 and standard deviation 1 at each position before
    /// they meet the temperature ([Sun et al. 2024](https://arxiv.org/abs/2403.01427)): the student
    /// learns the teacher's order and shape, not its size. Default false.
    #[serde(skip_serializing_if = "is_false")]
    pub standardize_logits: bool,
    /// What the loss on logits makes of the classes that a teacher's
    /// [top k](crate::logits::TopK) leaves out. Default [`Tail::Bucket`].
    #[serde(skip_serializing_if = "Tail::is_default")]
    pub tail: Tail,
    /// Swaps the teacher's largest logit with that of the true label, so that the
    /// teacher is always right; needs labels from the student's adaptor. Default false.
    pub probability_shift: bool,
    /// Looks at how far the student agrees with the teacher on logits, with this many of the
    /// likeliest classes, 1 to 1000: [`agreement`](crate::losses::agreement), logged and given to
    /// callbacks beside the losses. Default none. It changes nothing that is learned, so that a
    /// resumed run may have another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<u64>,
    /// Losses between intermediate layers. Default none. In JSON the name of a
    /// [`match_set`](super::match_set) stands for its matches.
    #[serde(deserialize_with = "match_list::matches")]
    pub intermediate_matches: Vec<IntermediateMatch>,
    /// Lets every student layer learn from every teacher layer, by optimal transport. Default
    /// none; [`EmdDistiller`](crate::EmdDistiller) has it always.
    #[serde(
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub emd: Option<EmdConfig>,
    /// Keeps the teacher's logits for every batch in main memory instead of recomputing them
    /// in each epoch. Default false. Not for a teacher that changes, such as the moving average
    /// of the student: it would be asked once.
    pub is_caching_logits: bool,
    /// With `is_caching_logits`: also keeps the features that terms need. Default false.
    #[serde(skip_serializing_if = "is_false")]
    pub cache_features: bool,
    /// The element type of the cache. Default that of the teacher's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_dtype: Option<Precision>,
    /// The maximum size of the cache in megabytes. Default no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_limit_mb: Option<u64>,
}

/// serde's derived structs also accept a list of the fields' values.
fn optional_object<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<EmdConfig>, D::Error> {
    #[derive(Deserialize)]
    struct Object(#[serde(deserialize_with = "json::object")] EmdConfig);
    let object = Option::<Object>::deserialize(deserializer)?;
    Ok(object.map(|Object(config)| config))
}

impl Default for DistillationConfig {
    fn default() -> Self {
        DistillationConfig {
            temperature: 4.0,
            temperature_scheduler: None,
            hard_label_weight: 0.0,
            hard_label_weight_scheduler: None,
            kd_loss_type: PresetSpec::new("ce"),
            kd_loss_weight: 1.0,
            kd_loss_weight_scheduler: None,
            tau_squared: false,
            standardize_logits: false,
            tail: Tail::default(),
            probability_shift: false,
            diagnostics: None,
            intermediate_matches: Vec::new(),
            emd: None,
            is_caching_logits: false,
            cache_features: false,
            cache_dtype: None,
            cache_limit_mb: None,
        }
    }
}

impl DistillationConfig {
    /// Reads a file in TextBrewer's JSON.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Json`] when it is not JSON, or
    /// a key is unknown, missing or of the wrong type.
    pub fn from_json_file(path: impl AsRef<Path>) -> crate::error::Result<Self> {
        json::from_file(path.as_ref())
    }

    /// Reads TextBrewer's JSON.
    ///
    /// # Errors
    /// [`Error::Json`], as for [`from_json_file`](Self::from_json_file).
    pub fn from_json_str(text: &str) -> crate::error::Result<Self> {
        json::from_str(text)
    }

    /// Writes JSON that [`from_json_str`](Self::from_json_str) and TextBrewer read.
    ///
    /// # Errors
    /// [`Error::Json`] when a value cannot be written.
    pub fn to_json_string(&self) -> crate::error::Result<String> {
        json::to_string(self)
    }

    /// The defaults of the keys that are left out of JSON when they have them.
    pub(crate) fn left_out() -> serde_json::Value {
        let config = Self::default();
        serde_json::json!({
            "tau_squared": config.tau_squared,
            "standardize_logits": config.standardize_logits,
            "tail": config.tail,
            "diagnostics": config.diagnostics,
            "emd": config.emd,
            "cache_features": config.cache_features,
            "cache_dtype": config.cache_dtype,
            "cache_limit_mb": config.cache_limit_mb,
        })
    }

    /// Sets [`temperature`](Self#structfield.temperature).
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets [`temperature_scheduler`](Self#structfield.temperature_scheduler):
    /// `"constant"`, `("flsw", [1.0, 2.0])`, `"none"`.
    #[must_use]
    pub fn temperature_scheduler(mut self, scheduler: impl Into<PresetSpec>) -> Self {
        self.temperature_scheduler = scheduler.into().unless_none();
        self
    }

    /// Sets [`hard_label_weight`](Self#structfield.hard_label_weight).
    #[must_use]
    pub fn hard_label_weight(mut self, weight: f64) -> Self {
        self.hard_label_weight = weight;
        self
    }

    /// Sets [`hard_label_weight_scheduler`](Self#structfield.hard_label_weight_scheduler).
    #[must_use]
    pub fn hard_label_weight_scheduler(mut self, scheduler: impl Into<PresetSpec>) -> Self {
        self.hard_label_weight_scheduler = scheduler.into().unless_none();
        self
    }

    /// Sets [`kd_loss_type`](Self#structfield.kd_loss_type), such as `"ce"`, `("generalized_jsd", [0.5])`
    /// or a user's own.
    #[must_use]
    pub fn kd_loss_type(mut self, loss: impl Into<PresetSpec>) -> Self {
        self.kd_loss_type = loss.into();
        self
    }

    /// Sets [`tau_squared`](Self#structfield.tau_squared).
    #[must_use]
    pub fn tau_squared(mut self, on: bool) -> Self {
        self.tau_squared = on;
        self
    }

    /// Sets [`standardize_logits`](Self#structfield.standardize_logits).
    #[must_use]
    pub fn standardize_logits(mut self, on: bool) -> Self {
        self.standardize_logits = on;
        self
    }

    /// Sets [`tail`](Self#structfield.tail).
    #[must_use]
    pub fn tail(mut self, tail: Tail) -> Self {
        self.tail = tail;
        self
    }

    /// Sets [`kd_loss_weight`](Self#structfield.kd_loss_weight).
    #[must_use]
    pub fn kd_loss_weight(mut self, weight: f64) -> Self {
        self.kd_loss_weight = weight;
        self
    }

    /// Sets [`kd_loss_weight_scheduler`](Self#structfield.kd_loss_weight_scheduler).
    #[must_use]
    pub fn kd_loss_weight_scheduler(mut self, scheduler: impl Into<PresetSpec>) -> Self {
        self.kd_loss_weight_scheduler = scheduler.into().unless_none();
        self
    }

    /// Sets [`probability_shift`](Self#structfield.probability_shift).
    #[must_use]
    pub fn probability_shift(mut self, on: bool) -> Self {
        self.probability_shift = on;
        self
    }

    /// Sets [`diagnostics`](Self#structfield.diagnostics): how many classes, or `None`.
    #[must_use]
    pub fn diagnostics(mut self, k: impl Into<Option<u64>>) -> Self {
        self.diagnostics = k.into();
        self
    }

    /// Replaces [`intermediate_matches`](Self#structfield.intermediate_matches).
    #[must_use]
    pub fn intermediate_matches(
        mut self,
        matches: impl IntoIterator<Item = IntermediateMatch>,
    ) -> Self {
        self.intermediate_matches = matches.into_iter().collect();
        self
    }

    /// Sets [`emd`](Self#structfield.emd); what is to be matched, or `None`.
    #[must_use]
    pub fn emd(mut self, emd: impl Into<Option<EmdConfig>>) -> Self {
        self.emd = emd.into();
        self
    }

    /// Sets [`is_caching_logits`](Self#structfield.is_caching_logits).
    #[must_use]
    pub fn is_caching_logits(mut self, on: bool) -> Self {
        self.is_caching_logits = on;
        self
    }

    /// Sets [`cache_features`](Self#structfield.cache_features).
    #[must_use]
    pub fn cache_features(mut self, on: bool) -> Self {
        self.cache_features = on;
        self
    }

    /// Sets [`cache_dtype`](Self#structfield.cache_dtype).
    #[must_use]
    pub fn cache_dtype(mut self, dtype: impl Into<Option<Precision>>) -> Self {
        self.cache_dtype = dtype.into();
        self
    }

    /// Sets [`cache_limit_mb`](Self#structfield.cache_limit_mb).
    #[must_use]
    pub fn cache_limit_mb(mut self, megabytes: impl Into<Option<u64>>) -> Self {
        self.cache_limit_mb = megabytes.into();
        self
    }

    /// Which layers of `feature` the matches and `emd` need from one side. With several
    /// teachers, those that any of them needs.
    ///
    /// For models that can leave the other layers out. Their adaptors still return the whole
    /// list, so that the positions in it are those of the matches.
    ///
    /// ```
    /// use tch::{nn::VarStore, Device};
    /// use textbrewer::models::{BertConfig, BertModel};
    /// use textbrewer::{DistillationConfig, IntermediateMatch, Side};
    ///
    /// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
    /// #     .num_attention_heads(2).num_hidden_layers(4);
    /// let matches = [IntermediateMatch::hidden(0, 0), IntermediateMatch::hidden(-1, 2)];
    /// let distilling = DistillationConfig::default().intermediate_matches(matches);
    /// assert_eq!(distilling.layers(Side::Teacher, "hidden"), [0, -1].into());
    /// assert!(distilling.layers(Side::Teacher, "attention").is_none());
    ///
    /// let teacher = BertModel::new(&VarStore::new(Device::Cpu).root(), &config)?
    ///     .output_hidden_states(distilling.layers(Side::Teacher, "hidden"));
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn layers(&self, side: Side, feature: &str) -> LayerSelection {
        self.needs().layers(side, feature)
    }

    /// Which layers of `feature` the matches and `emd` need from one of several teachers.
    ///
    /// ```
    /// use textbrewer::config::LayerSelection;
    /// use textbrewer::{DistillationConfig, IntermediateMatch};
    ///
    /// let matched = IntermediateMatch::hidden(8, 2).teacher(1);
    /// let config = DistillationConfig::default().intermediate_matches([matched]);
    /// assert_eq!(config.layers_of_teacher(0, "hidden"), LayerSelection::None);
    /// assert_eq!(config.layers_of_teacher(1, "hidden"), [8].into());
    /// ```
    pub fn layers_of_teacher(&self, teacher: usize, feature: &str) -> LayerSelection {
        self.needs().layers_of_teacher(teacher, feature)
    }

    /// What the configured losses need of the models. With terms of one's own:
    /// `config.needs().and(term.needs())`.
    pub fn needs(&self) -> Needs {
        let matches = self
            .intermediate_matches
            .iter()
            .map(IntermediateMatch::needs);
        let emd = self.emd.iter().map(EmdConfig::needs);
        matches.chain(emd).fold(Needs::new().logits(), Needs::and)
    }

    /// Checks every value. Names of losses, projections and schedules are looked up
    /// later, when a distiller is built.
    ///
    /// # Errors
    /// [`Error::Config`] with the path of the first invalid value.
    pub fn validate(&self) -> crate::error::Result<()> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(Error::config(
                "temperature",
                format!("must be a finite number above 0, is {}", self.temperature),
            ));
        }
        check_finite("hard_label_weight", self.hard_label_weight)?;
        check_finite("kd_loss_weight", self.kd_loss_weight)?;
        check_name(
            "kd_loss_type",
            &self.kd_loss_type.name,
            "the name of a KD loss",
        )?;
        self.kd_loss_type.check_arguments("kd_loss_type")?;
        for (key, scheduler) in self.schedulers() {
            if let Some(scheduler) = scheduler {
                scheduler.check_schedule(key)?;
            }
        }
        if let Some(k) = self.diagnostics
            && !(1..=MOST_CLASSES).contains(&k)
        {
            let reason = format!(
                "must be from 1 to {MOST_CLASSES}, as many of the likeliest classes as are to be \
                 compared, is {k}"
            );
            return Err(Error::config("diagnostics", reason));
        }
        for (i, item) in self.intermediate_matches.iter().enumerate() {
            item.check(&format!("intermediate_matches[{i}]"))?;
        }
        if let Some(emd) = &self.emd {
            emd.check("emd.")?;
        }
        self.check_amount()?;
        let unused = [
            ("cache_features", self.cache_features),
            ("cache_dtype", self.cache_dtype.is_some()),
            ("cache_limit_mb", self.cache_limit_mb.is_some()),
        ];
        for (key, is_set) in unused {
            if is_set && !self.is_caching_logits {
                return Err(Error::config(key, "needs `is_caching_logits` = true"));
            }
        }
        Ok(())
    }

    /// Checks limits on all matches together; each was checked by itself.
    fn check_amount(&self) -> crate::error::Result<()> {
        let matches = &self.intermediate_matches;
        if matches.len() > match_list::MOST_MATCHES {
            return Err(Error::config(
                "intermediate_matches",
                match_list::too_many(),
            ));
        }
        let sizes = matches.iter().filter_map(|item| item.proj.as_ref());
        let elements = sizes.fold(0u64, |sum, proj| sum.saturating_add(proj.elements()));
        if elements > MOST_ELEMENTS {
            let reason = format!(
                "the projections have {elements} weights together, more than the \
                 {MOST_ELEMENTS} allowed; are their sizes those of hidden states?"
            );
            return Err(Error::config("intermediate_matches", reason));
        }
        Ok(())
    }

    fn schedulers(&self) -> [(&'static str, &Option<PresetSpec>); 3] {
        [
            ("temperature_scheduler", &self.temperature_scheduler),
            (
                "hard_label_weight_scheduler",
                &self.hard_label_weight_scheduler,
            ),
            ("kd_loss_weight_scheduler", &self.kd_loss_weight_scheduler),
        ]
    }
}

/// A list of `key : value`, in TextBrewer's key names.
impl fmt::Display for DistillationConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheduler = |spec: &Option<PresetSpec>| {
            spec.as_ref()
                .map_or_else(|| "none".to_owned(), PresetSpec::to_string)
        };
        let matches = self.intermediate_matches.len();
        let mut rows = vec![
            ("temperature", self.temperature.to_string()),
            (
                "temperature_scheduler",
                scheduler(&self.temperature_scheduler),
            ),
            ("hard_label_weight", self.hard_label_weight.to_string()),
            (
                "hard_label_weight_scheduler",
                scheduler(&self.hard_label_weight_scheduler),
            ),
            ("kd_loss_type", self.kd_loss_type.to_string()),
            ("kd_loss_weight", self.kd_loss_weight.to_string()),
            (
                "kd_loss_weight_scheduler",
                scheduler(&self.kd_loss_weight_scheduler),
            ),
            ("tau_squared", self.tau_squared.to_string()),
            ("standardize_logits", self.standardize_logits.to_string()),
            ("tail", self.tail.to_string()),
            ("probability_shift", self.probability_shift.to_string()),
            ("diagnostics", or_null(self.diagnostics)),
            ("is_caching_logits", self.is_caching_logits.to_string()),
        ];
        if self.is_caching_logits {
            rows.push(("cache_features", self.cache_features.to_string()));
            rows.push(("cache_dtype", or_null(self.cache_dtype)));
            rows.push(("cache_limit_mb", or_null(self.cache_limit_mb)));
        }
        let matches = or_null((matches > 0).then_some(matches));
        rows.push(("intermediate_matches", matches));
        if let Some(emd) = &self.emd {
            rows.push(("emd", emd.to_string()));
        }
        write_aligned(f, &rows)?;
        for (i, item) in self.intermediate_matches.iter().enumerate() {
            write!(f, "\n  [{i}] {item}")?;
        }
        Ok(())
    }
}
