//! The students of TextBrewer's experiments.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use textbrewer::models::BertConfig;

use crate::{Error, Result};

/// The shape of a student, by the name that TextBrewer's experiments give it.
///
/// | | layers | hidden | feed-forward | starts from |
/// |---|---|---|---|---|
/// | `T6`, `T3` | 6, 3 | the teacher's | the teacher's | layers of the teacher |
/// | `T3-small` | 3 | 384 | 1536 | random values, or the teacher's layers if they are of this shape |
/// | `T4-tiny` | 4 | 312 | 1200 | random values |
/// | `T12-nano` | 12 | 256 | 1024 | random values |
/// | `BiGRU` | - | 768 in each direction | - | random values, and the teacher's word embeddings if they are as wide |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Shape {
    /// The shape of the model that it starts from.
    Full,
    /// Six layers of the teacher's shape.
    T6,
    /// Three layers of the teacher's shape.
    T3,
    /// Three narrow layers.
    T3Small,
    /// Four narrower layers.
    T4Tiny,
    /// Twelve still narrower layers.
    T12Nano,
    /// A bidirectional GRU.
    BiGru,
}

const NAMES: [(Shape, &str); 7] = [
    (Shape::Full, "full"),
    (Shape::T6, "T6"),
    (Shape::T3, "T3"),
    (Shape::T3Small, "T3-small"),
    (Shape::T4Tiny, "T4-tiny"),
    (Shape::T12Nano, "T12-nano"),
    (Shape::BiGru, "BiGRU"),
];

impl Shape {
    /// The configuration of such a student of a teacher; `None` if it is not a transformer.
    pub fn config(self, teacher: &BertConfig) -> Option<BertConfig> {
        let teacher = teacher.clone();
        let narrow = |layers, hidden, heads, feed_forward| {
            teacher
                .clone()
                .num_hidden_layers(layers)
                .hidden_size(hidden)
                .num_attention_heads(heads)
                .intermediate_size(feed_forward)
        };
        Some(match self {
            Shape::Full => teacher,
            Shape::T6 => teacher.num_hidden_layers(6),
            Shape::T3 => teacher.num_hidden_layers(3),
            Shape::T3Small => narrow(3, 384, 12, 1536),
            Shape::T4Tiny => narrow(4, 312, 12, 1200),
            Shape::T12Nano => narrow(12, 256, 4, 1024),
            Shape::BiGru => return None,
        })
    }

    /// Whether a student of this shape always has the width of its teacher.
    pub fn starts_from_teacher(self) -> bool {
        matches!(self, Shape::Full | Shape::T6 | Shape::T3)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES.iter().find(|(shape, _)| shape == self);
        f.write_str(known.map_or("?", |(_, name)| name))
    }
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = NAMES
            .iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name));
        known.map(|(shape, _)| *shape).ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|(_, name)| *name).collect();
            let known = known.join(", ");
            Error::invalid(format!("unknown student `{name}`; known are: {known}"))
        })
    }
}

impl TryFrom<String> for Shape {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Shape> for String {
    fn from(shape: Shape) -> Self {
        shape.to_string()
    }
}
