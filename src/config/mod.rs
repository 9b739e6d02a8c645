//! Configurations, in TextBrewer's JSON.

mod scheduler_spec;

pub use scheduler_spec::{Arguments, SchedulerSpec};
