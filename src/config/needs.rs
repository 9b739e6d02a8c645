//! What a term needs of the models.

use std::collections::BTreeMap;

use super::LayerSelection;
use crate::error::Side;

/// What a [`Term`](crate::Term) needs of the models: whether logits, and which layers of which
/// features. [`Said`](crate::distiller::Said) has no more of the teachers than all terms need and gives
/// a term no layers but its own; teacher outputs that are kept keep no more, and models can
/// leave the rest out.
///
/// ```
/// use textbrewer::Side;
/// use textbrewer::config::{LayerSelection, Needs};
///
/// let needs = Needs::new()
///     .logits()
///     .teacher_layers(0, "hidden", [-1])
///     .student_layers("hidden", [-1]);
/// assert_eq!(needs.layers(Side::Teacher, "hidden"), [-1].into());
/// assert_eq!(needs.layers(Side::Student, "attention"), LayerSelection::None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub(crate) logits: bool,
    pub(crate) teachers: BTreeMap<usize, Layers>,
    pub(crate) student: Layers,
}

/// Layers by feature.
pub(crate) type Layers = BTreeMap<String, LayerSelection>;

impl Needs {
    /// Nothing: a term on the student's losses alone.
    pub fn new() -> Self {
        Needs::default()
    }

    /// The logits of the teachers, with their masks; those of the student are always there.
    #[must_use]
    pub fn logits(mut self) -> Self {
        self.logits = true;
        self
    }

    /// Layers of a feature of a teacher, counted from 0; without several teachers it is 0.
    #[must_use]
    pub fn teacher_layers(
        mut self,
        teacher: usize,
        feature: impl Into<String>,
        layers: impl Into<LayerSelection>,
    ) -> Self {
        let layers = layers.into();
        if !layers.is_none() {
            let of_teacher = self.teachers.entry(teacher).or_default();
            add(of_teacher, feature.into(), layers);
        }
        self
    }

    /// Layers of a feature of the student.
    #[must_use]
    pub fn student_layers(
        mut self,
        feature: impl Into<String>,
        layers: impl Into<LayerSelection>,
    ) -> Self {
        add(&mut self.student, feature.into(), layers.into());
        self
    }

    /// What either needs.
    #[must_use]
    pub fn and(mut self, other: Needs) -> Self {
        self.logits |= other.logits;
        for (teacher, layers) in other.teachers {
            let of_teacher = self.teachers.entry(teacher).or_default();
            layers
                .into_iter()
                .for_each(|(feature, layers)| add(of_teacher, feature, layers));
        }
        for (feature, layers) in other.student {
            add(&mut self.student, feature, layers);
        }
        self
    }

    /// The layers of a feature that a model of this side has to return; of all teachers
    /// together, where there are several.
    pub fn layers(&self, side: Side, feature: &str) -> LayerSelection {
        match side {
            Side::Student => self.student.get(feature).cloned().unwrap_or_default(),
            Side::Teacher => {
                let teachers = self.teachers.keys();
                let of_each = teachers.map(|teacher| self.layers_of_teacher(*teacher, feature));
                of_each.fold(LayerSelection::None, LayerSelection::union)
            }
        }
    }

    /// The layers of a feature that one of the teachers has to return.
    pub fn layers_of_teacher(&self, teacher: usize, feature: &str) -> LayerSelection {
        let of_teacher = self.teachers.get(&teacher);
        let layers = of_teacher.and_then(|layers| layers.get(feature));
        layers.cloned().unwrap_or_default()
    }
}

fn add(to: &mut Layers, feature: String, layers: LayerSelection) {
    let known = to.remove(&feature).unwrap_or_default();
    to.insert(feature, known.union(layers));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_terms_need_is_what_either_needs() {
        let first = Needs::new().teacher_layers(1, "hidden", [3]);
        let second = Needs::new()
            .logits()
            .teacher_layers(1, "hidden", [4])
            .teacher_layers(0, "attention", true)
            .student_layers("hidden", [1]);
        let both = first.and(second);
        assert!(both.logits);
        assert_eq!(both.teachers[&1]["hidden"], [3, 4].into());
        assert_eq!(both.teachers[&0]["attention"], LayerSelection::All);
        assert_eq!(both.layers(Side::Teacher, "hidden"), [3, 4].into());
        assert_eq!(both.layers(Side::Student, "hidden"), [1].into());
    }
}
