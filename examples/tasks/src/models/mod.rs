//! The models of the tasks: teachers and students.

mod bigru;
mod labels;
mod network;
mod shape;

pub use bigru::{BiGru, BiGruConfig};
pub use network::{Model, Network};
pub use shape::Shape;
