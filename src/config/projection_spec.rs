//! A projection by its name, sizes and options.

use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::{check_name, json};
use crate::error::Error;
use crate::optim::GroupOptions;

/// The most weights that all projections of a configuration may have together: 4 GiB in
/// `float32`. Projections are created before the sizes of the models are known, so a
/// configuration that is not trusted could ask for any amount of memory.
pub(super) const MOST_ELEMENTS: u64 = 1 << 30;

/// A trained layer that projects the student's features to the teacher's size.
///
/// In JSON it is `["linear", 384, 768]`, or `["linear", 384, 768, {"lr": 1e-3}]` with
/// options of its own for the optimizer.
///
/// ```
/// use textbrewer::ProjectionSpec;
///
/// let projection = ProjectionSpec::linear(384, 768).learning_rate(1e-3);
/// assert_eq!(projection.to_string(), r#"["linear",384,768,{"lr":0.001}]"#);
/// assert_eq!(ProjectionSpec::relu(384, 768), ProjectionSpec::new("relu", 384, 768));
/// assert_eq!(ProjectionSpec::tanh(384, 768).to_string(), r#"["tanh",384,768]"#);
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
    /// Options of the optimizer for this layer.
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

    /// Sets the decay of the first and second moment (Adam and AdamW).
    #[must_use]
    pub fn betas(mut self, first: f64, second: f64) -> Self {
        self.options.betas = Some((first, second));
        self
    }

    /// Sets what is added to the denominator (Adam and AdamW).
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.options.eps = Some(eps);
        self
    }

    pub(crate) fn check(&self, path: &str) -> crate::error::Result<()> {
        check_name(format!("{path}[0]"), &self.name, "the name of a projection")?;
        for (i, dim) in [(1, self.dim_in), (2, self.dim_out)] {
            if dim < 1 {
                return Err(Error::config(
                    format!("{path}[{i}]"),
                    format!("a size must be at least 1, is {dim}"),
                ));
            }
        }
        if self.elements() > MOST_ELEMENTS {
            let reason = format!(
                "{} × {} weights are more than the {MOST_ELEMENTS} that projections may have",
                self.dim_in, self.dim_out
            );
            return Err(Error::config(path, reason));
        }
        self.options.check(&format!("{path}[3]."))
    }

    /// How many weights the matrix has; saturates.
    pub(super) fn elements(&self) -> u64 {
        let size = |dim: i64| u64::try_from(dim).unwrap_or(0);
        size(self.dim_in).saturating_mul(size(self.dim_out))
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
