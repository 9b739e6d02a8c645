//! Which weight of a file goes into which variable of a model.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

use super::file::Described;
use super::names::{is_position_ids, modern, toggle_prefix};
use super::{LoadOptions, prefix};
use crate::error::{Context, Error, Result, shown};

/// A variable and the weight that goes into it.
pub(super) struct Pair<'a> {
    pub(super) name: &'a str,
    pub(super) variable: &'a Tensor,
    /// The name in the file.
    pub(super) source: &'a str,
    described: &'a Described,
}

/// Maps a name in the file to the name of a variable, if the rule applies.
type Rule<'r> = &'r dyn Fn(&str) -> Option<String>;

/// Which tensor goes into which variable.
pub(super) struct Pairing<'a> {
    pub(super) pairs: Vec<Pair<'a>>,
    pub(super) missing: Vec<&'a str>,
    pub(super) unexpected: Vec<&'a str>,
    /// What was taken away before the names of the file; empty if nothing was.
    pub(super) removed: &'a str,
    /// What would have to be taken away, if no name fits as it is.
    hidden_by: Option<&'a str>,
}

impl<'a> Pairing<'a> {
    pub(super) fn new(
        state: &'a [(String, Tensor)],
        described: &'a BTreeMap<String, Described>,
        options: &LoadOptions,
    ) -> Self {
        let base = options.base_prefix.as_deref();
        let plain = Self::without("", state, described, base);
        if !plain.pairs.is_empty() {
            return plain;
        }
        let wanted = plain.missing.iter().copied().collect();
        match prefix::hiding(plain.unexpected.iter().copied(), &wanted, base) {
            Some(prefix) if options.remove_prefix => Self::without(prefix, state, described, base),
            hidden_by => Pairing { hidden_by, ..plain },
        }
    }

    /// The pairs when `removed` is taken away from the names that begin with it.
    fn without(
        removed: &'a str,
        state: &'a [(String, Tensor)],
        described: &'a BTreeMap<String, Described>,
        base: Option<&str>,
    ) -> Self {
        let mut free: BTreeMap<&str, &Tensor> = BTreeMap::new();
        for (name, tensor) in state {
            free.insert(name, tensor);
        }
        let mut left: BTreeSet<&str> = described.keys().map(String::as_str).collect();
        let mut pairs = Vec::new();
        // Exact names come first, so that no other rule gives a variable to another weight
        // than the one of its name.
        let toggled = |name: &str| base.map(|base| toggle_prefix(name, base));
        let rules: [Rule; 4] = [&|name| Some(name.to_owned()), &modern, &toggled, &|name| {
            modern(name).and_then(|name| toggled(&name))
        }];
        for rule in rules {
            for (source, described) in described {
                if !left.contains(source.as_str()) {
                    continue;
                }
                let rest = source.strip_prefix(removed).unwrap_or(source);
                let Some(target) = rule(rest) else { continue };
                if let Some((name, variable)) = free.remove_entry(target.as_str()) {
                    left.remove(source.as_str());
                    pairs.push(Pair {
                        name,
                        variable,
                        source,
                        described,
                    });
                }
            }
        }
        pairs.sort_by(|a, b| a.name.cmp(b.name));
        left.retain(|name| !is_position_ids(name));
        Pairing {
            pairs,
            missing: free.into_keys().collect(),
            unexpected: left.into_iter().collect(),
            removed,
            hidden_by: None,
        }
    }

    /// Refuses all differences but those that the options allow.
    pub(super) fn check(&self, options: &LoadOptions, origin: &str) -> Result<()> {
        let differences = self.differences(options)?;
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::WeightsMismatch {
            origin: origin.to_owned(),
            differences,
        })
    }

    fn differences(&self, options: &LoadOptions) -> Result<Vec<String>> {
        let mut differences = Vec::from_iter(self.strangers(options));
        for pair in &self.pairs {
            let Pair { name, source, .. } = pair;
            let title = if name == source {
                format!("`{name}`")
            } else {
                format!("`{name}` (in the file `{}`)", shown(source))
            };
            let (model, file) = (pair.variable.size(), &pair.described.size);
            if model != *file {
                differences.push(format!(
                    "{title}: shape {file:?}, the model expects {model:?}"
                ));
            }
            let model = pair.variable.f_kind().context(|| title.clone())?;
            let file = pair.described.kind;
            if model != file && !options.convert_dtype {
                differences.push(format!(
                    "{title}: dtype {file:?}, the model expects {model:?}; \
                     `convert_dtype` would convert it"
                ));
            }
        }
        for name in &self.missing {
            if !options.ignore_missing.contains(name) {
                differences.push(format!("`{name}`: missing"));
            }
        }
        for name in &self.unexpected {
            let rest = name.strip_prefix(self.removed).unwrap_or(name);
            if !options.ignore_unexpected.contains(rest) {
                differences.push(format!(
                    "`{}`: unexpected, the model has no such weight",
                    shown(name)
                ));
            }
        }
        Ok(differences)
    }

    /// What is said of the file's names when none of them fits.
    fn strangers(&self, options: &LoadOptions) -> Option<String> {
        if !self.pairs.is_empty() || self.missing.is_empty() || self.unexpected.is_empty() {
            return None;
        }
        let all = self.unexpected.len();
        if let Some(prefix) = self.hidden_by {
            let with = self
                .unexpected
                .iter()
                .filter(|name| name.starts_with(prefix));
            let prefix = shown(prefix);
            let which = match with.count() {
                count if count == all => "every name in it begins".to_owned(),
                count => format!("{count} of the {all} names in it begin"),
            };
            return Some(format!(
                "{which} with `{prefix}`, and without that they fit: \
                 `LoadOptions::remove_prefix(true)` takes it away"
            ));
        }
        let is_ignored = |name: &&str| options.ignore_unexpected.contains(name);
        if !self.unexpected.iter().all(is_ignored) {
            return None;
        }
        let first = self.unexpected.iter().take(3);
        let first: Vec<_> = first.map(|name| format!("`{}`", shown(name))).collect();
        let more = if all > first.len() { ", …" } else { "" };
        let first = first.join(", ");
        Some(format!(
            "no name in it is one of the model's: {first}{more}"
        ))
    }
}
