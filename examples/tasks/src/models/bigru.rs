//! A student that is not a transformer: one bidirectional GRU.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::nn::{self, VarStore};
use tch::{Kind, Tensor};
use textbrewer::models::{BertConfig, BertInputs, BertOutput, Head};
use textbrewer::weights::{self, LoadOptions};

use crate::{Error, Result, disk};

/// The shape of a [`BiGru`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BiGruConfig {
    /// Always `bigru`.
    pub model_type: String,
    /// The number of pieces in the vocabulary.
    pub vocab_size: i64,
    /// The width of a piece's embedding.
    pub embedding_size: i64,
    /// The width of the states of one direction.
    pub hidden_size: i64,
    /// The probability with which embeddings and states are set to zero in training.
    pub dropout: f64,
    /// The number of outputs of the head.
    pub num_labels: i64,
}

impl BiGruConfig {
    /// The `model_type` in such a `config.json`.
    pub const MODEL_TYPE: &'static str = "bigru";

    /// Reads `config.json`.
    ///
    /// # Errors
    /// When it cannot be read or a size is invalid.
    pub fn from_json_file(path: &Path) -> Result<Self> {
        let config: Self = serde_json::from_str(&disk::read(path)?)
            .map_err(|error| Error::file(path, error.to_string()))?;
        let sizes = [
            ("vocab_size", config.vocab_size, 1 << 20),
            ("embedding_size", config.embedding_size, 1 << 12),
            ("hidden_size", config.hidden_size, 1 << 12),
            ("num_labels", config.num_labels, 1 << 20),
        ];
        for (name, size, most) in sizes {
            if !(1..=most).contains(&size) {
                let reason = format!("{name}: expected 1 to {most}, got {size}");
                return Err(Error::file(path, reason));
            }
        }
        // More than any such model has, and little enough to fit the memory.
        if config.vocab_size * config.embedding_size > 1 << 29 {
            let reason = "vocab_size times embedding_size: expected at most 2^29";
            return Err(Error::file(path, reason));
        }
        if !(0.0..1.0).contains(&config.dropout) {
            return Err(Error::file(path, "dropout: expected 0 to 1, without 1"));
        }
        Ok(config)
    }

    /// What a head depends on.
    fn for_head(&self) -> BertConfig {
        BertConfig::default()
            .vocab_size(self.vocab_size)
            .hidden_size(2 * self.hidden_size)
            .hidden_dropout_prob(self.dropout)
            .num_labels(self.num_labels)
    }
}

/// Embeddings, one bidirectional GRU ([Cho et al. 2014](https://arxiv.org/abs/1406.1078)), and a
/// head: the BiGRU of TextBrewer's experiments.
///
/// The state of a position is that of both directions; both ignore the padding. The pooled state
/// of a text is the last state of each direction. There is one hidden state to match,
/// `[batch, length, 2 · hidden]`.
#[derive(Debug)]
pub struct BiGru<H> {
    embeddings: Tensor,
    /// For each direction: weights of inputs and states, and their biases.
    directions: [[Tensor; 4]; 2],
    head: H,
    config: BiGruConfig,
}

impl<H: Head> BiGru<H> {
    /// Makes the variables of a model.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn new(path: &nn::Path<'_>, config: &BiGruConfig) -> Result<Self> {
        let (input, hidden) = (config.embedding_size, config.hidden_size);
        let gru = path / "gru";
        let bound = (hidden as f64).sqrt().recip();
        let uniform = nn::Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let embeddings = (path / "embeddings" / "word_embeddings").f_var(
            "weight",
            &[config.vocab_size, input],
            nn::Init::Randn {
                mean: 0.0,
                stdev: 0.02,
            },
        )?;
        let direction = |suffix: &str| -> Result<[Tensor; 4]> {
            let variable =
                |name: &str, size: &[i64]| gru.f_var(&format!("{name}{suffix}"), size, uniform);
            Ok([
                variable("weight_ih_l0", &[3 * hidden, input])?,
                variable("weight_hh_l0", &[3 * hidden, hidden])?,
                variable("bias_ih_l0", &[3 * hidden])?,
                variable("bias_hh_l0", &[3 * hidden])?,
            ])
        };
        let directions = [direction("")?, direction("_reverse")?];
        let head = H::new(path, &config.for_head(), &embeddings)?;
        Ok(BiGru {
            embeddings,
            directions,
            head,
            config: config.clone(),
        })
    }

    /// Reads a folder that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// When a file is missing or does not fit.
    pub fn load(variables: &VarStore, folder: &Path) -> Result<Self> {
        let config = BiGruConfig::from_json_file(&folder.join("config.json"))?;
        let model = Self::new(&variables.root(), &config)?;
        let weights = folder.join("model.safetensors");
        weights::load_file(variables, weights, &LoadOptions::new().remove_prefix(true))?;
        Ok(model)
    }

    /// Writes `config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, variables: &VarStore, folder: &Path) -> Result<()> {
        let config = folder.join("config.json");
        let text = serde_json::to_string_pretty(&self.config)
            .map_err(|error| Error::file(&config, error.to_string()))?;
        disk::write(&config, text.as_bytes())?;
        let state = weights::state_dict(variables);
        weights::save(
            folder.join("model.safetensors"),
            &state,
            &Default::default(),
        )?;
        Ok(())
    }

    /// The model's shape.
    pub fn config(&self) -> &BiGruConfig {
        &self.config
    }

    /// The states of one direction, `[batch, length, hidden]`.
    fn run(
        &self,
        [w_ih, w_hh, b_ih, b_hh]: &[Tensor; 4],
        input: &Tensor,
        train: bool,
    ) -> textbrewer::Result<Tensor> {
        let size = [1, input.size()[0], self.config.hidden_size];
        let start = Tensor::f_zeros(size, (input.f_kind()?, input.device()))?;
        let weights = [w_ih, w_hh, b_ih, b_hh];
        let (states, _) = input.f_gru(&start, &weights, true, 1, 0.0, train, false, true)?;
        Ok(states)
    }
}

impl<H: Head> textbrewer::Model<BertInputs> for BiGru<H> {
    type Output = H::Output;

    fn forward(&self, inputs: &BertInputs, train: bool) -> textbrewer::Result<H::Output> {
        let ids = &inputs.input_ids;
        let words = Tensor::f_embedding(&self.embeddings, ids, -1, false, false)?;
        let words = words.f_dropout(self.config.dropout, train)?;
        let mask = match &inputs.attention_mask {
            Some(mask) => mask.f_to_kind(Kind::Int64)?,
            None => ids.f_ones_like()?,
        };
        let lengths = mask.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Int64)?;
        let turned = turned(&lengths, ids.size()[1])?;
        let [forward, backward] = &self.directions;
        let ahead = self.run(forward, &words, train)?;
        let back = self.run(backward, &pick(&words, &turned)?, train)?;
        let last = lengths.f_sub(&lengths.f_ones_like()?)?.f_clamp_min(0)?;
        let ends = [pick(&ahead, &last)?, pick(&back, &last)?];
        let pooled = Tensor::f_cat(&ends, -1)?.f_squeeze_dim(1)?;
        let states = Tensor::f_cat(&[ahead, pick(&back, &turned)?], -1)?;
        let mut encoded = BertOutput::new(states.shallow_clone());
        encoded.pooler_output = Some(pooled);
        encoded.hidden_states = vec![states];
        self.head.forward(encoded, inputs, train)
    }
}

/// For each position of a text its mirror position in the text; padding stays in place.
fn turned(lengths: &Tensor, length: i64) -> textbrewer::Result<Tensor> {
    let positions = Tensor::f_arange(length, (Kind::Int64, lengths.device()))?.f_unsqueeze(0)?;
    let mirrored = lengths
        .f_sub(&positions)?
        .f_sub(&positions.f_ones_like()?)?;
    let inside = positions.f_lt_tensor(lengths)?;
    Ok(mirrored.f_where_self(&inside, &positions)?)
}

/// The states at these positions, `[batch, positions]`.
fn pick(states: &Tensor, positions: &Tensor) -> textbrewer::Result<Tensor> {
    let width = states.size()[2];
    let index = positions
        .f_unsqueeze(-1)?
        .f_expand([-1, -1, width], false)?;
    Ok(states.f_gather(1, &index, false)?)
}
