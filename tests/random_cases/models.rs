//! What models say of a batch: any part of what an adaptor may return.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};
use textbrewer::{AdaptorOutput, Result};

use crate::common::tiny::{Net, Output};
use crate::one;

/// What a model's adaptor returns.
#[derive(Debug, Clone)]
pub struct Says {
    pub layers: i64,
    pub width: i64,
    heads: i64,
    logits: usize,
    masks: usize,
    labels: usize,
    losses: usize,
    each_position: bool,
    inputs_mask: bool,
    hidden: bool,
    attention: bool,
    /// Of the labels; there are two classes.
    label: i64,
}

impl Says {
    pub fn random(random: &mut ChaCha8Rng) -> Self {
        let logits = *one(random, &[1, 1, 1, 2, 2, 0]);
        let fits = random.random_bool(0.95);
        Says {
            layers: random.random_range(1..4),
            width: random.random_range(1..5),
            heads: random.random_range(1..3),
            logits,
            masks: *one(random, if fits { &[0, 0, 1] } else { &[0, 1, 2, 3] }),
            labels: if fits {
                logits
            } else {
                random.random_range(0..3)
            },
            losses: *one(random, if fits { &[1, 1, 2] } else { &[0, 1] }),
            each_position: random.random(),
            inputs_mask: random.random(),
            hidden: random.random_bool(0.97),
            attention: random.random_bool(0.97),
            label: *one(random, &[0, 1, 1, 0, 1, 0, 1, 0, 2, -1, -100]),
        }
    }

    /// Another model of the same task, which rarely does not fit.
    pub fn like(&self, random: &mut ChaCha8Rng) -> Self {
        if random.random_bool(0.05) {
            return Says::random(random);
        }
        Says {
            layers: random.random_range(1..4),
            width: random.random_range(1..5),
            ..self.clone()
        }
    }

    pub fn with_net(self, seed: f64) -> (Net, Self) {
        (Net::new(self.layers, self.width, seed), self)
    }

    pub fn adaptor(&self) -> impl Fn(&Tensor, &Output) -> Result<AdaptorOutput> + 'static {
        let says = self.clone();
        move |batch, output| Ok(says.of(batch, output))
    }

    fn of(&self, batch: &Tensor, output: &Output) -> AdaptorOutput {
        let mut says = AdaptorOutput::new();
        let (size, length) = (batch.size()[0], batch.size()[1]);
        let mask = Tensor::ones([size, length], (Kind::Int64, batch.device()));
        // The last position is padding, where it is not the only one.
        if length > 1 {
            let _ = mask.narrow(1, length - 1, 1).fill_(0);
        }
        let logits = match self.each_position {
            true => output.logits.unsqueeze(1) + batch.sum_dim_intlist(-1, true, Kind::Float),
            false => output.logits.shallow_clone(),
        };
        for _ in 0..self.logits {
            says = says.logits(&logits);
        }
        for _ in 0..self.masks {
            says = says.logits_mask(&mask);
        }
        for _ in 0..self.labels {
            let shape = &logits.size()[..logits.dim() - 1];
            let labels = Tensor::full(shape, self.label, (Kind::Int64, batch.device()));
            says = says.labels(&labels);
        }
        for _ in 0..self.losses {
            says = says.losses(&output.logits.square());
        }
        if self.inputs_mask {
            says = says.inputs_mask(&mask);
        }
        if self.hidden {
            says = says.hidden(&output.hidden);
        }
        if self.attention {
            let attention = |hidden: &Tensor| {
                let scores = hidden.matmul(&hidden.transpose(1, 2)).unsqueeze(1);
                let scores = scores.repeat([1, self.heads, 1, 1]);
                scores.softmax(-1, Kind::Float)
            };
            let attentions: Vec<_> = output.hidden.iter().map(attention).collect();
            says = says.attention(&attentions);
        }
        says
    }
}
