//! Losses between a student's tensors and a teacher's.
//!
//! Plain functions: each takes the student's tensor first, then the teacher's, and
//! returns a scalar that gradients flow through. They give TextBrewer's numbers, with
//! its peculiarities, which each function names.
//!
//! **Logits**: [`kd_ce`], [`kd_mse`], [`kd_kl`], and [`kd_bce`] of several labels; [`forward_kl`],
//! [`reverse_kl`], [`generalized_jsd`], [`skew_kl`], [`skew_reverse_kl`], [`adaptive_kl`],
//! [`total_variation`]; [`taid`], whose target moves; with labels [`dkd`] and [`nkd`]; [`dist`], which mixes
//! examples.
//! **Numbers**: [`regression_mse`], [`smooth_l1`]. **Labels**: [`cross_entropy`]. **Attentions**: [`attention_mse`],
//! [`attention_mse_sum`], [`attention_ce`], [`attention_ce_mean`]. **Hidden states**:
//! [`hidden_mse`], [`cos`], [`pkd`], and [`fsp`] and [`mmd`] on two layers a side. **How examples relate
//! to each other**, which mixes them: [`rkd_distance`], [`rkd_angle`], [`pkt`], [`sp`], [`cka`],
//! [`cka_unbiased`]. **How positions relate to each other**: [`minilm`], [`minilmv2`], [`self_relation`].
//! **Embeddings**: [`embedding_mse`], [`embedding_l2`], [`embedding_cosine`], and [`matryoshka`] around any of
//! them. **Similarities and ranking**: [`margin_mse`], [`listwise_kl`], [`cosent`], of [`dot_products`] or
//! [`cosines`]; [`crd`], [`crd_in_batch`]. **Across tokenizers**: [`uld`], [`gold`],
//! [`gold_hybrid`], with [`byte_offsets`], [`alignment_groups`] and [`shared_tokens`].
//! **No loss, but to look at**: [`agreement`].
//!
//! What they are written with, for losses of one's own: [`support`].
//!
//! # The teacher
//! The functions do not detach the teacher's tensors. Compute them under
//! [`tch::no_grad_guard`], as the distillers of this crate do, or detach them; otherwise
//! the teacher gets gradients.
//!
//! A teacher in another floating-point kind is converted to the student's, whose kind the
//! loss then has. Anything but floating point, and a teacher on another device than the
//! student, is an [`Error::Shape`](crate::Error::Shape).
//!
//! # Masks
//! A mask has the shape `[batch, length]`, any kind and any device; 1 keeps a position
//! and 0 leaves it out. What stands at a masked position does not count, but must be
//! finite: 0 times infinity is NaN. Where a mask keeps nothing, or there is no position at
//! all, the loss is 0 and so is its gradient: such a batch teaches nothing.

mod across_tokenizers;
mod agreement;
mod attention;
pub(crate) mod check;
mod closed_form;
mod contrastive;
mod dist;
mod divergence;
mod divergences;
mod embeddings;
mod gram;
mod hidden;
mod kd;
pub(crate) mod labels;
mod log_probabilities;
pub(crate) mod mean;
mod minilm;
mod outputs;
pub(crate) mod positions;
mod ranking;
mod relations;
mod sampled;
mod similarities;
mod sparse;
pub mod support;
mod taid;
mod target_class;
mod temperature;

pub use across_tokenizers::{
    alignment_groups, byte_offsets, gold, gold_hybrid, shared_tokens, uld,
};
pub use agreement::{Agreement, agreement};
pub use attention::{attention_ce, attention_ce_mean, attention_mse, attention_mse_sum};
pub use contrastive::{crd, crd_in_batch};
pub use dist::dist;
pub use divergences::{
    adaptive_kl, forward_kl, generalized_jsd, reverse_kl, skew_kl, skew_reverse_kl, total_variation,
};
pub use embeddings::{
    cosines, dot_products, embedding_cosine, embedding_l2, embedding_mse, matryoshka,
};
pub use gram::{fsp, mmd};
pub use hidden::{cos, hidden_mse, pkd};
pub use kd::{kd_ce, kd_kl, kd_mse};
pub use labels::cross_entropy;
pub use minilm::{minilm, minilmv2, self_relation};
pub use outputs::{kd_bce, regression_mse, smooth_l1};
pub use ranking::{cosent, listwise_kl, margin_mse};
pub use relations::{rkd_angle, rkd_distance};
pub(crate) use similarities::unbiased_products;
pub use similarities::{cka, cka_unbiased, pkt, sp};
pub use taid::taid;
pub use target_class::{dkd, nkd};
pub use temperature::Temperature;

pub(crate) use agreement::rows_of_a_block;
pub(crate) use closed_form::times_square_of_rows;
pub(crate) use divergence::Divergence;
pub(crate) use kd::mse_at_each;
pub(crate) use outputs::{bce_at_each, regression_mse_at_each, smooth_l1_at_each};
pub(crate) use support::at_least_float32;
pub(crate) use taid::{one_number, taid_at_each};
pub(crate) use target_class::{dkd_at_each, nkd_at_each};
pub(crate) use temperature::times_square;
