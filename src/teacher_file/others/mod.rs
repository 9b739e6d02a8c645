//! What others wrote, as a file of a teacher, and a file of a teacher for others.

mod class_scores;
mod lines;
mod position;
mod problems;
mod source;
mod table;
mod texts;
mod top_k_lines;

pub use class_scores::ClassScores;
pub use top_k_lines::TopKLines;
