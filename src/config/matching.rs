//! Which layers of the student imitate which layers of the teacher.

use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::{check_finite, check_not_empty, json};
use crate::optim::GroupOptions;
use crate::Error;

/// Positions in a list of layers; negative ones count from the end.
///
/// Losses that compare two states of a model with each other (`fsp`, `nst`) take a list.
///
/// ```
/// use textbrewer::Layers;
///
/// assert_eq!(Layers::from(-1).as_slice(), [-1]);
/// assert_eq!(Layers::from([0, 4]), Layers::Many(vec![0, 4]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layers {
    /// One layer; the loss gets a tensor.
    One(i64),
    /// Several layers; the loss gets a list of tensors.
    Many(Vec<i64>),
}

impl Layers {
    /// The positions; one for [`Layers::One`].
    pub fn as_slice(&self) -> &[i64] {
        match self {
            Layers::One(layer) => std::slice::from_ref(layer),
            Layers::Many(layers) => layers,
        }
    }

    /// `0`, or `0-4` for a list, as in the tags of the logs.
    fn tag(&self) -> String {
        let layers: Vec<_> = self.as_slice().iter().map(i64::to_string).collect();
        layers.join("-")
    }
}

impl From<i64> for Layers {
    fn from(layer: i64) -> Self {
        Layers::One(layer)
    }
}

impl From<Vec<i64>> for Layers {
    fn from(layers: Vec<i64>) -> Self {
        Layers::Many(layers)
    }
}

impl<const N: usize> From<[i64; N]> for Layers {
    fn from(layers: [i64; N]) -> Self {
        Layers::Many(layers.to_vec())
    }
}

/// As in JSON.
impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json::write_compact(f, self)
    }
}

impl Serialize for Layers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Layers::One(layer) => serializer.serialize_i64(*layer),
            Layers::Many(layers) => layers.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LayersVisitor)
    }
}

// Written out because serde's untagged enums lose the place of an error.
struct LayersVisitor;

impl<'de> Visitor<'de> for LayersVisitor {
    type Value = Layers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of a layer or a list of them")
    }

    fn visit_i64<E: de::Error>(self, layer: i64) -> Result<Layers, E> {
        Ok(Layers::One(layer))
    }

    fn visit_u64<E: de::Error>(self, layer: u64) -> Result<Layers, E> {
        i64::try_from(layer)
            .map(Layers::One)
            .map_err(|_| de::Error::invalid_value(de::Unexpected::Unsigned(layer), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Layers, A::Error> {
        let mut layers = Vec::new();
        while let Some(layer) = list.next_element()? {
            layers.push(layer);
        }
        Ok(Layers::Many(layers))
    }
}

/// A trained layer that brings the student's features to the teacher's size.
///
/// In JSON it is `["linear", 384, 768]`, or `["linear", 384, 768, {"lr": 1e-3}]` with
/// options of its own for the optimizer.
///
/// ```
/// use textbrewer::ProjectionSpec;
///
/// let projection = ProjectionSpec::linear(384, 768).learning_rate(1e-3);
/// assert_eq!(projection.to_string(), r#"["linear",384,768,{"lr":0.001}]"#);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProjectionSpec {
    /// The registered name: `linear`, `relu`, `tanh` or a user's own.
    pub name: String,
    /// Size of the student's features.
    pub dim_in: i64,
    /// Size of the teacher's features.
    pub dim_out: i64,
    /// What the optimizer shall do differently for this layer.
    pub options: GroupOptions,
}

impl ProjectionSpec {
    /// A projection by its registered name, from the student's size to the teacher's.
    pub fn new(name: impl Into<String>, dim_in: i64, dim_out: i64) -> Self {
        ProjectionSpec {
            name: name.into(),
            dim_in,
            dim_out,
            options: GroupOptions::default(),
        }
    }

    /// A linear layer.
    pub fn linear(dim_in: i64, dim_out: i64) -> Self {
        Self::new("linear", dim_in, dim_out)
    }

    /// A linear layer followed by ReLU.
    pub fn relu(dim_in: i64, dim_out: i64) -> Self {
        Self::new("relu", dim_in, dim_out)
    }

    /// A linear layer followed by tanh.
    pub fn tanh(dim_in: i64, dim_out: i64) -> Self {
        Self::new("tanh", dim_in, dim_out)
    }

    /// Sets all options at once.
    #[must_use]
    pub fn options(mut self, options: GroupOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the base learning rate.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.options.learning_rate = Some(learning_rate);
        self
    }

    /// Sets the weight decay.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.options.weight_decay = Some(weight_decay);
        self
    }

    fn check(&self, path: &str) -> crate::Result<()> {
        check_not_empty(format!("{path}[0]"), &self.name, "the name of a projection")?;
        for (i, dim) in [(1, self.dim_in), (2, self.dim_out)] {
            if dim < 1 {
                return Err(Error::config(
                    format!("{path}[{i}]"),
                    format!("a size must be at least 1, is {dim}"),
                ));
            }
        }
        let options = &self.options;
        for (key, value) in [
            ("lr", options.learning_rate),
            ("weight_decay", options.weight_decay),
            ("eps", options.eps),
            ("momentum", options.momentum),
        ] {
            check_option(path, key, value, f64::INFINITY)?;
        }
        let betas = options
            .betas
            .map_or([None, None], |(a, b)| [Some(a), Some(b)]);
        for (key, beta) in ["betas[0]", "betas[1]"].into_iter().zip(betas) {
            check_option(path, key, beta, 1.0)?;
        }
        Ok(())
    }
}

/// That an option is at least 0, finite and below `limit`.
fn check_option(path: &str, key: &str, value: Option<f64>, limit: f64) -> crate::Result<()> {
    match value {
        Some(value) if !(0.0..limit).contains(&value) => {
            let below = if limit.is_finite() {
                format!("at least 0 and less than {limit}")
            } else {
                "a finite number, at least 0".to_owned()
            };
            Err(Error::config(
                format!("{path}[3].{key}"),
                format!("must be {below}, is {value}"),
            ))
        }
        _ => Ok(()),
    }
}

/// As in JSON.
impl fmt::Display for ProjectionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json::write_compact(f, self)
    }
}

impl Serialize for ProjectionSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plain = self.options == GroupOptions::default();
        let mut list = serializer.serialize_seq(Some(if plain { 3 } else { 4 }))?;
        list.serialize_element(&self.name)?;
        list.serialize_element(&self.dim_in)?;
        list.serialize_element(&self.dim_out)?;
        if !plain {
            list.serialize_element(&self.options)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for ProjectionSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ProjectionVisitor)
    }
}

struct ProjectionVisitor;

impl<'de> Visitor<'de> for ProjectionVisitor {
    type Value = ProjectionSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[name, dim_in, dim_out] or [name, dim_in, dim_out, {options}]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ProjectionSpec, A::Error> {
        #[derive(Deserialize)]
        struct Options(#[serde(deserialize_with = "json::object")] GroupOptions);

        let missing = |length| de::Error::invalid_length(length, &ProjectionVisitor);
        let name: String = list.next_element()?.ok_or_else(|| missing(0))?;
        let dim_in = list.next_element()?.ok_or_else(|| missing(1))?;
        let dim_out = list.next_element()?.ok_or_else(|| missing(2))?;
        let options = list.next_element::<Options>()?;
        if list.next_element::<IgnoredAny>()?.is_some() {
            return Err(de::Error::custom(format!(
                "more than four elements, expected {}",
                "[name, dim_in, dim_out, {options}]"
            )));
        }
        let spec = ProjectionSpec::new(name, dim_in, dim_out);
        Ok(match options {
            Some(Options(options)) => spec.options(options),
            None => spec,
        })
    }
}

/// One term of the loss: layers of the student imitate layers of the teacher.
///
/// ```
/// use textbrewer::{IntermediateMatch, ProjectionSpec};
///
/// let mse = IntermediateMatch::hidden(8, 2)
///     .loss("hidden_mse")
///     .weight(0.5)
///     .proj(ProjectionSpec::linear(384, 768));
/// let nst = IntermediateMatch::new("hidden", [8, 8], [2, 2]).loss("nst");
/// assert_eq!(mse.log_name(), "unweighted_hidden_hidden_mse_2_8");
/// assert_eq!(nst.log_name(), "unweighted_hidden_nst_2-2_8-8");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IntermediateMatch {
    /// `layer_T`: which of the teacher adaptor's tensors.
    #[serde(rename = "layer_T")]
    pub layer_teacher: Layers,
    /// `layer_S`: which of the student adaptor's tensors.
    #[serde(rename = "layer_S")]
    pub layer_student: Layers,
    /// Which list of the adaptors': `hidden`, `attention`, or a user's own.
    pub feature: String,
    /// The registered name of the loss.
    pub loss: String,
    /// What the loss is multiplied by in the total.
    pub weight: f64,
    /// The student's features go through this layer first.
    #[serde(default)]
    pub proj: Option<ProjectionSpec>,
}

impl IntermediateMatch {
    /// Matches the tensors of any feature with weight 1; [`loss`](Self::loss) must be set.
    pub fn new(
        feature: impl Into<String>,
        layer_teacher: impl Into<Layers>,
        layer_student: impl Into<Layers>,
    ) -> Self {
        IntermediateMatch {
            layer_teacher: layer_teacher.into(),
            layer_student: layer_student.into(),
            feature: feature.into(),
            loss: String::new(),
            weight: 1.0,
            proj: None,
        }
    }

    /// Matches hidden states by `hidden_mse` with weight 1, until told otherwise.
    pub fn hidden(layer_teacher: impl Into<Layers>, layer_student: impl Into<Layers>) -> Self {
        Self::new("hidden", layer_teacher, layer_student).loss("hidden_mse")
    }

    /// Matches attentions by `attention_mse` with weight 1, until told otherwise.
    pub fn attention(layer_teacher: impl Into<Layers>, layer_student: impl Into<Layers>) -> Self {
        Self::new("attention", layer_teacher, layer_student).loss("attention_mse")
    }

    /// Sets the loss by its registered name.
    #[must_use]
    pub fn loss(mut self, loss: impl Into<String>) -> Self {
        self.loss = loss.into();
        self
    }

    /// Sets the weight.
    #[must_use]
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Brings the student's features to the teacher's size.
    #[must_use]
    pub fn proj(mut self, projection: ProjectionSpec) -> Self {
        self.proj = Some(projection);
        self
    }

    /// TextBrewer's name of this term in the logs:
    /// `unweighted_{feature}_{loss}_{layer_S}_{layer_T}`, lists joined by `-`.
    pub fn log_name(&self) -> String {
        format!(
            "unweighted_{}_{}_{}_{}",
            self.feature,
            self.loss,
            self.layer_student.tag(),
            self.layer_teacher.tag()
        )
    }

    pub(super) fn check(&self, path: &str) -> crate::Result<()> {
        for (key, layers) in [
            ("layer_T", &self.layer_teacher),
            ("layer_S", &self.layer_student),
        ] {
            if layers.as_slice().is_empty() {
                return Err(Error::config(
                    format!("{path}.{key}"),
                    "the list of layers must not be empty",
                ));
            }
        }
        match (&self.layer_teacher, &self.layer_student) {
            (Layers::One(_), Layers::One(_)) => {}
            (Layers::Many(teacher), Layers::Many(student)) if teacher.len() == student.len() => {}
            (teacher, student) => {
                return Err(Error::config(
                    path,
                    format!(
                        "layer_T ({teacher}) and layer_S ({student}) must both be one layer, \
                         or lists of the same length"
                    ),
                ))
            }
        }
        let feature = "`hidden`, `attention` or the name of a feature that the adaptors return";
        check_not_empty(format!("{path}.feature"), &self.feature, feature)?;
        check_not_empty(
            format!("{path}.loss"),
            &self.loss,
            "the name of a match loss",
        )?;
        check_finite(format!("{path}.weight"), self.weight)?;
        match &self.proj {
            Some(projection) => projection.check(&format!("{path}.proj")),
            None => Ok(()),
        }
    }
}

/// One line, in TextBrewer's key names.
impl fmt::Display for IntermediateMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "layer_T : {}, layer_S : {}, feature : {}, loss : {}, weight : {}",
            self.layer_teacher, self.layer_student, self.feature, self.loss, self.weight
        )?;
        match &self.proj {
            Some(projection) => write!(f, ", proj : {projection}"),
            None => Ok(()),
        }
    }
}
