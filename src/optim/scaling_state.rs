//! The numbers of loss scaling that change during training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{Context, Error, Result};

const SCALE: &str = "scale";
const GROWTH_TRACKER: &str = "growth_tracker";

/// What a checkpoint keeps of [`LossScaling`](super::LossScaling).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScalingState {
    /// What the loss is multiplied by.
    pub(crate) scale: f64,
    /// Steps since the last that was skipped or after which the scale grew.
    pub(crate) growth_tracker: i64,
}

impl LossScalingState {
    pub(super) fn to_tensors(self) -> BTreeMap<String, Tensor> {
        BTreeMap::from([
            (SCALE.to_owned(), Tensor::from(self.scale)),
            (GROWTH_TRACKER.to_owned(), Tensor::from(self.growth_tracker)),
        ])
    }

    pub(super) fn from_tensors(state: &BTreeMap<String, Tensor>) -> Result<Self> {
        let find = |name: &str| {
            state.get(name).ok_or_else(|| {
                let reason = format!("the state has no `{name}`; give what `state` returned");
                Error::config("loss scaling", reason)
            })
        };
        let reading = || "loss scaling: reading the state".to_owned();
        Ok(LossScalingState {
            scale: find(SCALE)?.f_double_value(&[]).context(reading)?,
            growth_tracker: find(GROWTH_TRACKER)?.f_int64_value(&[]).context(reading)?,
        })
    }

    pub(super) fn check(&self) -> Result<()> {
        refuse_unless(
            self.scale > 0.0 && (self.scale as f32).is_finite() && self.scale as f32 > 0.0,
            SCALE,
            "positive and finite in float32",
            self.scale,
        )?;
        refuse_unless(
            i32::try_from(self.growth_tracker).is_ok_and(|tracker| tracker >= 0),
            GROWTH_TRACKER,
            "at least 0 and less than 2³¹",
            self.growth_tracker as f64,
        )
    }
}

pub(super) fn refuse_unless(fits: bool, key: &str, wanted: &str, value: f64) -> Result<()> {
    if fits {
        return Ok(());
    }
    Err(Error::config(
        format!("loss scaling: {key}"),
        format!("must be {wanted}, is {value}"),
    ))
}
