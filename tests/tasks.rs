//! What the examples on real tasks share: the crate `tasks`, in examples/tasks.

#[path = "tasks/bigru.rs"]
mod bigru;
#[path = "tasks/classification.rs"]
mod classification;
#[path = "tasks/error.rs"]
mod error;
#[path = "tasks/metrics_answers.rs"]
mod metrics_answers;
#[path = "tasks/metrics_classification.rs"]
mod metrics_classification;
#[path = "tasks/metrics_entities.rs"]
mod metrics_entities;
#[path = "tasks/metrics_reference.rs"]
mod metrics_reference;
#[path = "tasks/reading/mod.rs"]
mod reading;
#[path = "tasks/recipe.rs"]
mod recipe;
#[path = "tasks/tagging/mod.rs"]
mod tagging;
