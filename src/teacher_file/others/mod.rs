//! What others wrote, as a file of a teacher, and a file of a teacher for others.

mod class_scores;
mod lines;
mod npy;
mod npy_rows;
mod position;
mod problems;
mod source;
mod table;
mod texts;
mod to_jsonl;
mod to_npy;
mod top_k_lines;

pub use class_scores::ClassScores;
pub use npy_rows::NpyRows;
pub use top_k_lines::TopKLines;
