//! What it costs to move each teacher layer to each student layer.

use std::slice;

use ndarray::Array2;
use tch::{Device, Kind, Tensor};

use crate::adaptor::AdaptorOutput;
use crate::distiller::Said;
use crate::distiller::said::no_teacher;
use crate::error::{Error, Result, Side};
use crate::losses::at_least_float32;
use crate::presets::MatchLoss;
use crate::projection::Projection;
use crate::transport::TransportPlan;

/// A feature whose layers are matched, and the loss between two of them.
#[derive(Debug)]
pub(super) struct MatchedFeature {
    pub(super) feature: &'static str,
    pub(super) log_name: &'static str,
    pub(super) weight: f64,
    pub(super) loss: MatchLoss,
}

/// The losses between all layers of the two models, teacher layer by teacher layer.
pub(super) struct LayerCosts {
    losses: Vec<Tensor>,
    /// How many layers the teacher and the student have.
    pub(super) layers: (usize, usize),
}

impl MatchedFeature {
    /// The losses, of the student's layers after the projection if there is one.
    pub(super) fn costs(
        &self,
        said: &Said<'_, impl Sized>,
        projection: Option<&Projection>,
    ) -> Result<LayerCosts> {
        let teacher = said.teachers.first();
        let teacher = teacher.ok_or_else(|| no_teacher("emd", 0, 0))?;
        let from_teacher = self.layers(teacher, Side::Teacher)?;
        let mut from_student = self.layers(&said.student, Side::Student)?;
        if let Some(projection) = projection {
            // Once a layer, not once a pair of layers.
            for layer in &mut from_student {
                let projected = projection.forward(layer);
                *layer = projected.map_err(|error| error.at("emd.hidden_projection"))?;
            }
        }
        let mask = said.mask(0, self.feature, &from_student.iter().collect::<Vec<_>>());
        let mut losses = Vec::with_capacity(from_teacher.len() * from_student.len());
        for (i, teacher) in from_teacher.iter().enumerate() {
            for (j, student) in from_student.iter().enumerate() {
                let (student, teacher) = (slice::from_ref(student), slice::from_ref(teacher));
                let loss = self.loss.apply(student, teacher, mask);
                losses.push(loss.map_err(|error| self.at_layers(i, j, error))?);
            }
        }
        Ok(LayerCosts {
            losses,
            layers: (from_teacher.len(), from_student.len()),
        })
    }

    fn layers(&self, output: &AdaptorOutput, side: Side) -> Result<Vec<Tensor>> {
        let needed_by = || format!("`emd` (unless its {}_weight is 0)", self.feature);
        let layers = match output.features.get(self.feature) {
            Some(feature) if !feature.layers.is_empty() => &feature.layers,
            _ => return Err(Error::missing(side, self.feature, needed_by())),
        };
        match layers.iter().position(|layer| !layer.defined()) {
            None => layers.iter().map(at_least_float32).collect(),
            Some(index) => Err(Error::LayerNotKept {
                side,
                feature: self.feature.to_owned(),
                index: index as i64,
                needed_by: needed_by(),
            }),
        }
    }

    /// What to do about layers of different sizes is known only here.
    fn at_layers(&self, teacher: usize, student: usize, error: Error) -> Error {
        let feature = self.feature;
        let place = format!("EMD of `{feature}`, teacher layer {teacher}, student layer {student}");
        match error {
            Error::Shape {
                what,
                expected,
                got,
                ..
            } if feature == "hidden" && !what.ends_with(", mask") => {
                let remedy = "for different sizes set `hidden_projection` of `emd`";
                Error::shape(what, format!("{expected}; {remedy}"), got).at(place)
            }
            other => other.at(place),
        }
    }
}

impl LayerCosts {
    /// The values of the costs of all features, with one read from the device.
    pub(super) fn read(costs: &[LayerCosts]) -> Result<Vec<Array2<f64>>> {
        let value = |loss: &Tensor| -> Result<Tensor> {
            Ok(number(&loss.f_detach()?)?.f_to_kind(Kind::Double)?)
        };
        let losses = costs.iter().flat_map(|costs| &costs.losses);
        let values = losses.map(value).collect::<Result<Vec<_>>>()?;
        let together = Tensor::f_stack(&values, 0)?.f_to_device(Device::Cpu)?;
        let mut values = Vec::<f64>::try_from(&together)?.into_iter();
        let matrix = |costs: &LayerCosts| {
            let values = values.by_ref().take(costs.losses.len()).collect();
            Array2::from_shape_vec(costs.layers, values).map_err(Error::other)
        };
        costs.iter().map(matrix).collect()
    }

    /// `Σ fᵢⱼ dᵢⱼ`, with gradients through `d`. Cells through which nothing flows are left out:
    /// there are many, and the backward pass need not visit them.
    pub(super) fn distance(&self, plan: &TransportPlan) -> Result<Tensor> {
        let cells = self.losses.iter().zip(&plan.flow);
        let moved = cells
            .filter(|&(_, &flow)| flow > 0.0)
            .map(|(loss, &flow)| Ok((number(loss)?, flow)))
            .collect::<Result<Vec<_>>>()?;
        let (losses, flows): (Vec<_>, Vec<_>) = moved.into_iter().unzip();
        let losses = Tensor::f_stack(&losses, 0)?;
        let flows = Tensor::f_from_slice(&flows)?
            .f_to_device(losses.device())?
            .f_to_kind(losses.f_kind()?)?;
        Ok(losses.f_mul(&flows)?.f_sum(None)?)
    }
}

/// A loss as one number without dimensions; what is more than one number is an error.
fn number(loss: &Tensor) -> Result<Tensor> {
    if loss.numel() != 1 {
        return Err(Error::shape(
            "loss between two layers",
            "a single number (take the mean or the sum)",
            format!("shape {:?}", loss.size()),
        ));
    }
    Ok(loss.f_reshape([0i64; 0])?)
}
