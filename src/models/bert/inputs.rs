//! Inputs of BERT.

use tch::{Kind, Tensor};

use super::BertConfig;
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::ids::Ids;

/// A batch for BERT and the models that share its layers.
///
/// | field | shape |
/// |---|---|
/// | `input_ids`, `token_type_ids` | `[batch, length]` |
/// | `position_ids` | `[batch, length]` or `[1, length]` |
/// | `attention_mask` | `[batch, length]`, or `[batch, length, length]`; positions with 0 are not attended to |
/// | `labels` | `[batch]` for sequences; `[batch, length]` for token classification and masked LM, -100 at positions without a loss; `[batch, labels]` for multi-label classification |
/// | `start_positions`, `end_positions` | `[batch]` |
/// | `ids` | one for each example; no tensor |
///
/// ```
/// use tch::Tensor;
/// use textbrewer::models::BertInputs;
///
/// let ids = Tensor::from_slice2(&[[101i64, 7592, 102], [101, 102, 0]]);
/// let mask = ids.ne(0);
/// let inputs = BertInputs::new(ids).attention_mask(mask);
/// assert!(inputs.labels.is_none());
/// ```
#[derive(Debug, Batch)]
#[non_exhaustive]
pub struct BertInputs {
    /// Token ids.
    pub input_ids: Tensor,
    /// 1 at tokens, 0 at padding; all 1 when absent.
    pub attention_mask: Option<Tensor>,
    /// Segments; all 0 when absent. DistilBERT ignores them, so it can share batches with a
    /// BERT.
    pub token_type_ids: Option<Tensor>,
    /// Positions; 0, 1, 2 … when absent. RoBERTa then counts the tokens that are not padding,
    /// from `pad_token_id` + 1.
    pub position_ids: Option<Tensor>,
    /// The ground truth.
    pub labels: Option<Tensor>,
    /// The ground truth of question answering: the answer's first token.
    pub start_positions: Option<Tensor>,
    /// The ground truth of question answering: the answer's last token.
    pub end_positions: Option<Tensor>,
    /// Which examples these are, where a teacher's outputs are kept by example. The models do not
    /// look at it.
    pub ids: Option<Ids>,
}

impl BertInputs {
    /// Inputs of token ids only.
    pub fn new(input_ids: Tensor) -> Self {
        BertInputs {
            input_ids,
            attention_mask: None,
            token_type_ids: None,
            position_ids: None,
            labels: None,
            start_positions: None,
            end_positions: None,
            ids: None,
        }
    }

    /// Sets which positions are tokens.
    #[must_use]
    pub fn attention_mask(mut self, mask: Tensor) -> Self {
        self.attention_mask = Some(mask);
        self
    }

    /// Sets the segments.
    #[must_use]
    pub fn token_type_ids(mut self, ids: Tensor) -> Self {
        self.token_type_ids = Some(ids);
        self
    }

    /// Sets the positions.
    #[must_use]
    pub fn position_ids(mut self, ids: Tensor) -> Self {
        self.position_ids = Some(ids);
        self
    }

    /// Sets the ground truth.
    #[must_use]
    pub fn labels(mut self, labels: Tensor) -> Self {
        self.labels = Some(labels);
        self
    }

    /// Sets the answers of question answering.
    #[must_use]
    pub fn answers(mut self, start_positions: Tensor, end_positions: Tensor) -> Self {
        self.start_positions = Some(start_positions);
        self.end_positions = Some(end_positions);
        self
    }

    /// Sets which examples these are, as [`DataLoader::with_ids`](crate::DataLoader::with_ids) gives
    /// it.
    ///
    /// ```
    /// use textbrewer::data::{DataLoader, ExampleLoader, pad_to_longest};
    /// use textbrewer::models::BertInputs;
    /// use textbrewer::Batch;
    ///
    /// let sentences = vec![vec![101, 7, 102], vec![101, 102]];
    /// let collate = |sentences: &[&Vec<i64>]| pad_to_longest(sentences, 0, None);
    /// let mut loader = ExampleLoader::new(sentences, 2, collate)?
    ///     .with_ids()
    ///     .map(|(ids, (input_ids, mask))| Ok(BertInputs::new(input_ids).attention_mask(mask).ids(ids)));
    /// for batch in loader.epoch(1)? {
    ///     assert_eq!(Batch::ids(&batch?).map(|ids| ids.to_vec()), Some(vec![0, 1]));
    /// }
    /// # textbrewer::Result::Ok(())
    /// ```
    #[must_use]
    pub fn ids(mut self, ids: Ids) -> Self {
        self.ids = Some(ids);
        self
    }

    /// Checks shapes and kinds, which are known without waiting for the device.
    pub(super) fn validate(&self, config: &BertConfig) -> Result<()> {
        let size = self.input_ids.size();
        let [batch, length] = size[..] else {
            let got = format!("{size:?}");
            return Err(Error::shape("input_ids", "[batch, length]", got));
        };
        if batch == 0 || length == 0 {
            return Err(Error::shape(
                "input_ids",
                "[batch, length] with at least one example and one token",
                format!("{size:?}"),
            ));
        }
        let (most, positions) = (config.max_length(), config.max_position_embeddings);
        if length > most {
            let limit = match positions - most {
                0 => "max_position_embeddings".to_owned(),
                unused => format!("max_position_embeddings, less {unused}"),
            };
            return Err(Error::shape(
                "input_ids",
                format!("at most {most} tokens ({limit})"),
                format!("{length}; truncate the text"),
            ));
        }
        let ids = [
            ("input_ids", Some(&self.input_ids)),
            ("token_type_ids", self.token_type_ids.as_ref()),
            ("position_ids", self.position_ids.as_ref()),
        ];
        for (name, tensor) in ids {
            let Some(tensor) = tensor else { continue };
            let size = tensor.size();
            let broadcast = name == "position_ids" && size == [1, length];
            if size != [batch, length] && !broadcast {
                let expected = format!("{:?}, as input_ids", [batch, length]);
                return Err(Error::shape(name, expected, format!("{size:?}")));
            }
            let kind = tensor.f_kind()?;
            if !matches!(kind, Kind::Int64 | Kind::Int) {
                return Err(Error::shape(name, "integers (Int64)", format!("{kind:?}")));
            }
        }
        if let Some(mask) = &self.attention_mask {
            let size = mask.size();
            if size != [batch, length] && size != [batch, length, length] {
                let expected = format!("{:?}, as input_ids", [batch, length]);
                let got = format!("{size:?}");
                return Err(Error::shape("attention_mask", expected, got));
            }
        }
        Ok(())
    }
}
