//! Looking up the weights of a teacher.

use std::collections::BTreeMap;

use tch::Tensor;

use super::names::{modern, toggle_prefix};

/// The teacher's weights under every name by which they can be found.
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
                // A weight's own name goes before the other names.
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
