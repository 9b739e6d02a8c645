//! The pooler: one vector for a sequence.

use tch::{Tensor, nn};

use super::BertConfig;
use crate::error::Result;
use crate::models::layers::Linear;

/// A linear layer and tanh on the first token.
#[derive(Debug)]
pub(super) struct Pooler {
    dense: Linear,
}

impl Pooler {
    pub(super) fn new(path: &nn::Path<'_>, config: &BertConfig) -> Result<Self> {
        let size = config.hidden_size;
        let dense = Linear::new(&(path / "dense"), size, size, config.initializer_range)?;
        Ok(Pooler { dense })
    }

    pub(super) fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        let first = hidden.f_select(1, 0)?;
        Ok(self.dense.forward(&first)?.f_tanh()?)
    }
}
