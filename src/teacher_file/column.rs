//! What a file has of a teacher: one kind of output, and how its numbers are stored.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the numbers of a teacher are stored in a file.
///
/// | | bytes | read again |
/// |---|---|---|
/// | `Float32` | 4 | to the bit |
/// | `BFloat16` | 2 | within 2⁻⁸ of each number |
/// | `Float16` | 2 | within 2⁻¹¹ of each number between 6·10⁻⁵ and 65,504; larger ones are refused |
/// | `Int8` | 1, and 4 for each row | within about 1/254 of the largest number of the row |
///
/// ```
/// use textbrewer::teacher_file::Stored;
///
/// assert_eq!(Stored::BFloat16.to_string(), "bfloat16");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Stored {
    /// 32 bits.
    Float32,
    /// 16 bits, with the range of 32.
    BFloat16,
    /// 16 bits, with more digits and less range.
    Float16,
    /// 8 bits, with a scale for each row: for each position, or each query of an attention.
    Int8,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stored::Float32 => "float32",
            Stored::BFloat16 => "bfloat16",
            Stored::Float16 => "float16",
            Stored::Int8 => "int8",
        })
    }
}

/// One of the things that a file has of a teacher, for each example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Column {
    /// Its name in the file, such as `logits.0` or `hidden.4`.
    pub name: String,
    /// What of the teacher's output it is.
    pub of: Origin,
    /// What is kept of it.
    pub form: Form,
    /// How much of it an example has.
    pub layout: Layout,
    /// Whether only the positions of a mask are kept, which whoever reads has to say again.
    pub is_masked: bool,
    /// Whether the teacher said of the feature that all its positions count, whatever the mask of the
    /// inputs is.
    pub is_unmasked: bool,
    /// Classes, or the size of a hidden state; 0 for attentions, which are as wide as they are long.
    pub width: i64,
}

/// A part of a teacher's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Origin {
    /// Logits, of a model that may have several.
    Logits {
        /// Which of them, from 0.
        head: usize,
    },
    /// A layer of a feature.
    Feature {
        /// The feature, such as `hidden`.
        name: String,
        /// The place of the layer in the feature's list, from 0.
        layer: usize,
        /// How many layers that list has.
        layers: usize,
    },
}

/// What is kept of numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Form {
    /// All of them.
    Numbers {
        /// How.
        stored: Stored,
    },
    /// The probabilities of logits; they are read as logarithms, which are logits too.
    Probabilities {
        /// How.
        stored: Stored,
    },
    /// The most likely classes, and the mass of all others ([`TopK`](crate::logits::TopK)).
    TopK {
        /// How many.
        k: i64,
        /// The temperature of the probabilities.
        temperature: f64,
    },
    /// Classes drawn from the probabilities ([`Sample`](crate::logits::Sample)).
    Sample {
        /// How many were drawn at each position.
        draws: i64,
        /// The temperature of the probabilities.
        temperature: f64,
    },
}

/// How much an example has of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Layout {
    /// One row, as of `[batch, width]`.
    Example,
    /// One row for each of its positions, as of `[batch, length, width]`.
    Positions,
    /// Several for each position, as of `[batch, groups, length, width]`.
    Groups {
        /// How many.
        groups: i64,
    },
    /// A square for each head, as of `[batch, heads, length, length]`.
    Attention {
        /// How many.
        heads: i64,
    },
}

/// More than any model has; what a file says beyond is a mistake or an attack.
const MAX_WIDTH: i64 = 1 << 31;
const MAX_GROUPS: i64 = 1 << 16;
const MAX_LAYERS: usize = 10_000;
pub(super) const MAX_DRAWS: i64 = 1 << 16;

impl Column {
    /// Whether it is a layer of this feature.
    pub(super) fn is_of(&self, feature: &str) -> bool {
        matches!(&self.of, Origin::Feature { name, .. } if name == feature)
    }

    /// How many bits the number of a class has.
    pub(super) fn bits_of_class(&self) -> u32 {
        bits(self.width - 1)
    }

    /// The bytes of a row, if all rows of all examples have equally many.
    pub(super) fn row_bytes(&self) -> Option<u64> {
        let stored = match &self.form {
            Form::Numbers { stored } | Form::Probabilities { stored } => *stored,
            Form::TopK { k, .. } => {
                let of_classes = (*k as u64 * u64::from(self.bits_of_class())).div_ceil(8);
                return Some(of_classes + 2 * *k as u64 + 2);
            }
            Form::Sample { .. } => return None,
        };
        match self.layout {
            Layout::Example | Layout::Positions => Some(bytes_of(stored, self.width)),
            Layout::Groups { groups } => Some(bytes_of(stored, groups.checked_mul(self.width)?)),
            Layout::Attention { .. } => None,
        }
    }

    /// The bytes of an example with so many positions, unless they differ from example to example.
    pub(super) fn example_bytes(&self, positions: u64) -> Option<u64> {
        match (&self.form, self.layout) {
            (Form::Sample { .. }, _) => None,
            (
                Form::Numbers { stored } | Form::Probabilities { stored },
                Layout::Attention { heads },
            ) => {
                let length = i64::try_from(positions).ok()?;
                (heads as u64)
                    .checked_mul(positions)?
                    .checked_mul(bytes_of(*stored, length))
            }
            _ => self.row_bytes()?.checked_mul(positions),
        }
    }

    /// Whether examples have different numbers of positions.
    pub(super) fn has_positions(&self) -> bool {
        self.layout != Layout::Example
    }

    /// What is wrong with it, of one that a file describes.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_positive = |value: f64| value.is_finite() && value > 0.0;
        let is_attention = matches!(self.layout, Layout::Attention { .. });
        let is_in_range = match is_attention {
            true => self.width == 0,
            false => (1..=MAX_WIDTH).contains(&self.width),
        };
        if !is_in_range {
            return Err(format!("has an impossible width of {}", self.width));
        }
        match self.layout {
            Layout::Groups { groups: n } | Layout::Attention { heads: n }
                if !(1..=MAX_GROUPS).contains(&n) =>
            {
                return Err(format!("has an impossible number of {n} groups or heads"));
            }
            _ => {}
        }
        let of_classes = matches!(self.of, Origin::Logits { .. })
            && matches!(self.layout, Layout::Example | Layout::Positions);
        match self.form {
            Form::TopK { k, .. } if !of_classes || !(1..=self.width).contains(&k) => {
                return Err(format!("has an impossible k of {k}"));
            }
            Form::Sample { draws, .. } if !of_classes || !(1..=MAX_DRAWS).contains(&draws) => {
                return Err(format!("has an impossible number of {draws} draws"));
            }
            Form::TopK { temperature, .. } | Form::Sample { temperature, .. }
                if !is_positive(temperature) =>
            {
                return Err(format!("has an impossible temperature of {temperature}"));
            }
            Form::Probabilities { .. } if !of_classes => {
                return Err("has probabilities of what has no classes".to_owned());
            }
            _ => {}
        }
        match &self.of {
            Origin::Feature { layer, layers, .. } if layer >= layers || *layers > MAX_LAYERS => {
                Err(format!("is layer {layer} of {layers}"))
            }
            Origin::Logits { head } if *head > MAX_LAYERS => Err(format!("are logits {head}")),
            _ => Ok(()),
        }
    }
}

/// In words, for messages: `logits.0: the top 16 of 30522 classes, at positions`.
impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.width;
        write!(f, "{}: ", self.name)?;
        match &self.form {
            Form::Numbers { stored } => write!(f, "{width} numbers in {stored}")?,
            Form::Probabilities { stored } => write!(f, "{width} probabilities in {stored}")?,
            Form::TopK { k, temperature } => {
                write!(
                    f,
                    "the top {k} of {width} classes at temperature {temperature}"
                )?;
            }
            Form::Sample { draws, temperature } => {
                write!(
                    f,
                    "{draws} draws from {width} classes at temperature {temperature}"
                )?;
            }
        }
        match self.layout {
            Layout::Example => {}
            Layout::Positions => f.write_str(", at each position")?,
            Layout::Groups { groups } => write!(f, ", {groups} at each position")?,
            Layout::Attention { heads } => write!(f, ", attentions of {heads} heads")?,
        }
        match self.is_masked {
            true => f.write_str(" of a mask"),
            false => Ok(()),
        }
    }
}

/// The bytes of a row of so many numbers.
fn bytes_of(stored: Stored, width: i64) -> u64 {
    let width = width.unsigned_abs();
    match stored {
        Stored::Float32 => 4 * width,
        Stored::BFloat16 | Stored::Float16 => 2 * width,
        Stored::Int8 => 4 + width,
    }
}

/// How many bits the numbers from 0 to `largest` need, at least one.
pub(super) fn bits(largest: i64) -> u32 {
    (i64::BITS - largest.leading_zeros()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(form: Form, width: i64) -> Column {
        Column {
            name: "logits.0".to_owned(),
            of: Origin::Logits { head: 0 },
            form,
            layout: Layout::Positions,
            is_masked: true,
            is_unmasked: false,
            width,
        }
    }

    #[test]
    fn bytes_of_a_token() {
        let top_16 = |width| {
            let temperature = 1.0;
            logits(Form::TopK { k: 16, temperature }, width).row_bytes()
        };
        assert_eq!(top_16(30_522), Some(64));
        assert_eq!(top_16(128_256), Some(68));
        assert_eq!(top_16(151_936), Some(70));
        let stored = Stored::BFloat16;
        assert_eq!(
            logits(Form::Numbers { stored }, 30_522).row_bytes(),
            Some(61_044)
        );
        assert_eq!(
            [bits(0), bits(1), bits(2), bits(255), bits(256)],
            [1, 1, 2, 8, 9]
        );
    }
}
