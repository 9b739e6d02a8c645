//! Weights as functions of the progress of training, which goes from 0 to 1.

/// From 1 down to 0: `1 − x`.
pub fn linear_decay(x: f64) -> f64 {
    1.0 - x
}

/// From 0 up to 1: `x`.
pub fn linear_growth(x: f64) -> f64 {
    x
}
