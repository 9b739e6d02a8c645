//! What a training came to, in tables.

use std::time::Duration;

use tch::nn::VarStore;
use textbrewer::models::{BertForSequenceClassification, BertInputs};
use textbrewer::{DataLoader, DistillationConfig, Result, TrainingConfig, display_parameters};

use crate::measure::measure;

/// A model in the table.
pub struct Row<'a> {
    pub name: &'a str,
    pub model: &'a BertForSequenceClassification,
    pub variables: &'a VarStore,
    /// How long it was trained.
    pub training: Duration,
}

/// Prints how large, fast and good the models are; the first is the teacher, the second its student.
pub fn compare(rows: &[Row<'_>], examples: &mut dyn DataLoader<Batch = BertInputs>) -> Result<()> {
    println!(
        "{:<19}{:>12}{:>11}{:>10}{:>17}{:>10}",
        "", "parameters", "size", "training", "time per 1,000", "accuracy"
    );
    let mut ratios = Vec::new();
    for row in rows {
        let measured = measure(row.model, examples, row.variables.device())?;
        let root = display_parameters(row.variables, Some(0)).root;
        println!(
            "{:<19}{:>12}{:>8.2} MB{:>8.1} s{:>15.3} s{:>8.1} %",
            row.name,
            grouped(root.count),
            root.megabytes,
            row.training.as_secs_f64(),
            measured.seconds_per_1000,
            measured.accuracy,
        );
        ratios.push((root.count as f64, measured.seconds_per_1000));
    }
    if let [teacher, student, ..] = ratios[..] {
        println!(
            "The student has {:.1} % of the teacher's parameters and is {:.1} times as fast.",
            100.0 * student.0 / teacher.0,
            teacher.1 / student.1
        );
    }
    Ok(())
}

/// The layers of a teacher and a student, and how the student is trained.
pub fn describe(
    [teacher, student]: [&VarStore; 2],
    train_config: &TrainingConfig,
    distill_config: &DistillationConfig,
) {
    println!("Teacher\n{}\n", display_parameters(teacher, Some(3)));
    println!("Student\n{}\n", display_parameters(student, Some(3)));
    println!("TrainingConfig\n{train_config}\n");
    println!("DistillationConfig\n{distill_config}\n");
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}
