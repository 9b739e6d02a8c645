//! What the examples on real tasks share: the crate `tasks`, in examples/tasks.

#[path = "tasks/reading/mod.rs"]
mod reading;
