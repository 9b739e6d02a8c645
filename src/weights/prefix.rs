//! A prefix before all names of a file, as weights of a wrapped model have it.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{modern, toggle_prefix};
use crate::error::shown;
use crate::logging;

/// The prefix, ending in a dot, without which most of `names` are among `wanted`; `None` when no
/// prefix helps, or several help equally.
///
/// `torch.compile` puts `_orig_mod.` before all names, data parallelism `module.`, and a training
/// framework the name that the model has in its module; several may follow each other.
pub(super) fn hiding<'n>(
    names: impl IntoIterator<Item = &'n str>,
    wanted: &BTreeSet<&str>,
    base: Option<&str>,
) -> Option<&'n str> {
    let is_wanted = |name: &str| {
        let toggled = |name: &str| base.map(|base| toggle_prefix(name, base));
        let is_there = |name: &str| {
            wanted.contains(name)
                || toggled(name).is_some_and(|name| wanted.contains(name.as_str()))
        };
        is_there(name) || modern(name).is_some_and(|name| is_there(&name))
    };
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        // The shortest prefix counts: `bert.` of a model inside its task model is none.
        let prefixes = name
            .match_indices('.')
            .map(|(dot, _)| name.split_at(dot + 1));
        if let Some((prefix, _)) = { prefixes }.find(|(_, rest)| is_wanted(rest)) {
            *found.entry(prefix).or_default() += 1;
        }
    }
    let most = found.values().copied().max()?;
    let mut best = found.iter().filter(|(_, count)| **count == most);
    match (best.next(), best.next()) {
        (Some((prefix, _)), None) => Some(prefix),
        _ => None,
    }
}

/// Tells that such a prefix was taken away.
pub(super) fn warn(origin: &str, prefix: &str) {
    let prefix = shown(prefix);
    logging::warn(format_args!(
        "{origin}: names begin with `{prefix}`, which is left out"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'n>(names: &[&'n str], wanted: &[&str]) -> Option<&'n str> {
        let wanted = wanted.iter().copied().collect();
        hiding(names.iter().copied(), &wanted, Some("bert"))
    }

    #[test]
    fn any_prefix_counts_and_several_at_once() {
        let wanted = ["bert.pooler.bias", "bert.norm.LayerNorm.bias", "head.bias"];
        for prefix in ["module.", "model.", "_orig_mod.module.", "net.0.teacher."] {
            let names = wanted.map(|name| format!("{prefix}{name}"));
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            assert_eq!(of(&names, &wanted), Some(prefix));
        }
        // Beside the name of the model in its task model, and beside old names.
        assert_eq!(of(&["module.pooler.bias"], &wanted), Some("module."));
        assert_eq!(of(&["m.bert.head.bias"], &["head.bias"]), Some("m."));
        let old = "m.bert.norm.LayerNorm.beta";
        assert_eq!(of(&[old, "m.loss.weight"], &wanted), Some("m."));
    }

    #[test]
    fn what_is_no_prefix() {
        assert_eq!(of(&["a.b", "c.d"], &["x"]), None);
        assert_eq!(of(&["ab"], &["b"]), None);
        // Which of the two is meant cannot be known.
        assert_eq!(of(&["teacher.b", "student.b"], &["b"]), None);
        assert_eq!(
            of(&["teacher.b", "student.b", "student.c"], &["b", "c"]),
            Some("student.")
        );
    }
}
