//! The weights of a teacher, to be looked up.

use std::collections::BTreeMap;

use tch::Tensor;

use super::names::{modern, toggle_prefix};

/// The teacher's weights by the names that they may be asked for.
pub(super) struct Source<'t> {
    by_name: BTreeMap<String, (&'t str, &'t Tensor)>,
    base: Option<&'t str>,
}

impl<'t> Source<'t> {
    pub(super) fn new(teacher: &'t BTreeMap<String, Tensor>, base: Option<&'t str>) -> Self {
        let mut by_name = BTreeMap::new();
        for (name, tensor) in teacher {
            by_name.insert(name.clone(), (name.as_str(), tensor));
        }
        for (name, tensor) in teacher {
            if let Some(modern) = modern(name) {
                // A weight that bears the name itself comes first.
                by_name.entry(modern).or_insert((name, tensor));
            }
        }
        Source { by_name, base }
    }

    pub(super) fn find(&self, name: &str) -> Option<(&'t str, &'t Tensor)> {
        let toggled = || self.by_name.get(&toggle_prefix(name, self.base?));
        self.by_name.get(name).or_else(toggled).copied()
    }
}
