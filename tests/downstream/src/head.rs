//! A head of one's own on the crate's BERT: a score for each example from its first token.

use tch::nn;
use tch::Tensor;
use textbrewer::models::{BertConfig, BertInputs, BertOutput, Head, LogitsOutput};
use textbrewer::Result;

#[derive(Debug)]
pub struct FirstToken {
    output: nn::Linear,
}

impl Head for FirstToken {
    type Output = LogitsOutput;
    const ARCHITECTURE: &'static str = "BertFirstToken";

    fn new(path: &nn::Path<'_>, config: &BertConfig, _words: &Tensor) -> Result<Self> {
        let (width, labels) = (config.hidden_size, config.label_count());
        let output = nn::linear(path / "output", width, labels, Default::default());
        Ok(FirstToken { output })
    }

    fn forward(&self, encoded: BertOutput, _: &BertInputs, _: bool) -> Result<LogitsOutput> {
        let first = encoded.last_hidden_state.f_select(1, 0)?;
        let scores = first.f_linear(&self.output.ws, self.output.bs.as_ref())?;
        Ok(LogitsOutput::new(scores).encoded(encoded))
    }
}
