//! Named metrics.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Named metrics; fractions are in percent. The first metric is for choosing the best model.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    figures: Vec<(String, f64)>,
}

impl Metrics {
    /// The figure that models are chosen by.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Metrics {
            figures: vec![(name.into(), value)],
        }
    }

    /// Adds a metric.
    #[must_use]
    pub fn and(mut self, name: impl Into<String>, value: f64) -> Self {
        self.figures.push((name.into(), value));
        self
    }

    /// The figure that models are chosen by.
    pub fn main(&self) -> f64 {
        self.figures.first().map_or(f64::NAN, |(_, value)| *value)
    }

    /// A metric by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let named = self.figures.iter().find(|(known, _)| known == name);
        named.map(|(_, value)| *value)
    }

    /// All metrics in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.figures
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "  " };
            write!(f, "{separator}{name} {value:.2}")?;
        }
        Ok(())
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.figures.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}
