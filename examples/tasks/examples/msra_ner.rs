//! MSRA: names of persons, places and organisations in Chinese.
//!
//! `cargo run --release --example msra_ner -- --help` explains the commands.

use std::process::ExitCode;

use tasks::commands::Example;
use tasks::tagging::Tagging;

fn main() -> ExitCode {
    let example = Example {
        name: "msra_ner",
        about: "MSRA: names of persons, places and organisations in Chinese.",
        task: Tagging::msra_ner(),
        recipes: &[
            ("teacher", include_str!("../recipes/msra_ner/teacher.json")),
            ("labels", include_str!("../recipes/msra_ner/labels.json")),
            ("distill", include_str!("../recipes/msra_ner/distill.json")),
            ("emd", include_str!("../recipes/msra_ner/emd.json")),
        ],
    };
    example.main()
}
