//! SQuAD 1.1: answers to questions about English texts.
//!
//! `cargo run --release --example squad -- --help` explains the commands.

use std::process::ExitCode;

use tasks::commands::Example;
use tasks::reading::Reading;

fn main() -> ExitCode {
    let example = Example {
        name: "squad",
        about: "SQuAD 1.1: answers to questions about English texts.",
        task: Reading::squad(),
        recipes: &[
            ("teacher", include_str!("../recipes/squad/teacher.json")),
            ("labels", include_str!("../recipes/squad/labels.json")),
            ("distill", include_str!("../recipes/squad/distill.json")),
            ("emd", include_str!("../recipes/squad/emd.json")),
        ],
    };
    example.main()
}
