//! The executables of the examples.

use std::path::PathBuf;
use std::process::Command;

/// The executable of an example: Cargo puts them beside the folder that the test is in.
pub fn executable(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let name = format!("{example}{}", std::env::consts::EXE_SUFFIX);
    let path = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not there: run `cargo build --example {example}` (with the test's profile) or a \
         whole `cargo test`, which builds it",
        path.display()
    );
    path
}

/// What a run of an example came to.
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs an example to its end.
pub fn finish(mut command: Command) -> Finished {
    // Several threads for so little would only wait for each other.
    command.env("OMP_NUM_THREADS", "1");
    let output = command.output().unwrap();
    Finished {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
