//! SST-2: whether a sentence of a film review is positive or negative.
//!
//! `cargo run --release --example sst2 -- --help` explains the commands.

use std::process::ExitCode;

use tasks::classification::Classification;
use tasks::commands::Example;

fn main() -> ExitCode {
    let example = Example {
        name: "sst2",
        about: "SST-2: whether a sentence of a film review is positive or negative.",
        task: Classification::sst2(),
        recipes: &[
            ("teacher", include_str!("../recipes/sst2/teacher.json")),
            ("labels", include_str!("../recipes/sst2/labels.json")),
            ("distill", include_str!("../recipes/sst2/distill.json")),
            ("emd", include_str!("../recipes/sst2/emd.json")),
        ],
    };
    example.main()
}
