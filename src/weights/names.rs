//! Names of weights: sets of them, and old names for the same weights.

/// A set of names of weights.
///
/// ```
/// use textbrewer::weights::Names;
///
/// let heads = Names::starting_with(["classifier.", "cls."]);
/// assert!(heads.contains("cls.predictions.bias"));
/// assert!(!heads.contains("bert.pooler.dense.bias"));
/// assert!(Names::not_starting_with(["bert."]).contains("classifier.weight"));
/// assert!(Names::All.contains("anything") && !Names::None.contains("anything"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Names {
    /// No name.
    #[default]
    None,
    /// Every name.
    All,
    /// The names that begin with one of these.
    StartingWith(Vec<String>),
    /// All names but those that begin with one of these.
    NotStartingWith(Vec<String>),
}

impl Names {
    /// The names that begin with one of `prefixes`.
    pub fn starting_with<P: Into<String>>(prefixes: impl IntoIterator<Item = P>) -> Self {
        Names::StartingWith(prefixes.into_iter().map(Into::into).collect())
    }

    /// All names but those that begin with one of `prefixes`.
    pub fn not_starting_with<P: Into<String>>(prefixes: impl IntoIterator<Item = P>) -> Self {
        Names::NotStartingWith(prefixes.into_iter().map(Into::into).collect())
    }

    /// Whether `name` is in the set.
    pub fn contains(&self, name: &str) -> bool {
        let begins = |prefixes: &[String]| {
            let mut prefixes = prefixes.iter();
            prefixes.any(|prefix| name.starts_with(prefix.as_str()))
        };
        match self {
            Names::None => false,
            Names::All => true,
            Names::StartingWith(prefixes) => begins(prefixes),
            Names::NotStartingWith(prefixes) => !begins(prefixes),
        }
    }
}

/// The current name of a weight in an old checkpoint: those converted from TensorFlow have
/// `gamma` and `beta` in place of `weight` and `bias`.
pub(super) fn modern(name: &str) -> Option<String> {
    let renamed = |old: &str, new: &str| {
        let stem = name.strip_suffix(old)?;
        stem.ends_with("LayerNorm").then(|| format!("{stem}{new}"))
    };
    renamed(".gamma", ".weight").or_else(|| renamed(".beta", ".bias"))
}

/// Whether `name` is the constant buffer of positions that older versions of `transformers`
/// saved.
pub(super) fn is_position_ids(name: &str) -> bool {
    name == "position_ids" || name.ends_with(".position_ids")
}

/// Removes the prefix `base` from `name`, or adds it where it is missing.
pub(super) fn toggle_prefix(name: &str, base: &str) -> String {
    let stripped = name
        .strip_prefix(base)
        .and_then(|rest| rest.strip_prefix('.'));
    match stripped {
        Some(rest) => rest.to_owned(),
        None => format!("{base}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names() {
        let modern = |name| modern(name).unwrap_or_default();
        assert_eq!(modern("a.LayerNorm.gamma"), "a.LayerNorm.weight");
        assert_eq!(modern("LayerNorm.beta"), "LayerNorm.bias");
        assert_eq!(modern("a.beta"), "");
        assert_eq!(modern("a.LayerNorm.weight"), "");
    }

    #[test]
    fn choices() {
        assert!(!Names::None.contains("a"));
        assert!(Names::All.contains("a"));
        let heads = Names::starting_with(["classifier.", "cls."]);
        assert!(heads.contains("cls.predictions.bias"));
        assert!(!heads.contains("bert.pooler.dense.bias"));
        assert!(Names::not_starting_with(["bert."]).contains("cls"));
    }

    #[test]
    fn prefixes() {
        assert_eq!(toggle_prefix("bert.pooler", "bert"), "pooler");
        assert_eq!(toggle_prefix("pooler", "bert"), "bert.pooler");
        assert_eq!(toggle_prefix("bertha.a", "bert"), "bert.bertha.a");
    }
}
