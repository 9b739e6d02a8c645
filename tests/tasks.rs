//! What the examples on real tasks share: the crate `tasks`, in examples/tasks.

#[path = "tasks/tagging/mod.rs"]
mod tagging;
