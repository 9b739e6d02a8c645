//! A schedule by its name, with its arguments.

use std::collections::BTreeMap;

/// The arguments of a schedule: `["flsw", 1, 2]` or `["flsw", {"beta": 1, "gamma": 2}]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Arguments {
    /// In the order of the schedule's parameters.
    Positional(Vec<f64>),
    /// By the parameters' names.
    Named(BTreeMap<String, f64>),
}

/// A schedule by its name, with its arguments.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SchedulerSpec {
    /// The registered name.
    pub name: String,
    /// What it is made with.
    pub arguments: Arguments,
}
