//! What others wrote, as a file of a teacher, and a file of a teacher for others.

mod class_scores;
mod lines;
mod problems;
mod source;
mod table;
mod texts;

pub use class_scores::ClassScores;
