//! What differs between the descriptions of two runs.

/// Something that is not the same in two runs, and what it is in each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// For example `config.seed`.
    what: String,
    one: Side,
    other: Side,
}

/// What one of the two runs has.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Side {
    /// None where there is nothing.
    pub(super) value: Option<String>,
    /// What stands behind the name of the run.
    pub(super) more: String,
}

impl Difference {
    pub(crate) fn new(what: impl Into<String>, one: String, other: String) -> Self {
        let side = |value| Side {
            value: Some(value),
            more: String::new(),
        };
        Difference::of_sides(what, side(one), side(other))
    }

    pub(super) fn of_sides(what: impl Into<String>, one: Side, other: Side) -> Self {
        Difference {
            what: what.into(),
            one,
            other,
        }
    }

    /// The difference in words; the runs are, for example, `in the checkpoint` and `now`.
    pub(crate) fn between(&self, one: &str, other: &str) -> String {
        let first = match &self.one.value {
            Some(value) => format!("{value} {one}{}", self.one.more),
            None => format!("not {one}"),
        };
        let second = match &self.other.value {
            Some(value) => format!("{value} {other}{}", self.other.more),
            None => format!("missing {other}"),
        };
        format!("{}: {first}, {second}", self.what)
    }
}
