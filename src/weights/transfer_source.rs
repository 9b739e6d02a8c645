//! Looking up the weights of a teacher.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

use super::names::{modern, toggle_prefix};
use super::prefix::hiding;

/// The teacher's weights under every name by which they can be found.
pub(super) struct Source<'t> {
    by_name: BTreeMap<String, (&'t str, &'t Tensor)>,
    base: Option<&'t str>,
}

impl<'t> Source<'t> {
    /// Without what stands before all names of the teacher, if none of them is one of `wanted`.
    /// Also returns that prefix.
    pub(super) fn new(
        teacher: &'t BTreeMap<String, Tensor>,
        base: Option<&'t str>,
        wanted: &BTreeSet<&str>,
    ) -> (Self, Option<&'t str>) {
        let plain = Self::without("", teacher, base);
        if wanted.iter().any(|name| plain.find(name).is_some()) {
            return (plain, None);
        }
        match hiding(teacher.keys().map(String::as_str), wanted, base) {
            Some(prefix) => (Self::without(prefix, teacher, base), Some(prefix)),
            None => (plain, None),
        }
    }

    fn without(prefix: &str, teacher: &'t BTreeMap<String, Tensor>, base: Option<&'t str>) -> Self {
        let mut by_name = BTreeMap::new();
        let rest = |name: &'t String| name.strip_prefix(prefix).unwrap_or(name);
        for (name, tensor) in teacher {
            by_name.insert(rest(name).to_owned(), (name.as_str(), tensor));
        }
        for (name, tensor) in teacher {
            if let Some(modern) = modern(rest(name)) {
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
