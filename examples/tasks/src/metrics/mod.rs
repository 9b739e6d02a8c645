//! How good answers are, as the reference implementations say it.

mod figures;

pub use figures::Metrics;
