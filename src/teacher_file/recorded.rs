//! What a file has for a distiller, and what of it is wanted.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::TeacherFile;
use super::column::{Column, Form, Layout, Origin};
use super::content::Content;
use super::decode;
use super::places::Places;
use crate::adaptor::AdaptorOutput;
use crate::config::{LayerSelection, Needs};
use crate::error::{Error, Result};
use crate::feature::{Feature, FeatureMask};
use crate::logging;

/// What a file has for a distiller, and what of it is wanted.
#[doc(hidden)]
#[derive(Debug)]
pub struct Recorded {
    pub(super) file: TeacherFile,
    /// Which columns are used.
    pub(super) columns: RefCell<Vec<usize>>,
}

impl Recorded {
    /// Leaves out what no term needs, and refuses what a file does not have. `term` is what needs it.
    pub(crate) fn check(&self, needs: &Needs, teacher: usize, term: &str) -> Result<()> {
        let columns = self.file.columns();
        let lacks = |what: String| {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let reason = format!(
                "has no {what}, which `{term}` needs; it has {}; record the teacher again with it",
                names.join(", ")
            );
            super::wrong(self.file.folder(), reason)
        };
        let has_logits = columns
            .iter()
            .any(|column| matches!(column.of, Origin::Logits { .. }));
        if needs.logits && !has_logits {
            return Err(lacks("logits".to_owned()));
        }
        for (feature, wanted) in needs.teachers.get(&teacher).into_iter().flatten() {
            let layers = columns.iter().filter_map(|column| match &column.of {
                Origin::Feature {
                    name,
                    layer,
                    layers,
                } if name == feature => Some((*layer, *layers)),
                _ => None,
            });
            let has: Vec<(usize, usize)> = layers.collect();
            let Some(&(_, len)) = has.first() else {
                return Err(lacks(format!("`{feature}`")));
            };
            let is_there = |layer: usize| has.iter().any(|(there, _)| *there == layer);
            let missing = (0..len).find(|&layer| wanted.contains(layer, len) && !is_there(layer));
            if let Some(layer) = missing {
                return Err(lacks(format!("layer {layer} of `{feature}`")));
            }
        }
        Ok(())
    }

    /// Warns of a top k at another temperature than that of the loss.
    pub(crate) fn tell_of_temperature(&self, of_loss: f64) {
        let columns = self.file.columns();
        let used = self.columns.borrow();
        for column in used.iter().filter_map(|place| columns.get(*place)) {
            if let Form::TopK { temperature, .. } = column.form
                && temperature != of_loss
            {
                logging::warn(format_args!(
                    "{}: `{}` was taken at temperature {temperature}, and the loss is at {of_loss}: what \
                     the other classes have there is guessed; record at {of_loss}, or set `temperature` \
                     to {temperature}",
                    self.file.folder().display(),
                    column.name
                ));
            }
        }
    }

    /// Runs `forward`, in which no more is read than what is needed. Other distillers may have the
    /// same teacher and need something else.
    pub(crate) fn limited<R>(
        &self,
        needs: &Needs,
        teacher: usize,
        forward: impl FnOnce() -> R,
    ) -> R {
        let columns = self.file.columns();
        let none = LayerSelection::None;
        let is_needed = |place: &usize| match columns.get(*place).map(|column| &column.of) {
            Some(Origin::Logits { .. }) => needs.logits,
            Some(Origin::Feature {
                name,
                layer,
                layers,
            }) => {
                let of_teacher = needs.teachers.get(&teacher);
                let wanted = of_teacher
                    .and_then(|features| features.get(name))
                    .unwrap_or(&none);
                wanted.contains(*layer, *layers)
            }
            None => false,
        };
        let mut needed = self.columns.borrow().clone();
        needed.retain(is_needed);
        let all = self.columns.replace(needed);
        let said = forward();
        self.columns.replace(all);
        said
    }

    /// What a resumed run compares.
    pub(crate) fn description(&self) -> String {
        let columns = self.file.columns();
        let used = self.columns.borrow();
        let used = used.iter().filter_map(|place| columns.get(*place));
        let forms = used.filter(|column| matches!(column.of, Origin::Logits { .. }));
        let forms: Vec<&str> = forms.map(|column| column.name.as_str()).collect();
        match forms.is_empty() {
            true => self.file.fingerprint(),
            false => format!("{}, {}", self.file.fingerprint(), forms.join(", ")),
        }
    }

    /// Everything, with masks of its own: the positions of each example, then padding.
    pub(super) fn all(file: &TeacherFile, ids: &[u64]) -> Result<AdaptorOutput> {
        let columns = file.columns();
        let mut said = AdaptorOutput::new();
        let mut of_heads = Vec::new();
        for (place, column) in columns.iter().enumerate() {
            let mask = || mask_of(file, ids, place);
            match &column.of {
                Origin::Logits { head } if *head == of_heads.len() => of_heads.push(mask()?),
                Origin::Feature { name, .. } if column.is_masked => {
                    let feature = Feature::default().mask(&mask()?);
                    said.features.insert(name.clone(), feature);
                }
                _ => {}
            }
        }
        let heads = columns.iter().filter_map(|column| match column.of {
            Origin::Logits { head } => Some((head, column.is_masked)),
            Origin::Feature { .. } => None,
        });
        let heads: Vec<(usize, bool)> = heads.collect();
        if heads.iter().any(|(_, is_masked)| *is_masked) {
            said.logits_mask = of_heads.iter().map(Tensor::shallow_clone).collect();
        }
        let recorded = Recorded {
            file: file.clone(),
            columns: RefCell::new((0..columns.len()).collect()),
        };
        let mut said = recorded.forward(ids, said)?;
        if said.logits_mask.len() > 1 {
            // One for each form of the logits of each head, as there are logits.
            let masks = heads.iter().filter_map(|(head, _)| of_heads.get(*head));
            said.logits_mask = masks.map(Tensor::shallow_clone).collect();
        }
        Ok(said)
    }

    pub(super) fn forward(&self, ids: &[u64], mut said: AdaptorOutput) -> Result<AdaptorOutput> {
        let used = self.columns.borrow();
        let contents = self.file.contents(ids, &used)?;
        let mut layers: BTreeMap<&str, Vec<Tensor>> = BTreeMap::new();
        let columns = used
            .iter()
            .filter_map(|place| self.file.columns().get(*place));
        said.logits.clear();
        for (column, content) in columns.zip(&contents) {
            let places = self.places(column, ids, content, &said)?;
            let damaged = |error: Error| self.which(column, ids, content, &error);
            match &column.of {
                Origin::Logits { .. } => {
                    said.logits
                        .push(decode::logits(column, content, &places).map_err(damaged)?);
                }
                Origin::Feature {
                    name,
                    layer,
                    layers: len,
                } => {
                    let list = layers.entry(name).or_default();
                    list.resize_with(*len, Tensor::new);
                    let decoded = decode::layer(column, content, &places).map_err(damaged)?;
                    if let Some(place) = list.get_mut(*layer) {
                        *place = decoded;
                    }
                }
            }
        }
        for (name, layers) in layers {
            let feature = said.features.entry(name.to_owned()).or_default();
            feature.layers = layers;
            let columns = self.file.columns().iter();
            let mut of_feature = columns.filter(|column| column.is_of(name));
            if of_feature.any(|column| column.is_unmasked) {
                feature.mask = FeatureMask::Unmasked;
            }
        }
        Ok(said)
    }

    /// Where in the batch the positions of a column are.
    fn places(
        &self,
        column: &Column,
        ids: &[u64],
        content: &Content,
        said: &AdaptorOutput,
    ) -> Result<Places> {
        let count = ids.len() as i64;
        if column.layout == Layout::Example {
            return Ok(Places::examples(count));
        }
        if !column.is_masked {
            return self.all_positions(column, ids, content);
        }
        let (mask, what) = match &column.of {
            Origin::Logits { head } => (said.mask_of_logits(*head), "logits_mask"),
            Origin::Feature { name, .. } => {
                let own = said.features.get(name).and_then(Feature::own_mask);
                (own.or(said.inputs_mask.as_ref()), "inputs_mask")
            }
        };
        let Some(mask) = mask else {
            let reason = format!(
                "`{}` was recorded at the positions of a mask; let the closure of `TeacherFile::teacher` \
                 return it as `{what}`",
                column.name
            );
            return Err(Error::protocol("teacher file", reason));
        };
        let places = Places::of_mask(&format!("`{what}` of the batch"), mask, count)?;
        let differ = content.positions.iter().zip(&places.of_each).zip(ids);
        for ((&recorded, &wanted), id) in differ {
            if recorded != wanted {
                let reason = format!(
                    "example {id} has {} positions in `{}`, and {wanted} in the batch: another \
                     tokenizer, maximum length or mask than when it was recorded",
                    recorded, column.name
                );
                return Err(super::wrong(self.file.folder(), reason));
            }
        }
        Ok(places)
    }

    /// Of a column without a mask: padding was recorded too, and has to be the same.
    fn all_positions(&self, column: &Column, ids: &[u64], content: &Content) -> Result<Places> {
        let length = content.positions.first().copied().unwrap_or(0);
        let mut each = content.positions.iter().zip(ids);
        let other = each.find(|(positions, _)| **positions != length);
        if let Some((positions, id)) = other {
            let reason = format!(
                "example {id} has {} positions in `{}` and example {} has {length}, for padding was \
                 recorded too; pad all examples to one length, or record with a mask",
                positions,
                column.name,
                ids.first().copied().unwrap_or(0)
            );
            return Err(super::wrong(self.file.folder(), reason));
        }
        Ok(Places::all(ids.len() as i64, length as i64))
    }

    /// Finds the example whose bytes make no sense, and names it.
    fn which(&self, column: &Column, ids: &[u64], content: &Content, error: &Error) -> Error {
        for (example, id) in ids.iter().enumerate() {
            let single = content.single(example);
            let positions = single.positions.first().copied().unwrap_or(0);
            let places = Places::all(1, positions as i64);
            let decoded = match column.of {
                Origin::Logits { .. } => decode::logits(column, &single, &places).map(drop),
                Origin::Feature { .. } => decode::layer(column, &single, &places).map(drop),
            };
            if let Err(error) = decoded {
                return self.file.damaged(&[*id], &error);
            }
        }
        self.file.damaged(ids, error)
    }
}

/// The positions of each example in a column, then padding: `[batch, longest]`.
fn mask_of(file: &TeacherFile, ids: &[u64], column: usize) -> Result<Tensor> {
    let of_each = ids.iter().map(|id| file.positions(*id, column) as i64);
    let of_each: Vec<i64> = of_each.collect();
    let longest = of_each.iter().copied().max().unwrap_or(0);
    let ends = Tensor::f_from_slice(&of_each)?.f_unsqueeze(-1)?;
    let places = Tensor::f_arange(longest, (Kind::Int64, Device::Cpu))?;
    Ok(places.f_lt_tensor(&ends)?.f_to_kind(Kind::Int64)?)
}
