//! What a data loader hands to the models.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::ids::Ids;

/// Implements [`Batch`](trait@Batch) for a struct with named fields, a tuple struct or a unit
/// struct: [`to_device`](trait@Batch) is called for each field, in their order. The types of the
/// fields have to be batches, and type parameters get the bound `T: Batch`.
///
/// ```
/// use tch::{Device, Tensor};
/// use textbrewer::Batch;
///
/// #[derive(Debug, Batch)]
/// struct Weighted<B>(B, Tensor);
///
/// let batch = Weighted((Tensor::from_slice(&[7i64]), "en".to_owned()), Tensor::from(0.5));
/// let moved = Batch::to_device(&batch, Device::Cpu)?;
/// assert_eq!((moved.0.1.as_str(), moved.1.size().len()), ("en", 0));
/// # textbrewer::Result::Ok(())
/// ```
///
/// Enums and unions implement the trait by hand. The derive is an error that says so:
///
/// ```compile_fail
/// # use tch::Tensor;
/// # use textbrewer::Batch;
/// #[derive(Batch)]
/// enum Target {
///     Labels(Tensor),
///     Scores(Tensor),
/// }
/// ```
#[doc(inline)]
pub use textbrewer_derive::Batch;

/// Something that can be moved to the device where the models are.
///
/// Implemented for tensors, for tuples, vectors, options and maps of batches, and for numbers
/// and strings, which stay where they are. A struct of batches derives it:
///
/// ```
/// use tch::{Device, Tensor};
/// use textbrewer::Batch;
///
/// #[derive(Debug, Batch)]
/// struct Sentences {
///     input_ids: Tensor,
///     labels: Option<Tensor>,
///     language: String,
/// }
///
/// let sentences = Sentences {
///     input_ids: Tensor::from_slice2(&[[101i64, 7, 102]]),
///     labels: None,
///     language: "en".to_owned(),
/// };
/// assert_eq!(Batch::to_device(&sentences, Device::Cpu)?.input_ids.size(), [1, 3]);
/// # textbrewer::Result::Ok(())
/// ```
///
/// Other types implement it by hand:
///
/// ```
/// use tch::{Device, Tensor};
/// use textbrewer::{Batch, Result};
///
/// #[derive(Debug)]
/// enum Target {
///     Labels(Tensor),
///     Scores { values: Tensor, weights: Tensor },
/// }
///
/// impl Batch for Target {
///     fn to_device(&self, device: Device) -> Result<Self> {
///         Ok(match self {
///             // Not the tensor's own method of that name, for which the host would wait.
///             Target::Labels(labels) => Target::Labels(Batch::to_device(labels, device)?),
///             Target::Scores { values, weights } => Target::Scores {
///                 values: Batch::to_device(values, device)?,
///                 weights: Batch::to_device(weights, device)?,
///             },
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    note = "a struct of batches gets it by `#[derive(textbrewer::Batch)]`; other types implement \
            `to_device` by hand"
)]
pub trait Batch: Sized + 'static {
    /// The same batch on `device`. Tensors that are there already are shared, not copied.
    ///
    /// # Errors
    /// When the device is not there or has no memory left.
    fn to_device(&self, device: Device) -> Result<Self>;

    /// Which examples these are, if the batch says. A struct that derives `Batch`, and a tuple, have
    /// the first [`Ids`] in them.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::{Batch, Ids};
    ///
    /// let batch = (Tensor::from_slice(&[0.5, 1.5]), Ids::from(vec![7, 8]));
    /// assert_eq!(batch.ids().map(|ids| ids[1]), Some(8));
    /// assert_eq!(batch.0.ids(), None);
    /// ```
    fn ids(&self) -> Option<&Ids> {
        None
    }
}

/// To a GPU without waiting for it: the copy runs while the host goes on, from page-locked
/// memory, which libtorch keeps until the copy is done.
impl Batch for Tensor {
    fn to_device(&self, device: Device) -> Result<Self> {
        if !self.defined() {
            return Err(Error::shape("batch", "a tensor", "an undefined one"));
        }
        if self.device() == device {
            return Ok(self.shallow_clone());
        }
        if self.device() != Device::Cpu || !device.is_cuda() {
            return Ok(self.f_to_device(device)?);
        }
        // The public `pin_memory` warns of its argument every time. What cannot be locked, for
        // want of such memory or for its layout, is copied all the same, only slower.
        match self.f_internal_pin_memory(device) {
            Ok(pinned) => Ok(pinned.f_to_device_(device, self.f_kind()?, true, false)?),
            Err(_) => Ok(self.f_to_device(device)?),
        }
    }
}

impl<B: Batch> Batch for Vec<B> {
    fn to_device(&self, device: Device) -> Result<Self> {
        self.iter().map(|item| item.to_device(device)).collect()
    }
}

impl<B: Batch> Batch for Option<B> {
    fn to_device(&self, device: Device) -> Result<Self> {
        self.as_ref().map(|item| item.to_device(device)).transpose()
    }

    fn ids(&self) -> Option<&Ids> {
        self.as_ref().and_then(Batch::ids)
    }
}

impl<K: Clone + Eq + Hash + 'static, B: Batch> Batch for HashMap<K, B> {
    fn to_device(&self, device: Device) -> Result<Self> {
        let moved = |(key, item): (&K, &B)| Ok((key.clone(), item.to_device(device)?));
        self.iter().map(moved).collect()
    }
}

impl<K: Clone + Ord + 'static, B: Batch> Batch for BTreeMap<K, B> {
    fn to_device(&self, device: Device) -> Result<Self> {
        let moved = |(key, item): (&K, &B)| Ok((key.clone(), item.to_device(device)?));
        self.iter().map(moved).collect()
    }
}

macro_rules! batch_without_tensors {
    ($($name:ty),+) => {$(
        impl Batch for $name {
            fn to_device(&self, _device: Device) -> Result<Self> {
                Ok(self.clone())
            }
        }
    )+};
}

batch_without_tensors!((), bool, i32, i64, u32, u64, usize, f32, f64, String);

/// Different inputs for the teacher and the student, such as token ids of two vocabularies,
/// or the teacher's outputs, computed beforehand, in place of its input.
///
/// The models see the whole of it; each takes its side in an ordinary closure. Its
/// [`ids`](Batch::ids) are the teacher's, or the student's where the teacher's side has none.
///
/// ```
/// use tch::{Kind, Tensor};
/// use textbrewer::{from_fn, Model, Split};
///
/// let batch = Split::new(Tensor::from_slice(&[0.5f32, -0.5]), Tensor::from_slice(&[7i64]));
/// // The teacher's logits are there already: its model only hands them on.
/// let teacher = from_fn(|batch: &Split<Tensor, Tensor>, _| Ok(batch.teacher.shallow_clone()));
/// assert_eq!(teacher.forward(&batch, false)?.size(), [2]);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Batch)]
pub struct Split<T, S> {
    /// What the teacher gets.
    pub teacher: T,
    /// What the student gets.
    pub student: S,
}

impl<T, S> Split<T, S> {
    /// One input for each.
    pub fn new(teacher: T, student: S) -> Self {
        Split { teacher, student }
    }
}

macro_rules! batch_for_tuple {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Batch),+> Batch for ($($name,)+) {
            fn to_device(&self, device: Device) -> Result<Self> {
                Ok(($(self.$index.to_device(device)?,)+))
            }

            fn ids(&self) -> Option<&Ids> {
                None$(.or_else(|| self.$index.ids()))+
            }
        }
    };
}

batch_for_tuple!(A 0);
batch_for_tuple!(A 0, B 1);
batch_for_tuple!(A 0, B 1, C 2);
batch_for_tuple!(A 0, B 1, C 2, D 3);
batch_for_tuple!(A 0, B 1, C 2, D 3, E 4);
batch_for_tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
