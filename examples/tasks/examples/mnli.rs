//! MNLI: whether one sentence entails another.
//!
//! `cargo run --release --example mnli -- --help` explains the commands.

use std::process::ExitCode;

use tasks::classification::Classification;
use tasks::commands::Example;

fn main() -> ExitCode {
    let example = Example {
        name: "mnli",
        about: "MNLI: whether one sentence entails another.",
        task: Classification::mnli(),
        recipes: &[
            ("teacher", include_str!("../recipes/mnli/teacher.json")),
            ("labels", include_str!("../recipes/mnli/labels.json")),
            ("distill", include_str!("../recipes/mnli/distill.json")),
            ("emd", include_str!("../recipes/mnli/emd.json")),
        ],
    };
    example.main()
}
