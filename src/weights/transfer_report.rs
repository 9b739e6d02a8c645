//! The report on a transfer of weights.

use std::fmt;

use tch::Kind;

/// A weight of the student that was copied from the teacher.
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::Tensor;
/// use textbrewer::weights::Transfer;
///
/// let weights = |name: &str| BTreeMap::from([(name.to_owned(), Tensor::from(1f32))]);
/// let transfer = Transfer::layers([3]).layer_pattern("h.{}.");
/// let report = transfer.copy_tensors(&weights("h.3.bias"), &weights("h.0.bias"))?;
/// assert_eq!((report.copied[0].from.as_str(), report.copied[0].to.as_str()), ("h.3.bias", "h.0.bias"));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The teacher's name.
    pub from: String,
    /// The student's name.
    pub to: String,
}

/// A weight of the student that kept its value.
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::Tensor;
/// use textbrewer::weights::{KeptReason, Transfer};
///
/// let weights = |names: &[&str]| -> BTreeMap<String, Tensor> {
///     names.iter().map(|&name| (name.to_owned(), Tensor::from(1f32))).collect()
/// };
/// let transfer = Transfer::layers([0]).layer_pattern("h.{}.");
/// let report = transfer.copy_tensors(&weights(&["h.0.bias"]), &weights(&["h.0.bias", "scale"]))?;
/// assert_eq!(report.kept[0].name, "scale");
/// assert_eq!(report.kept[0].reason, KeptReason::Absent("scale".to_owned()));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The student's name.
    pub name: String,
    /// Why it kept its value.
    pub reason: KeptReason,
}

/// Why a weight of the student kept its value.
///
/// ```
/// use textbrewer::weights::KeptReason;
///
/// let reason = KeptReason::Shape { teacher: vec![768], student: vec![312] };
/// assert_eq!(reason.to_string(), "shape [312], the teacher's is [768]");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeptReason {
    /// The teacher has no weight of this name.
    Absent(String),
    /// The teacher's weight has another shape.
    Shape {
        /// The teacher's.
        teacher: Vec<i64>,
        /// The student's.
        student: Vec<i64>,
    },
    /// One of the two does not have floating-point elements.
    Dtype {
        /// The teacher's.
        teacher: Kind,
        /// The student's.
        student: Kind,
    },
    /// No layer of the teacher was chosen for this layer of the student.
    LayerNotChosen(usize),
    /// [`Transfer::except`](super::Transfer::except) names it.
    Excepted,
}

impl fmt::Display for KeptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeptReason::Absent(name) => write!(f, "the teacher has no `{name}`"),
            KeptReason::Shape { teacher, student } => {
                write!(f, "shape {student:?}, the teacher's is {teacher:?}")
            }
            KeptReason::Dtype { teacher, student } => {
                write!(f, "dtype {student:?}, the teacher's is {teacher:?}")
            }
            KeptReason::LayerNotChosen(layer) => {
                write!(f, "no layer was chosen for the student's layer {layer}")
            }
            KeptReason::Excepted => f.write_str("excepted"),
        }
    }
}

/// What [`Transfer`](super::Transfer) copied and what it did not. `Display` shows a table.
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::Tensor;
/// use textbrewer::weights::Transfer;
///
/// let weights = |names: [&str; 2]| -> BTreeMap<String, Tensor> {
///     names.map(|name| (name.to_owned(), Tensor::from(1f32))).into()
/// };
/// let teacher = weights(["h.0.bias", "h.1.bias"]);
/// let student = weights(["h.0.bias", "scale"]);
/// let report = Transfer::layers([1]).layer_pattern("h.{}.").copy_tensors(&teacher, &student)?;
/// assert_eq!(report.to_string(), "\
/// 1 of 2 weights were copied
///   h.0.bias <- h.1.bias
/// 1 kept their values
///   scale       the teacher has no `scale`");
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferReport {
    /// The weights that were copied, sorted by the student's names.
    pub copied: Vec<Copied>,
    /// The student's other weights, sorted by name.
    pub kept: Vec<Kept>,
}

impl fmt::Display for TransferReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copied = self.copied.iter().map(|row| (&row.to, row.from.clone()));
        let kept = self
            .kept
            .iter()
            .map(|row| (&row.name, row.reason.to_string()));
        let names = copied.clone().chain(kept.clone());
        let width = names.map(|(name, _)| name.len()).max().unwrap_or(0);
        let (count, total) = (self.copied.len(), self.copied.len() + self.kept.len());
        write!(f, "{count} of {total} weights were copied")?;
        for (to, from) in copied {
            write!(f, "\n  {to:<width$} <- {from}")?;
        }
        if !self.kept.is_empty() {
            write!(f, "\n{} kept their values", self.kept.len())?;
        }
        for (name, reason) in kept {
            write!(f, "\n  {name:<width$}    {reason}")?;
        }
        Ok(())
    }
}
