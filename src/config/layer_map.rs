//! Pairing layers by a rule.

use super::{IntermediateMatch, Layers, PresetSpec, ProjectionSpec};
use crate::error::{Error, Result};

/// Which layer of the teacher each layer of the student imitates.
///
/// Layers are counted from 1; a model of twelve has the layers 1 to 12. The embeddings are
/// not a layer. They are matched only after [`with_embeddings`](Self::with_embeddings), and
/// only as hidden states, since they have no attention.
///
/// [`LayerLikeness`](crate::LayerLikeness) finds a map by what two models say.
///
/// A map expands into matches for a [`DistillationConfig`](crate::DistillationConfig):
///
/// | | a match for each pair of layers | the adaptor's list |
/// |---|---|---|
/// | [`hidden`](Self::hidden) | of hidden states | the embeddings, then one for each layer |
/// | [`attention`](Self::attention) | of attentions | one for each layer |
/// | [`pairs_of`](Self::pairs_of) | of hidden states, each with itself | as for `hidden` |
/// | [`neighbours_of`](Self::neighbours_of) | of hidden states, each with the next | as for `hidden` |
///
/// These lists are what BERT in this crate and in `transformers` returns. So the hidden
/// state of layer 4 is number 4 in its list, and the attention of layer 4 is number 3.
///
/// ```
/// use textbrewer::{DistillationConfig, LayerMap, ProjectionSpec};
///
/// let map = LayerMap::uniform(12, 3)?;
/// assert_eq!(map.pairs(), [(4, 1), (8, 2), (12, 3)]);
///
/// let hidden = map.clone()
///     .with_embeddings()
///     .proj(ProjectionSpec::linear(384, 768))
///     .hidden("hidden_mse");
/// let numbers: Vec<_> = hidden.iter().map(|m| m.layer_teacher.as_slice()[0]).collect();
/// assert_eq!(numbers, [0, 4, 8, 12]);
///
/// let attention = map.weight(0.5).attention("attention_mse");
/// let numbers: Vec<_> = attention.iter().map(|m| m.layer_teacher.as_slice()[0]).collect();
/// assert_eq!(numbers, [3, 7, 11]);
///
/// let config = DistillationConfig::default()
///     .intermediate_matches(hidden.into_iter().chain(attention));
/// config.validate()?;
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LayerMap {
    /// Teacher's layer and student's, counted from 1.
    pairs: Vec<(usize, usize)>,
    embeddings: bool,
    weight: f64,
    projection: Option<ProjectionSpec>,
}

impl LayerMap {
    /// Every layer of the student, spread evenly over the teacher: layer `i` of `S`
    /// imitates layer `⌈i·T/S⌉` of `T`, so the last layer imitates the last.
    ///
    /// For twelve layers and four these are 3, 6, 9, 12. When the student is deeper than its
    /// teacher, several of its layers imitate the same one.
    ///
    /// # Errors
    /// When a model has no layers.
    pub fn uniform(teacher_layers: usize, student_layers: usize) -> Result<Self> {
        let (teacher, student) = depths(teacher_layers, student_layers)?;
        let spread = |i: usize| {
            // The product of two depths need not fit into a `usize`; the quotient does.
            let layer = (i as u128 * teacher as u128).div_ceil(student as u128);
            usize::try_from(layer).unwrap_or(teacher)
        };
        Ok(Self::of((1..=student).map(|i| (spread(i), i))))
    }

    /// The last `count` layers of the student imitate the last `count` of the teacher.
    ///
    /// With all layers of the student this is "PKD-Last" of
    /// [Sun et al. 2019](https://arxiv.org/abs/1908.09355).
    ///
    /// # Errors
    /// When `count` is 0 or more than the layers of one of the models.
    ///
    /// ```
    /// use textbrewer::LayerMap;
    ///
    /// assert_eq!(LayerMap::last(12, 4, 2)?.pairs(), [(11, 3), (12, 4)]);
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn last(teacher_layers: usize, student_layers: usize, count: usize) -> Result<Self> {
        let (teacher, student) = depths(teacher_layers, student_layers)?;
        let most = teacher.min(student);
        if !(1..=most).contains(&count) {
            let reason = format!(
                "must be from 1 to {most}, is {count}: the teacher has {teacher} layers, \
                 the student {student}"
            );
            return Err(Error::config("LayerMap::last, count", reason));
        }
        let pair = |back| (teacher - back, student - back);
        Ok(Self::of((0..count).rev().map(pair)))
    }

    /// The layers of the student imitate every `step`th layer of the teacher: layer `i`
    /// imitates layer `i·step`.
    ///
    /// This is "PKD-Skip" of [Sun et al. 2019](https://arxiv.org/abs/1908.09355). The last
    /// layers of the teacher may be left out.
    ///
    /// # Errors
    /// When `step` is 0 or so large that the teacher has too few layers.
    ///
    /// ```
    /// use textbrewer::LayerMap;
    ///
    /// assert_eq!(LayerMap::skip(12, 3, 2)?.pairs(), [(2, 1), (4, 2), (6, 3)]);
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn skip(teacher_layers: usize, student_layers: usize, step: usize) -> Result<Self> {
        let (teacher, student) = depths(teacher_layers, student_layers)?;
        let most = teacher / student;
        if most == 0 {
            let reason =
                format!("a teacher of {teacher} layers is too shallow for a student of {student}");
            return Err(Error::config("LayerMap::skip", reason));
        }
        if !(1..=most).contains(&step) {
            let reason = format!(
                "must be from 1 to {most}, is {step}: the teacher has {teacher} layers, \
                 the student {student}"
            );
            return Err(Error::config("LayerMap::skip, step", reason));
        }
        Ok(Self::of((1..=student).map(|i| (i * step, i))))
    }

    /// These pairs, teacher's layer first, counted from 1. Whether the models have these
    /// layers is checked only in training.
    ///
    /// # Errors
    /// When there is no pair, or a layer is 0.
    ///
    /// ```
    /// use textbrewer::LayerMap;
    ///
    /// let map = LayerMap::from_pairs([(6, 1), (12, 2)])?;
    /// assert_eq!(map.neighbours_of("fsp").len(), 1);
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn from_pairs(pairs: impl IntoIterator<Item = (usize, usize)>) -> Result<Self> {
        let pairs: Vec<_> = pairs.into_iter().collect();
        if pairs.is_empty() {
            return Err(Error::config(
                "LayerMap::from_pairs",
                "is empty; give a layer of the teacher and one of the student",
            ));
        }
        for (i, &(teacher, student)) in pairs.iter().enumerate() {
            if teacher == 0 || student == 0 {
                let reason = format!(
                    "({teacher}, {student}) is no pair of layers: they are counted from 1; \
                     to match the embeddings use `with_embeddings`"
                );
                return Err(Error::config(format!("LayerMap::from_pairs[{i}]"), reason));
            }
        }
        Ok(Self::of(pairs))
    }

    /// These pairs, without a look at them.
    pub(crate) fn of(pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        LayerMap {
            pairs: pairs.into_iter().collect(),
            embeddings: false,
            weight: 1.0,
            projection: None,
        }
    }

    /// Also matches the embeddings, where hidden states are matched.
    #[must_use]
    pub fn with_embeddings(mut self) -> Self {
        self.embeddings = true;
        self
    }

    /// Sets the weight of each match. Default 1.
    #[must_use]
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Gives each match a projection of its own from the student's size to the teacher's.
    #[must_use]
    pub fn proj(mut self, projection: ProjectionSpec) -> Self {
        self.projection = Some(projection);
        self
    }

    /// Teacher's layer and student's, counted from 1, without the embeddings.
    pub fn pairs(&self) -> &[(usize, usize)] {
        &self.pairs
    }

    /// A match of hidden states for each pair, by a loss on one layer of each model:
    /// `hidden_mse`, `cos`, `pkd`.
    #[must_use]
    pub fn hidden(&self, loss: impl Into<PresetSpec>) -> Vec<IntermediateMatch> {
        let loss = loss.into();
        let states = self.states();
        let matches = states.into_iter().map(|(t, s)| {
            let layers = (Layers::One(t), Layers::One(s));
            self.matching("hidden", layers, &loss)
        });
        matches.collect()
    }

    /// A match of attentions for each pair: `attention_mse`, `attention_ce`, ….
    #[must_use]
    pub fn attention(&self, loss: impl Into<PresetSpec>) -> Vec<IntermediateMatch> {
        let loss = loss.into();
        let matches = self.positions().map(|(t, s)| {
            // The list of attentions has no embeddings in front.
            let layers = (Layers::One(t - 1), Layers::One(s - 1));
            self.matching("attention", layers, &loss)
        });
        matches.collect()
    }

    /// A match of hidden states for each pair, by a loss on two layers of each model that gets
    /// the same layer twice: `nst` (= `mmd`), or `gram` (= `fsp`) for the Gram matrix of the
    /// layer.
    ///
    /// ```
    /// use textbrewer::{IntermediateMatch, LayerMap};
    ///
    /// let matches = LayerMap::uniform(12, 3)?.pairs_of("nst");
    /// assert_eq!(matches[0], IntermediateMatch::hidden([4, 4], [1, 1]).loss("nst"));
    /// assert_eq!(matches.len(), 3);
    /// # textbrewer::Result::Ok(())
    /// ```
    #[must_use]
    pub fn pairs_of(&self, loss: impl Into<PresetSpec>) -> Vec<IntermediateMatch> {
        let loss = loss.into();
        let states = self.states();
        let matches = states.into_iter().map(|(t, s)| {
            let layers = (Layers::Many(vec![t, t]), Layers::Many(vec![s, s]));
            self.matching("hidden", layers, &loss)
        });
        matches.collect()
    }

    /// A match of hidden states for each pair and the next, by a loss on two layers of each
    /// model, such as `fsp` for the flow from one to the other. There is one match fewer than
    /// there are pairs.
    #[must_use]
    pub fn neighbours_of(&self, loss: impl Into<PresetSpec>) -> Vec<IntermediateMatch> {
        let loss = loss.into();
        let states = self.states();
        let next = states.iter().skip(1);
        let matches = states.iter().zip(next).map(|((t, s), (next_t, next_s))| {
            let layers = (
                Layers::Many(vec![*t, *next_t]),
                Layers::Many(vec![*s, *next_s]),
            );
            self.matching("hidden", layers, &loss)
        });
        matches.collect()
    }

    /// Positions in the lists of hidden states, where the embeddings come first.
    fn states(&self) -> Vec<(i64, i64)> {
        let embeddings = self.embeddings.then_some((0, 0));
        embeddings.into_iter().chain(self.positions()).collect()
    }

    /// The pairs as the signed numbers of matches. No model has so many layers that the
    /// conversion would overflow.
    fn positions(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let signed = |layer: usize| i64::try_from(layer).unwrap_or(i64::MAX);
        let pairs = self.pairs.iter();
        pairs.map(move |&(teacher, student)| (signed(teacher), signed(student)))
    }

    fn matching(
        &self,
        feature: &str,
        (teacher, student): (Layers, Layers),
        loss: &PresetSpec,
    ) -> IntermediateMatch {
        let mut matching = IntermediateMatch::new(feature, teacher, student)
            .loss(loss)
            .weight(self.weight);
        matching.proj.clone_from(&self.projection);
        matching
    }
}

/// How many layers the models have, both at least 1.
fn depths(teacher: usize, student: usize) -> Result<(usize, usize)> {
    let depth = |which: &str, layers: usize| match layers {
        0 => Err(Error::config(
            format!("LayerMap, {which}_layers"),
            "a model with 0 layers cannot be matched",
        )),
        layers => Ok(layers),
    };
    Ok((depth("teacher", teacher)?, depth("student", student)?))
}
