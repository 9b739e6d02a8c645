//! Predictions of models, and their metrics.

use ndarray::Array2;
use tch::{Device, Kind, Tensor};
use textbrewer::{Batch, Model as _};

use crate::data::{Bench, Data};
use crate::metrics::Metrics;
use crate::models::Network;
use crate::outputs::Answers;
use crate::task::Task;
use crate::terminal::bar;
use crate::{Error, Result};

/// The predictions of a model for all records.
///
/// # Errors
/// When a feature is longer than the model allows, or libtorch fails.
pub fn predict<T: Task>(
    bench: &Bench<'_, T>,
    network: &Network<T::Head>,
    device: Device,
    data: &Data<T>,
) -> Result<Vec<T::Prediction>> {
    let scores = scores(bench, network, device, data)?;
    let positions = data.features.of_records(data.records.len());
    let records = data.records.iter().zip(positions);
    records
        .map(|(record, positions)| {
            let part = |position: &usize| {
                let feature = data.features.features.get(*position)?;
                Some((feature, scores.get(*position)?))
            };
            let parts: Vec<_> = positions.iter().filter_map(part).collect();
            bench.task.predict(record, &parts)
        })
        .collect()
}

/// The metrics of a model.
///
/// # Errors
/// Those of [`predict`], and when the records have no labels.
pub fn evaluate<T: Task>(
    bench: &Bench<'_, T>,
    network: &Network<T::Head>,
    device: Device,
    data: &Data<T>,
) -> Result<Metrics> {
    let predictions = predict(bench, network, device, data)?;
    bench.task.measure(&data.records, &predictions)
}

/// The scores of every feature, `[positions, outputs]`, in float32.
fn scores<T: Task>(
    bench: &Bench<'_, T>,
    network: &Network<T::Head>,
    device: Device,
    data: &Data<T>,
) -> Result<Vec<Array2<f32>>> {
    let _guard = tch::no_grad_guard();
    let features = &data.features.features;
    let length = |index: &usize| {
        let feature = features.get(*index);
        feature.map_or(0, |feature| bench.task.encoded(feature).ids.len())
    };
    // Long ones first: if there is not enough memory, that is known at once.
    let mut order: Vec<usize> = (0..features.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(length(index)));
    let mut all = vec![Array2::zeros((0, 0)); features.len()];
    let bar = bar(features.len()).with_message("evaluating");
    for indices in order.chunks(bench.recipe.batch_size) {
        let batch: Vec<_> = indices
            .iter()
            .filter_map(|index| features.get(*index))
            .collect();
        let inputs = bench.batch(&batch)?.to_device(device)?;
        let scores = network.forward(&inputs, false)?.scores()?;
        let scores = scores.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        for (row, index) in indices.iter().enumerate() {
            let rows = length(index).min(scores.size()[1] as usize);
            if let Some(place) = all.get_mut(*index) {
                *place = matrix(&scores.f_get(row as i64)?, rows)?;
            }
        }
        bar.inc(indices.len() as u64);
    }
    bar.finish_and_clear();
    Ok(all)
}

/// The first rows of a matrix.
fn matrix(tensor: &Tensor, rows: usize) -> Result<Array2<f32>> {
    let columns = tensor.size()[1] as usize;
    let first = tensor.f_narrow(0, 0, rows as i64)?.f_contiguous()?;
    let mut values = vec![0f32; rows * columns];
    first.f_copy_data(&mut values, rows * columns)?;
    Array2::from_shape_vec((rows, columns), values)
        .map_err(|error| Error::invalid(error.to_string()))
}
