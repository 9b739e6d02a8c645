//! A loss or schedule by its name, with its arguments.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::{check_finite, check_name, json};
use crate::error::Error;

/// The arguments of a loss or schedule: `["flsw", 1, 2]` or `["flsw", {"beta": 1, "gamma": 2}]`.
///
/// ```
/// use textbrewer::config::{Arguments, DistillationConfig};
///
/// let config = DistillationConfig::from_json_str(r#"{"temperature_scheduler": ["flsw", 1, 2]}"#)?;
/// let arguments = config.temperature_scheduler.map(|spec| spec.arguments);
/// assert_eq!(arguments, Some(Arguments::Positional(vec![1.0, 2.0])));
/// assert!(Arguments::Named([].into()).is_empty());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Arguments {
    /// In the order of the parameters.
    Positional(Vec<f64>),
    /// By the parameters' names.
    Named(BTreeMap<String, f64>),
}

impl Arguments {
    /// Whether there are no arguments.
    pub fn is_empty(&self) -> bool {
        match self {
            Arguments::Positional(values) => values.is_empty(),
            Arguments::Named(values) => values.is_empty(),
        }
    }
}

/// A loss or schedule by its name, with its arguments: one of those in [`Presets`](crate::Presets).
///
/// In JSON it is `"constant"` when there are no arguments, `["flsw", 1, 2]` or
/// `["flsw", {"beta": 1, "gamma": 2}]`.
///
/// ```
/// use textbrewer::{DistillationConfig, PresetSpec};
///
/// let config = DistillationConfig::default()
///     .temperature_scheduler(("flsw", [1.0, 2.0]))
///     .kd_loss_weight_scheduler("linear_decay");
/// let by_name = PresetSpec::new("flsw").named([("beta", 1.0), ("gamma", 2.0)]);
/// assert_eq!(by_name.to_string(), r#"["flsw",{"beta":1.0,"gamma":2.0}]"#);
/// # config.validate()?;
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PresetSpec {
    /// The registered name.
    pub name: String,
    /// Its arguments.
    pub arguments: Arguments,
}

impl PresetSpec {
    /// A name without arguments.
    pub fn new(name: impl Into<String>) -> Self {
        PresetSpec {
            name: name.into(),
            arguments: Arguments::Positional(Vec::new()),
        }
    }

    /// Sets the arguments in the order of the parameters.
    #[must_use]
    pub fn positional(mut self, arguments: impl IntoIterator<Item = f64>) -> Self {
        self.arguments = Arguments::Positional(arguments.into_iter().collect());
        self
    }

    /// Sets the arguments by the parameters' names.
    #[must_use]
    pub fn named<K: Into<String>>(mut self, arguments: impl IntoIterator<Item = (K, f64)>) -> Self {
        let arguments = arguments.into_iter();
        self.arguments = Arguments::Named(arguments.map(|(k, v)| (k.into(), v)).collect());
        self
    }

    /// In TextBrewer `"none"` means that there is no schedule.
    pub(super) fn unless_none(self) -> Option<Self> {
        (!self.is_none()).then_some(self)
    }

    fn is_none(&self) -> bool {
        self.name == "none" && self.arguments == Arguments::Positional(Vec::new())
    }

    pub(super) fn check_schedule(&self, key: &str) -> crate::error::Result<()> {
        check_name(key, &self.name, "the name of a schedule, or \"none\"")?;
        if self.is_none() {
            return Err(Error::config(
                key,
                "a schedule cannot be called `none`; set the field to `None` for no schedule",
            ));
        }
        self.check_arguments(key)
    }

    /// Whether all arguments are finite numbers.
    pub(super) fn check_arguments(&self, key: &str) -> crate::error::Result<()> {
        match &self.arguments {
            Arguments::Positional(values) => values
                .iter()
                .enumerate()
                .try_for_each(|(i, &value)| check_finite(format!("{key}[{}]", i + 1), value)),
            Arguments::Named(values) => values
                .iter()
                .try_for_each(|(name, &value)| check_finite(format!("{key}[1].{name}"), value)),
        }
    }
}

impl From<&str> for PresetSpec {
    fn from(name: &str) -> Self {
        PresetSpec::new(name)
    }
}

impl From<&PresetSpec> for PresetSpec {
    fn from(spec: &PresetSpec) -> Self {
        spec.clone()
    }
}

impl From<&String> for PresetSpec {
    fn from(name: &String) -> Self {
        PresetSpec::new(name)
    }
}

impl From<String> for PresetSpec {
    fn from(name: String) -> Self {
        PresetSpec::new(name)
    }
}

impl<const N: usize> From<(&str, [f64; N])> for PresetSpec {
    fn from((name, arguments): (&str, [f64; N])) -> Self {
        PresetSpec::new(name).positional(arguments)
    }
}

/// As in JSON.
impl fmt::Display for PresetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.arguments {
            Arguments::Positional(values) if values.is_empty() => f.write_str(&self.name),
            _ => json::write_compact(f, self),
        }
    }
}

impl Serialize for PresetSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = match &self.arguments {
            Arguments::Positional(values) if values.is_empty() => {
                return serializer.serialize_str(&self.name);
            }
            Arguments::Positional(values) => serializer.serialize_seq(Some(1 + values.len()))?,
            Arguments::Named(_) => serializer.serialize_seq(Some(2))?,
        };
        list.serialize_element(&self.name)?;
        match &self.arguments {
            Arguments::Positional(values) => {
                for value in values {
                    list.serialize_element(value)?;
                }
            }
            Arguments::Named(values) => list.serialize_element(values)?,
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for PresetSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpecVisitor)
    }
}

struct SpecVisitor;

impl<'de> Visitor<'de> for SpecVisitor {
    type Value = PresetSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a name (\"none\" for no schedule), [name, numbers ...] or [name, {argument: number}]",
        )
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<PresetSpec, E> {
        Ok(PresetSpec::new(name))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PresetSpec, A::Error> {
        let name: String = list
            .next_element()?
            .ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let mut values = Vec::new();
        while let Some(argument) = list.next_element()? {
            match argument {
                Argument::Number(value) => values.push(value),
                Argument::Named(named) => {
                    if !values.is_empty() || list.next_element::<IgnoredAny>()?.is_some() {
                        return Err(de::Error::custom(
                            "arguments by name must be the only ones: [name, {argument: number}]",
                        ));
                    }
                    return Ok(PresetSpec::new(name).named(named));
                }
            }
        }
        Ok(PresetSpec::new(name).positional(values))
    }
}

enum Argument {
    Number(f64),
    Named(BTreeMap<String, f64>),
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArgumentVisitor)
    }
}

struct ArgumentVisitor;

impl<'de> Visitor<'de> for ArgumentVisitor {
    type Value = Argument;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or an object of numbers by argument name")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Argument, E> {
        Ok(Argument::Number(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Argument, E> {
        Ok(Argument::Number(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Argument, E> {
        Ok(Argument::Number(value as f64))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Argument, A::Error> {
        let mut named = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, f64>()? {
            if named.contains_key(&name) {
                return Err(de::Error::custom(format!("duplicate argument `{name}`")));
            }
            named.insert(name, value);
        }
        Ok(Argument::Named(named))
    }
}

/// An optional schedule: both `"none"` and `null` mean that there is none.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, PresetSpec, Serialize, Serializer};

    pub(in crate::config) fn serialize<S: Serializer>(
        spec: &Option<PresetSpec>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match spec {
            Some(spec) => spec.serialize(serializer),
            None => serializer.serialize_str("none"),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PresetSpec>, D::Error> {
        let spec = Option::<PresetSpec>::deserialize(deserializer)?;
        Ok(spec.and_then(PresetSpec::unless_none))
    }
}
