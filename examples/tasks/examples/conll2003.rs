//! CoNLL-2003: names of persons, places, organisations and others in English.
//!
//! `cargo run --release --example conll2003 -- --help` explains the commands.

use std::process::ExitCode;

use tasks::commands::Example;
use tasks::tagging::Tagging;

fn main() -> ExitCode {
    let example = Example {
        name: "conll2003",
        about: "CoNLL-2003: names of persons, places, organisations and others in English.",
        task: Tagging::conll2003(),
        recipes: &[
            ("teacher", include_str!("../recipes/conll2003/teacher.json")),
            ("labels", include_str!("../recipes/conll2003/labels.json")),
            ("distill", include_str!("../recipes/conll2003/distill.json")),
            ("emd", include_str!("../recipes/conll2003/emd.json")),
        ],
    };
    example.main()
}
