//! Outputs of models, as distillers and tasks need them.

use tch::Tensor;
use textbrewer::AdaptorOutput;
use textbrewer::models::{BertInputs, LogitsOutput, QuestionAnsweringOutput};

/// The output of a model.
pub trait Answers {
    /// What a distiller needs.
    ///
    /// # Errors
    /// When libtorch fails.
    fn adapt(&self, inputs: &BertInputs) -> textbrewer::Result<AdaptorOutput>;

    /// Scores for each position, `[batch, positions, outputs]`; a single position for sequence
    /// classification.
    ///
    /// # Errors
    /// When libtorch fails.
    fn scores(&self) -> textbrewer::Result<Tensor>;
}

impl Answers for LogitsOutput {
    fn adapt(&self, inputs: &BertInputs) -> textbrewer::Result<AdaptorOutput> {
        let mut adapted = AdaptorOutput::new().logits(&self.logits);
        // Logits of each piece; those of padding are masked.
        if let (3, Some(mask)) = (self.logits.dim(), &inputs.attention_mask) {
            adapted = adapted.logits_mask(mask);
        }
        let labels = inputs.labels.iter();
        adapted = labels.fold(adapted, AdaptorOutput::labels);
        Ok(states(
            adapted,
            inputs,
            self.loss.as_ref(),
            &self.hidden_states,
            &self.attentions,
        ))
    }

    fn scores(&self) -> textbrewer::Result<Tensor> {
        match self.logits.dim() {
            2 => Ok(self.logits.f_unsqueeze(1)?),
            _ => Ok(self.logits.shallow_clone()),
        }
    }
}

impl Answers for QuestionAnsweringOutput {
    fn adapt(&self, inputs: &BertInputs) -> textbrewer::Result<AdaptorOutput> {
        let mut adapted = AdaptorOutput::new()
            .logits(&self.start_logits)
            .logits(&self.end_logits);
        for truth in [&inputs.start_positions, &inputs.end_positions] {
            adapted = truth.iter().fold(adapted, AdaptorOutput::labels);
        }
        Ok(states(
            adapted,
            inputs,
            self.loss.as_ref(),
            &self.hidden_states,
            &self.attentions,
        ))
    }

    fn scores(&self) -> textbrewer::Result<Tensor> {
        Ok(Tensor::f_stack(
            &[&self.start_logits, &self.end_logits],
            -1,
        )?)
    }
}

/// Adds what all outputs have in common.
fn states(
    mut adapted: AdaptorOutput,
    inputs: &BertInputs,
    loss: Option<&Tensor>,
    hidden: &[Tensor],
    attentions: &[Tensor],
) -> AdaptorOutput {
    if let Some(mask) = &inputs.attention_mask {
        adapted = adapted.inputs_mask(mask);
    }
    if let Some(loss) = loss {
        adapted = adapted.losses(loss);
    }
    if !hidden.is_empty() {
        adapted = adapted.hidden(hidden);
    }
    if !attentions.is_empty() {
        adapted = adapted.attention(attentions);
    }
    adapted
}
