//! Floating-point types of a configuration.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use tch::Kind;

use super::json;
use crate::error::{Error, shown};

/// A floating-point type: `"float32"`, `"bf16"` or `"fp16"` in JSON, and without the quotation
/// marks on a command line.
///
/// ```
/// use tch::Kind;
/// use textbrewer::config::Precision;
///
/// let precision: Precision = serde_json::from_str(r#""bf16""#)?;
/// assert_eq!(precision, Precision::Bf16);
/// assert_eq!(precision.kind(), Kind::BFloat16);
/// assert_eq!(precision.to_string(), "bf16");
/// assert_eq!("bf16".parse().ok(), Some(precision));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// 32 bits: a relative error of 6e-8.
    Float32,
    /// 16 bits with the range of `float32`: a relative error of 4e-3.
    Bf16,
    /// 16 bits with a range up to 65,504: a relative error of 5e-4.
    Fp16,
}

impl Precision {
    const NAMES: &[&str] = &["float32", "bf16", "fp16"];

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "float32" => Precision::Float32,
            "bf16" => Precision::Bf16,
            "fp16" => Precision::Fp16,
            _ => return None,
        })
    }

    /// The corresponding type of libtorch.
    pub fn kind(self) -> Kind {
        match self {
            Precision::Float32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
            Precision::Fp16 => Kind::Half,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Float32 => "float32",
            Precision::Bf16 => "bf16",
            Precision::Fp16 => "fp16",
        })
    }
}

/// By the name in configurations; the error lists the names.
impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Precision::named(name).ok_or_else(|| {
            let (given, known) = (shown(name), Precision::NAMES.join("`, `"));
            let reason = format!("unknown precision `{given}`, expected one of `{known}`");
            Error::config("precision", reason)
        })
    }
}

impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::one_of(deserializer, Precision::NAMES, Precision::named)
    }
}
