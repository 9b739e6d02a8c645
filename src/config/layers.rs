//! Positions in a list of layers.

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::json;

/// Positions in a list of layers; negative ones count from the end.
///
/// Losses on several layers of a model at once (`fsp`, `nst`) take a list.
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
    pub(super) fn tag(&self) -> String {
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

// Implemented by hand because serde's untagged enums lose the place of an error.
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
