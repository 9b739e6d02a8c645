//! In what models compute, what stays in `float32` around them, and loss scaling in a run.

#[path = "precision_cases/bert.rs"]
mod bert;
mod common;
#[path = "precision_cases/configuration.rs"]
mod configuration;
#[path = "precision_cases/distillers.rs"]
mod distillers;
#[path = "precision_cases/models.rs"]
mod models;
#[path = "precision_cases/scaling.rs"]
mod scaling;

use common::device::device;
use tch::{Kind, Tensor};

/// In what a product of two `float32` matrices is computed here.
fn product() -> Kind {
    let matrix = Tensor::ones([2, 2], (Kind::Float, device()));
    matrix.matmul(&matrix).kind()
}

fn all_finite(tensor: &Tensor) -> bool {
    bool::try_from(tensor.isfinite().all()).unwrap()
}
