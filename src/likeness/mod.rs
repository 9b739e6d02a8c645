//! How alike the layers of two models are.

mod assignment;
mod rows;
mod sums;
mod table;

use ndarray::{Array2, s};

use assignment::in_order;
use sums::Sums;

use crate::adaptor::AdaptorOutput;
use crate::config::LayerMap;
use crate::error::Result;
use crate::model::Model;
use crate::native::NoHistory;

/// What errors are said to be of.
const PLACE: &str = "LayerLikeness";
/// The feature whose layers are compared.
const FEATURE: &str = "hidden";

/// How alike each layer of a teacher and each layer of a student are, by linear CKA
/// ([Kornblith et al. 2019](https://arxiv.org/abs/1905.00414)) on a few batches; and the
/// [`LayerMap`] that follows from it.
///
/// Layers are alike where the same examples lie close to each other. The widths may differ, and it
/// does not matter if a side is turned, scaled or moved: no projection is needed.
///
/// `Display` shows a table: a row for each layer of the teacher and a column for each of the student,
/// 0 for the embeddings. In each column the largest CKA has a `*`.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::{AdaptorOutput, DataLoader, LayerLikeness, Result, VecLoader, from_fn};
///
/// # fn main() -> Result<()> {
/// // Three layers above the embeddings. The two of the student do what the first and the last do.
/// let teacher = from_fn(|embeddings: &Tensor, _train| {
///     let first = embeddings.f_sin()?;
///     let second = first.f_cumsum(1, None)?;
///     let third = second.f_exp()?.f_cos()?;
///     Ok(vec![embeddings.shallow_clone(), first, second, third])
/// });
/// let student = from_fn(|embeddings: &Tensor, _train| {
///     let first = embeddings.f_sin()?;
///     let last = first.f_cumsum(1, None)?.f_exp()?.f_cos()?;
///     Ok(vec![embeddings.shallow_clone(), first.f_neg()?, last.f_flip([2i64])?])
/// });
/// // The embeddings, then each layer, as this crate's BERT has them: `[batch, length, size]`.
/// let adaptor = |_: &Tensor, states: &Vec<Tensor>| Ok(AdaptorOutput::new().hidden(states));
///
/// let numbers = Tensor::f_arange(192i64, (Kind::Double, Device::Cpu))?.f_square()?.f_sin()?;
/// let mut loader = VecLoader::new(numbers.f_view([16, 6, 2])?.f_split(4, 0)?)?;
/// let batches = loader.epoch(1)?.take(3);
/// let likeness = LayerLikeness::between(&teacher, adaptor, &student, adaptor, batches)?;
///
/// assert_eq!(likeness.to_string(), "\
/// TEACHER / STUDENT     0      1      2
/// 0                 1.000* 0.998  0.132
/// 1                 0.998  1.000* 0.135
/// 2                 0.239  0.244  0.388
/// 3                 0.132  0.135  1.000*
/// LAYER MAP                    1      3");
/// assert_eq!(likeness.layer_map().pairs(), [(1, 1), (3, 2)]);
/// // For a configuration.
/// let matches = likeness.layer_map().with_embeddings().hidden("hidden_mse");
/// assert_eq!(matches.len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LayerLikeness {
    cka: Array2<f64>,
}

impl LayerLikeness {
    /// Compares the hidden states of both models on these batches.
    ///
    /// What is compared is the feature `hidden` of the adaptors' outputs: the embeddings, then one
    /// tensor for each layer. The models run with `train = false` and without gradients. Batches go
    /// to them as they are, so a loader for models on a GPU moves its batches there
    /// ([`Batch::to_device`](trait@crate::Batch), with [`DataLoader::map`](crate::DataLoader::map)).
    /// Some hundred sequences are enough. The student is compared as it is: its map tells
    /// something once it has learned something, or has layers of the teacher.
    ///
    /// # Formula
    /// `CKA = Σ HSIC(S, T) / √(Σ HSIC(S, S) · Σ HSIC(T, T))`, summed over groups of `n` examples
    /// and weighted by `n`. `HSIC(S, T) = ⟨K, L⟩/(n(n − 3))`, where K and L are the products of the
    /// examples with each other without those of an example with itself, centred as in
    /// [`cka_unbiased`](crate::losses::cka_unbiased). This is the minibatch estimate of
    /// [Nguyen et al. 2021](https://arxiv.org/abs/2010.15327): its sums have no bias, however small
    /// the batches are, and only one group's products are held at a time. Of one group it is
    /// 1 − `cka_unbiased`. It is between −1 and 1; a layer that says the same of all examples has 0
    /// with every other.
    ///
    /// An example is a position that the mask keeps, or a row of a feature without positions. A
    /// batch of more than 1,024 examples is divided into groups of about the same size, each of
    /// which has positions from all over the batch.
    ///
    /// # Shape
    /// Each layer: `[batch, length, size]`, or `[batch, size]`. All but the size is the same on
    /// both sides. The mask `[batch, length]` is that of [matches](crate::Feature).
    ///
    /// # Errors
    /// When an adaptor gives no `hidden`, a layer is missing or does not fit, a model has no layer
    /// above its embeddings, no batch has 4 examples, or numbers are not finite; those of models,
    /// adaptors and loader.
    pub fn between<B, T, S>(
        teacher: &T,
        teacher_adaptor: impl Fn(&B, &T::Output) -> Result<AdaptorOutput>,
        student: &S,
        student_adaptor: impl Fn(&B, &S::Output) -> Result<AdaptorOutput>,
        batches: impl IntoIterator<Item = Result<B>>,
    ) -> Result<Self>
    where
        T: Model<B> + ?Sized,
        S: Model<B> + ?Sized,
    {
        let mut sums = Sums::default();
        for batch in batches {
            let batch = batch?;
            // The guard gives gradients back even when a model panics.
            let _guard = NoHistory::enter()?;
            let teacher = teacher_adaptor(&batch, &teacher.forward(&batch, false)?)?;
            let student = student_adaptor(&batch, &student.forward(&batch, false)?)?;
            let rows = rows::of(&teacher, &student)?;
            sums.add(&rows)?;
        }
        Ok(LayerLikeness { cka: sums.cka()? })
    }

    /// The CKA of each layer of the teacher (rows) with each of the student (columns). Number 0 are
    /// the embeddings, so numbers are those of a [`LayerMap`].
    pub fn cka(&self) -> &Array2<f64> {
        &self.cka
    }

    /// Which layer of the teacher each layer of the student is to imitate: of all maps in which a
    /// higher layer of the student never has a lower layer of the teacher, the one with the largest
    /// sum of CKA. Of equal ones it is that with the lower layers.
    ///
    /// It is found by dynamic programming. The embeddings are left to
    /// [`with_embeddings`](LayerMap::with_embeddings). Layers that are next to each other may
    /// imitate the same layer.
    #[must_use]
    pub fn layer_map(&self) -> LayerMap {
        let layers = in_order(self.cka.slice(s![1.., 1..]));
        LayerMap::of(
            layers
                .iter()
                .zip(1..)
                .map(|(layer, student)| (layer + 1, student)),
        )
    }
}
