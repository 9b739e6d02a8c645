//! Which layers of the student imitate which layers of the teacher.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Layers, Needs, PresetSpec, ProjectionSpec, check_finite, check_name};
use crate::error::Error;

/// More layers than any loss takes at once.
const MOST_LAYERS: usize = 1024;

/// One term of the loss: layers of the student imitate layers of the teacher.
///
/// ```
/// use textbrewer::{IntermediateMatch, ProjectionSpec};
///
/// let mse = IntermediateMatch::hidden(8, 2)
///     .loss("hidden_mse")
///     .weight(0.5)
///     .proj(ProjectionSpec::linear(384, 768));
/// let nst = IntermediateMatch::new("hidden", [8, 8], [2, 2]).loss("nst");
/// assert_eq!(mse.log_name(), "unweighted_hidden_hidden_mse_2_8");
/// assert_eq!(nst.log_name(), "unweighted_hidden_nst_2-2_8-8");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IntermediateMatch {
    /// `layer_T`: the position in the teacher adaptor's list.
    #[serde(rename = "layer_T")]
    pub layer_teacher: Layers,
    /// `layer_S`: the position in the student adaptor's list.
    #[serde(rename = "layer_S")]
    pub layer_student: Layers,
    /// The name of the list: `hidden`, `attention`, or a user's own.
    pub feature: String,
    /// The loss by its registered name, with its arguments: `"hidden_mse"`, `["minilmv2", 64]` or
    /// `["minilmv2", {"relation_heads": 64}]`.
    pub loss: PresetSpec,
    /// The weight of the loss in the total.
    pub weight: f64,
    /// A layer that the student's features go through first.
    #[serde(default)]
    pub proj: Option<ProjectionSpec>,
    /// With several teachers: the index of the teacher that is matched, counted from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub teacher: usize,
}

fn is_first(teacher: &usize) -> bool {
    *teacher == 0
}

impl IntermediateMatch {
    /// Matches the tensors of any feature with weight 1; [`loss`](Self::loss) must be set.
    pub fn new(
        feature: impl Into<String>,
        layer_teacher: impl Into<Layers>,
        layer_student: impl Into<Layers>,
    ) -> Self {
        IntermediateMatch {
            layer_teacher: layer_teacher.into(),
            layer_student: layer_student.into(),
            feature: feature.into(),
            loss: PresetSpec::new(""),
            weight: 1.0,
            proj: None,
            teacher: 0,
        }
    }

    /// Matches hidden states, by default with the loss `hidden_mse` and weight 1.
    pub fn hidden(layer_teacher: impl Into<Layers>, layer_student: impl Into<Layers>) -> Self {
        Self::new("hidden", layer_teacher, layer_student).loss("hidden_mse")
    }

    /// Matches attentions, by default with the loss `attention_mse` and weight 1.
    pub fn attention(layer_teacher: impl Into<Layers>, layer_student: impl Into<Layers>) -> Self {
        Self::new("attention", layer_teacher, layer_student).loss("attention_mse")
    }

    /// Sets the loss: a registered name, or a name with arguments.
    ///
    /// ```
    /// use textbrewer::IntermediateMatch;
    ///
    /// let matched = IntermediateMatch::new("qkv", 11, 2).loss(("minilmv2", [64.0]));
    /// assert_eq!(matched.log_name(), "unweighted_qkv_minilmv2_2_11");
    /// ```
    #[must_use]
    pub fn loss(mut self, loss: impl Into<PresetSpec>) -> Self {
        self.loss = loss.into();
        self
    }

    /// Sets the weight.
    #[must_use]
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the projection of the student's features to the teacher's size.
    #[must_use]
    pub fn proj(mut self, projection: ProjectionSpec) -> Self {
        self.proj = Some(projection);
        self
    }

    /// With several teachers: sets which of them is matched, counted from 0.
    #[must_use]
    pub fn teacher(mut self, index: usize) -> Self {
        self.teacher = index;
        self
    }

    /// TextBrewer's name of this term in the logs:
    /// `unweighted_{feature}_{loss}_{layer_S}_{layer_T}`, lists joined by `-`, the loss without its
    /// arguments; with `_teacher{index}` for a teacher other than the first.
    pub fn log_name(&self) -> String {
        let name = format!(
            "unweighted_{}_{}_{}_{}",
            self.feature,
            self.loss.name,
            self.layer_student.tag(),
            self.layer_teacher.tag()
        );
        match self.teacher {
            0 => name,
            teacher => format!("{name}_teacher{teacher}"),
        }
    }

    /// The layers of both sides.
    pub(crate) fn needs(&self) -> Needs {
        let (teacher, student) = (&self.layer_teacher, &self.layer_student);
        Needs::new()
            .teacher_layers(self.teacher, &self.feature, teacher.as_slice().to_vec())
            .student_layers(&self.feature, student.as_slice().to_vec())
    }

    pub(super) fn check(&self, path: &str) -> crate::error::Result<()> {
        for (key, layers) in [
            ("layer_T", &self.layer_teacher),
            ("layer_S", &self.layer_student),
        ] {
            let place = || format!("{path}.{key}");
            match layers.as_slice().len() {
                0 => {
                    let reason = "the list of layers must not be empty";
                    return Err(Error::config(place(), reason));
                }
                1..=MOST_LAYERS => {}
                count => {
                    let reason = format!("{count} layers are more than the {MOST_LAYERS} allowed");
                    return Err(Error::config(place(), reason));
                }
            }
        }
        match (&self.layer_teacher, &self.layer_student) {
            (Layers::One(_), Layers::One(_)) => {}
            (Layers::Many(teacher), Layers::Many(student)) if teacher.len() == student.len() => {}
            (teacher, student) => {
                return Err(Error::config(
                    path,
                    format!(
                        "layer_T ({teacher}) and layer_S ({student}) must both be one layer, \
                         or lists of the same length"
                    ),
                ));
            }
        }
        let feature = "`hidden`, `attention` or the name of a feature that the adaptors return";
        check_name(format!("{path}.feature"), &self.feature, feature)?;
        let place = format!("{path}.loss");
        check_name(&place, &self.loss.name, "the name of a match loss")?;
        self.loss.check_arguments(&place)?;
        check_finite(format!("{path}.weight"), self.weight)?;
        match &self.proj {
            Some(projection) => projection.check(&format!("{path}.proj")),
            None => Ok(()),
        }
    }
}

/// One line, in TextBrewer's key names.
impl fmt::Display for IntermediateMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "layer_T : {}, layer_S : {}, feature : {}, loss : {}, weight : {}",
            self.layer_teacher, self.layer_student, self.feature, self.loss, self.weight
        )?;
        if let Some(projection) = &self.proj {
            write!(f, ", proj : {projection}")?;
        }
        if self.teacher > 0 {
            write!(f, ", teacher : {}", self.teacher)?;
        }
        Ok(())
    }
}
