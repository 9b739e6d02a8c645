//! Files that others wrote, as files of a teacher, and the way back.

#[path = "teacher_file_others_cases/class_scores.rs"]
mod class_scores;
#[path = "teacher_file_others_cases/npy.rs"]
mod npy;
#[path = "teacher_file_others_cases/top_k_lines.rs"]
mod top_k_lines;
