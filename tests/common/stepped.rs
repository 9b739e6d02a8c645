//! A process that says what it is about to do, and waits for a line before it does it.

use std::io::BufReader;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Process {
    pub child: Child,
    pub input: ChildStdin,
    pub output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it, with one thread of libtorch.
    pub fn spawn(command: &mut Command) -> Self {
        let command = command.env("OMP_NUM_THREADS", "1");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Process {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }
}
