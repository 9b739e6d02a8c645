//! What becomes of the classes that a teacher does not name.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::config::json;

/// What a loss takes the classes for that a teacher's [top k](super::TopK) leaves out, whose
/// probability together is known: the tail.
///
/// | | the teacher's classes | the student's |
/// |---|---|---|
/// | `Bucket` | the k, and one class more that has the tail | the k, and all others as one class |
/// | `Truncated` | the k as they are | the k as they are |
/// | `Renormalized` | the k, divided by their sum; nothing outside | the k, and all others as one class |
/// | `Uniform` | the k, and the tail divided evenly among the other classes | all |
///
/// With `k` = all classes they are all the loss on whole logits. `Bucket` is what DistillKit calls
/// `symmetric_uniform` and TRL the tail bucket. `Truncated` compares what are no distributions: it can
/// be negative, and gets smaller where the student's k are too likely. `Renormalized` is DistillKit's
/// `zero`; with it `reverse_kl` and the like are infinite, which is an error; a position with none of
/// the k has no loss by `forward_kl`. `Uniform` spreads over the classes that the student does not
/// mask with −∞.
///
/// A tail of no probability, a `log_tail` of −∞, makes `reverse_kl` and the like infinite too, where the
/// student gives the other classes some. On the CPU that is an error; on other devices, which are not
/// asked, the loss is as large as numbers get.
///
/// What TRL calls `renormalize`, both sides divided by their own sum over the k, is no treatment of a
/// tail but a loss on fewer classes: gather the student's logits of the k, and give the teacher's k
/// as whole logits.
///
/// In JSON `"bucket"`, `"truncated"`, `"renormalized"` or `"uniform"`.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::logits::{Tail, TopK};
/// use textbrewer::{KdInput, Presets};
///
/// let logits = Tensor::from_slice2(&[[3.0, 1.0, 0.0, -1.0]]);
/// let loss = Presets::default().find_kd_loss("kd_loss_type", "forward_kl")?;
/// let of_the_same = |tail| -> textbrewer::Result<f64> {
///     let input = KdInput::new(&logits, TopK::of(&logits, 2, 1.0)?, 1.0)?;
///     Ok(loss.clone().with_tail(tail).apply(&input)?.double_value(&[]))
/// };
/// assert_eq!(of_the_same(Tail::Bucket)?, 0.0);
/// assert!(of_the_same(Tail::Uniform)? > 0.0); // The others are not all alike.
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Tail {
    /// One class more.
    #[default]
    Bucket,
    /// Left out on both sides.
    Truncated,
    /// The teacher's k are divided by their sum, and it gives the others no probability.
    Renormalized,
    /// Divided evenly among the other classes.
    Uniform,
}

impl Tail {
    const NAMES: &[&str] = &["bucket", "truncated", "renormalized", "uniform"];

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bucket" => Tail::Bucket,
            "truncated" => Tail::Truncated,
            "renormalized" => Tail::Renormalized,
            "uniform" => Tail::Uniform,
            _ => return None,
        })
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Tail::default()
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tail::Bucket => "bucket",
            Tail::Truncated => "truncated",
            Tail::Renormalized => "renormalized",
            Tail::Uniform => "uniform",
        })
    }
}

impl<'de> Deserialize<'de> for Tail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::one_of(deserializer, Tail::NAMES, Tail::named)
    }
}
