//! CMRC 2018: answers to questions about Chinese texts, optionally augmented by DRCD.
//!
//! `cargo run --release --example cmrc2018 -- --help` explains the commands.

use std::process::ExitCode;

use tasks::commands::Example;
use tasks::reading::Reading;

fn main() -> ExitCode {
    let example = Example {
        name: "cmrc2018",
        about: "CMRC 2018: answers to questions about Chinese texts, optionally augmented by DRCD.",
        task: Reading::cmrc2018(),
        recipes: &[
            ("teacher", include_str!("../recipes/cmrc2018/teacher.json")),
            ("labels", include_str!("../recipes/cmrc2018/labels.json")),
            ("distill", include_str!("../recipes/cmrc2018/distill.json")),
            ("emd", include_str!("../recipes/cmrc2018/emd.json")),
        ],
    };
    example.main()
}
