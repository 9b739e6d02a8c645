//! What a recording keeps of a teacher's output.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::column::{Column, Form, Layout, MAX_DRAWS, Origin, Stored};
use super::content::Content;
use super::encode;
use super::places::Places;
use crate::adaptor::AdaptorOutput;
use crate::config::LayerSelection;
use crate::error::{Error, Result, Side};
use crate::feature::{Feature, FeatureMask};
use crate::logits::Logits;

/// One of the things that a recording is to keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Keep {
    Logits { form: Form, seed: u64 },
    Feature(Layers),
}

/// Layers of a feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layers {
    pub(super) name: String,
    /// Their places in the feature's list; negative ones count from the end.
    pub(super) layers: Vec<i64>,
    pub(super) stored: Stored,
    pub(super) is_attention: bool,
}

/// A column, and what of a teacher's output goes into it.
pub(super) struct Source<'a> {
    pub(super) column: Column,
    data: Data<'a>,
    places: Places,
}

enum Data<'a> {
    Logits(&'a Logits, u64),
    Layer(&'a Tensor),
}

impl Source<'_> {
    /// The bytes of the examples with these ids.
    pub(super) fn encode(&self, ids: &[u64]) -> Result<Content> {
        let encoded = match self.data {
            Data::Logits(logits, seed) => {
                encode::logits(&self.column, logits, &self.places, (ids, seed))
            }
            Data::Layer(layer) => encode::layer(&self.column, layer, &self.places),
        };
        let of_batch = |error: Error| match ids {
            [first, ..] => error.at(format!("`{}`, examples from {first} on", self.column.name)),
            [] => error.at(&self.column.name),
        };
        encoded.map_err(of_batch)
    }
}

impl Keep {
    /// What is wrong with it, before a teacher is asked.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |field: &str, reason: String| Err(Error::config(field, reason));
        match self {
            Keep::Logits { form, .. } => match *form {
                Form::TopK { k, .. } if k < 1 => {
                    wrong("top_k", format!("k must be 1 or more, is {k}"))
                }
                Form::Sample { draws, .. } if !(1..=MAX_DRAWS).contains(&draws) => wrong(
                    "sample",
                    format!("draws must be 1 to {MAX_DRAWS}, are {draws}"),
                ),
                Form::TopK { temperature, .. } | Form::Sample { temperature, .. }
                    if !(temperature.is_finite() && temperature > 0.0) =>
                {
                    let reason = format!("must be a positive number, is {temperature}");
                    wrong("temperature", reason)
                }
                _ => Ok(()),
            },
            Keep::Feature(layers) if layers.layers.is_empty() => {
                let reason = "no layer was asked for; name some, or leave the feature out";
                wrong(&format!("feature `{}`", layers.name), reason.to_owned())
            }
            Keep::Feature(_) => Ok(()),
        }
    }

    /// The columns that this makes of a teacher's output.
    pub(super) fn sources<'a>(
        &self,
        said: &'a AdaptorOutput,
        (count, classes): (i64, Option<i64>),
    ) -> Result<Vec<Source<'a>>> {
        match self {
            Keep::Logits { form, seed } => {
                if said.logits.is_empty() {
                    return Err(missing("logits"));
                }
                let (heads, masks) = (said.logits.len(), said.logits_mask.len());
                if masks > 1 && masks != heads {
                    let expected = format!("one, or one for each of the {heads} logits");
                    return Err(Error::shape(
                        "logits_mask of the teacher",
                        expected,
                        masks.to_string(),
                    ));
                }
                let heads = said.logits.iter().enumerate();
                let sources = heads.map(|(head, logits)| {
                    let mask = said.mask_of_logits(head);
                    let width = classes_of(logits, classes)?;
                    of_logits(
                        (head, logits, width),
                        mask,
                        form,
                        (count, of_head(*seed, head)),
                    )
                });
                sources.collect()
            }
            Keep::Feature(layers) => {
                let feature = said.features.get(&layers.name);
                let feature = feature.ok_or_else(|| missing(&layers.name))?;
                let mask = match &feature.mask {
                    FeatureMask::Own(mask) => Some(mask),
                    FeatureMask::Unmasked => None,
                    FeatureMask::Inputs => said.inputs_mask.as_ref(),
                };
                layers.sources(feature, mask, count)
            }
        }
    }
}

/// A seed for each of several logits: their draws have nothing in common.
fn of_head(seed: u64, head: usize) -> u64 {
    seed.wrapping_add((head as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn missing(key: &str) -> Error {
    Error::MissingOutput {
        side: Side::Teacher,
        key: key.to_owned(),
        needed_by: "the recording".to_owned(),
    }
}

fn of_logits<'a>(
    (head, logits, width): (usize, &'a Logits, i64),
    mask: Option<&Tensor>,
    form: &Form,
    (count, seed): (i64, u64),
) -> Result<Source<'a>> {
    let what = format!("logits {head} of the teacher");
    let positions = logits.positions()?;
    let (layout, places) = match positions[..] {
        [batch] if batch == count => (Layout::Example, Places::examples(count)),
        [batch, length] if batch == count => {
            let places = match mask {
                Some(mask) => Places::of_mask("logits_mask of the teacher", mask, count)?,
                None => Places::all(count, length),
            };
            if places.length != length {
                let expected = format!("a `logits_mask` of {length} positions");
                return Err(Error::shape(what, expected, places.length.to_string()));
            }
            (Layout::Positions, places)
        }
        _ => {
            let expected = format!("[batch] or [batch, length] positions, for {count} ids");
            return Err(Error::shape(what, expected, format!("{positions:?}")));
        }
    };
    let name = match form {
        Form::Numbers { .. } => format!("logits.{head}"),
        Form::Probabilities { .. } => format!("logits.{head}.probabilities"),
        Form::TopK { k, .. } => format!("logits.{head}.top{k}"),
        Form::Sample { draws, .. } => format!("logits.{head}.draws{draws}"),
    };
    let column = Column {
        name,
        of: Origin::Logits { head },
        form: form.clone(),
        layout,
        is_masked: layout == Layout::Positions && mask.is_some(),
        is_unmasked: false,
        width,
    };
    if let Form::TopK { k, .. } = column.form
        && k > width
    {
        let reason = format!("the top {k} is to be kept, but there are only {width} classes");
        return Err(Error::config("top_k", reason));
    }
    column
        .check()
        .map_err(|reason| Error::config(&column.name, reason))?;
    Ok(Source {
        column,
        data: Data::Logits(logits, seed),
        places,
    })
}

/// How many classes logits have; `said` is what the recording was told.
fn classes_of(logits: &Logits, said: Option<i64>) -> Result<i64> {
    let known = match logits {
        Logits::Whole(tensor) => tensor.size().last().copied(),
        Logits::FromHidden(logits) => Some(logits.classes()),
        Logits::TopK(_) | Logits::Sample(_) => None,
    };
    match (known, said) {
        (Some(known), Some(said)) if known != said => Err(Error::shape(
            "logits of the teacher",
            format!("{said} classes, as `Recording::classes` says"),
            known.to_string(),
        )),
        (Some(classes), _) | (None, Some(classes)) => Ok(classes),
        (None, None) => Err(Error::config(
            "classes",
            "the teacher's adaptor returns some of its classes; say how many there are with \
             `Recording::classes`",
        )),
    }
}

impl Layers {
    fn sources<'a>(
        &self,
        feature: &'a Feature,
        mask: Option<&Tensor>,
        count: i64,
    ) -> Result<Vec<Source<'a>>> {
        let len = feature.layers.len();
        let is_unmasked = matches!(feature.mask, FeatureMask::Unmasked);
        let selection = LayerSelection::from(self.layers.clone());
        for &layer in &self.layers {
            if !(-(len as i64)..len as i64).contains(&layer) {
                return Err(Error::LayerOutOfRange {
                    side: Side::Teacher,
                    feature: self.name.clone(),
                    index: layer,
                    len,
                    needed_by: "the recording".to_owned(),
                });
            }
        }
        let layers = feature.layers.iter().enumerate();
        let wanted = layers.filter(|(place, _)| selection.contains(*place, len));
        let sources = wanted.map(|(place, tensor)| {
            if !tensor.defined() {
                return Err(Error::LayerNotKept {
                    side: Side::Teacher,
                    feature: self.name.clone(),
                    index: place as i64,
                    needed_by: "the recording".to_owned(),
                });
            }
            self.source((place, len), tensor, (mask, is_unmasked), count)
        });
        sources.collect()
    }

    fn source<'a>(
        &self,
        (layer, layers): (usize, usize),
        tensor: &'a Tensor,
        (mask, is_unmasked): (Option<&Tensor>, bool),
        count: i64,
    ) -> Result<Source<'a>> {
        let name = format!("{}.{layer}", self.name);
        let size = tensor.size();
        let (layout, length, width) = match (size[..].split_first(), self.is_attention) {
            (Some((&batch, &[width])), false) if batch == count => (Layout::Example, None, width),
            (Some((&batch, &[length, width])), false) if batch == count => {
                (Layout::Positions, Some(length), width)
            }
            (Some((&batch, &[groups, length, width])), false) if batch == count => {
                (Layout::Groups { groups }, Some(length), width)
            }
            (Some((&batch, &[heads, length, other])), true)
                if batch == count && length == other =>
            {
                (Layout::Attention { heads }, Some(length), 0)
            }
            _ => {
                let expected = match self.is_attention {
                    true => format!("[{count}, heads, length, length]"),
                    false => format!(
                        "[{count}, size], [{count}, length, size] or [{count}, groups, length, size]"
                    ),
                };
                return Err(Error::shape(name, expected, format!("{size:?}")));
            }
        };
        let mask = mask.filter(|_| length.is_some());
        let places = match (length, mask) {
            (None, _) => Places::examples(count),
            (Some(_), Some(mask)) => Places::of_mask("mask of the teacher's layers", mask, count)?,
            (Some(length), None) => Places::all(count, length),
        };
        if let Some(length) = length.filter(|length| *length != places.length) {
            let expected = format!("a mask of {length} positions");
            return Err(Error::shape(name, expected, places.length.to_string()));
        }
        let column = Column {
            of: Origin::Feature {
                name: self.name.clone(),
                layer,
                layers,
            },
            form: Form::Numbers {
                stored: self.stored,
            },
            layout,
            is_masked: mask.is_some(),
            is_unmasked,
            width,
            name,
        };
        column
            .check()
            .map_err(|reason| Error::config(&column.name, reason))?;
        Ok(Source {
            column,
            data: Data::Layer(tensor),
            places,
        })
    }
}
