//! What several tests share.

pub mod tensorboard;
