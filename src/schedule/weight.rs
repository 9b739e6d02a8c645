//! Weights as functions of the progress of training, which goes from 0 to 1.

/// From 1 down to 0: `1 − x`.
///
/// ```
/// use textbrewer::schedule::weight::linear_decay;
///
/// assert_eq!([0.0, 0.25, 1.0].map(linear_decay), [1.0, 0.75, 0.0]);
/// ```
pub fn linear_decay(x: f64) -> f64 {
    1.0 - x
}

/// From 0 up to 1: `x`.
///
/// ```
/// use textbrewer::schedule::weight::linear_growth;
///
/// assert_eq!([0.0, 0.25, 1.0].map(linear_growth), [0.0, 0.25, 1.0]);
/// ```
pub fn linear_growth(x: f64) -> f64 {
    x
}
