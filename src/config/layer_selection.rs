//! Which layers' states a model is to return.

use std::collections::BTreeSet;

/// Which layers' states a model is to return.
///
/// It is made from `true` (all), `false` (none), or positions in the list of states, where
/// negative ones count from the end. [`DistillationConfig::layers`] returns the layers that
/// the configured matches need.
///
/// [`DistillationConfig::layers`]: super::DistillationConfig::layers
///
/// ```
/// use textbrewer::config::LayerSelection;
///
/// let ends = LayerSelection::from([0, -1]);
/// let of_five: Vec<_> = (0..5).filter(|&index| ends.contains(index, 5)).collect();
/// assert_eq!(of_five, [0, 4]);
/// assert_eq!(LayerSelection::from(true), LayerSelection::All);
/// assert_eq!(ends.union([2].into()), LayerSelection::from([-1, 0, 2]));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerSelection {
    /// No layer.
    #[default]
    None,
    /// Every layer.
    All,
    /// The layers at these positions; negative ones count from the end. Positions outside the
    /// list select nothing.
    Only(BTreeSet<i64>),
}

impl LayerSelection {
    /// Whether nothing is selected, however many layers there are.
    pub fn is_none(&self) -> bool {
        match self {
            LayerSelection::None => true,
            LayerSelection::All => false,
            LayerSelection::Only(positions) => positions.is_empty(),
        }
    }

    /// Whether layer `index` of `len`, counted from 0, is selected.
    pub fn contains(&self, index: usize, len: usize) -> bool {
        match self {
            LayerSelection::None => false,
            LayerSelection::All => true,
            LayerSelection::Only(positions) => {
                let (index, len) = (index as i64, len as i64);
                positions.contains(&index) || positions.contains(&(index - len))
            }
        }
    }

    /// The layers that either selects.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        match (self, other) {
            (LayerSelection::All, _) | (_, LayerSelection::All) => LayerSelection::All,
            (LayerSelection::None, only) | (only, LayerSelection::None) => only,
            (LayerSelection::Only(mut positions), LayerSelection::Only(more)) => {
                positions.extend(more);
                LayerSelection::Only(positions)
            }
        }
    }
}

/// All or none.
impl From<bool> for LayerSelection {
    fn from(all: bool) -> Self {
        match all {
            true => LayerSelection::All,
            false => LayerSelection::None,
        }
    }
}

impl<const N: usize> From<[i64; N]> for LayerSelection {
    fn from(positions: [i64; N]) -> Self {
        positions.into_iter().collect()
    }
}

impl From<Vec<i64>> for LayerSelection {
    fn from(positions: Vec<i64>) -> Self {
        positions.into_iter().collect()
    }
}

/// The layers at these positions; no layer if there are no positions.
impl FromIterator<i64> for LayerSelection {
    fn from_iter<I: IntoIterator<Item = i64>>(positions: I) -> Self {
        let positions: BTreeSet<i64> = positions.into_iter().collect();
        match positions.is_empty() {
            true => LayerSelection::None,
            false => LayerSelection::Only(positions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(selection: &LayerSelection, len: usize) -> Vec<usize> {
        let selected = (0..len).filter(|&index| selection.contains(index, len));
        selected.collect()
    }

    #[test]
    fn negative_positions_count_from_the_end_as_in_python() {
        assert_eq!(of(&[-1, 1].into(), 4), [1, 3]);
        assert_eq!(of(&[-4].into(), 4), [0]);
        // Python would refuse these two; they are nobody's layer here either.
        assert_eq!(of(&[4, -5].into(), 4), [0usize; 0]);
        assert_eq!(of(&true.into(), 2), [0, 1]);
        assert_eq!(of(&false.into(), 2), [0usize; 0]);
    }

    #[test]
    fn unions_hold_what_either_holds() {
        let [a, b] = [[0, -1], [0, 2]].map(LayerSelection::from);
        assert_eq!(a.clone().union(b), vec![0, 2, -1].into());
        assert_eq!(a.clone().union(false.into()), a);
        assert_eq!(LayerSelection::None.union(a.clone()), a);
        assert_eq!(a.union(true.into()), LayerSelection::All);
    }

    #[test]
    fn no_position_is_none() {
        assert_eq!(LayerSelection::from([]), LayerSelection::None);
        assert!(LayerSelection::Only(BTreeSet::new()).is_none());
        assert!(!LayerSelection::from([0]).is_none() && !LayerSelection::All.is_none());
    }
}
