//! What the examples on real tasks share: the crate `tasks`, in examples/tasks.

#[path = "parts/bigru.rs"]
mod bigru;
#[path = "parts/byte_offsets.rs"]
mod byte_offsets;
#[path = "parts/classification.rs"]
mod classification;
#[path = "parts/error.rs"]
mod error;
#[path = "parts/metrics_answers.rs"]
mod metrics_answers;
#[path = "parts/metrics_classification.rs"]
mod metrics_classification;
#[path = "parts/metrics_entities.rs"]
mod metrics_entities;
#[path = "parts/metrics_reference.rs"]
mod metrics_reference;
#[path = "parts/pieces/mod.rs"]
mod pieces;
#[path = "parts/reading/mod.rs"]
mod reading;
#[path = "parts/recipe.rs"]
mod recipe;
#[path = "parts/tagging/mod.rs"]
mod tagging;
