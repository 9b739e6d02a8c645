//! How good answers are, as the reference implementations say it.
