//! Starts a program several times on this machine, as `torchrun --standalone --no-python` does,
//! without Python:
//!
//! ```console
//! $ ./cargow build --release --examples
//! $ ./cargow run --release --example launch -- -n 2 --max-restarts 3 PROGRAM ARGUMENTS…
//! ```
//!
//! Each process finds in its environment who it is and where the others are. When one ends badly
//! the others are ended, and all are started again as often as `--max-restarts` says.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use textbrewer::distributed::Launch;

/// Starts a program several times on this machine.
#[derive(Parser)]
struct Options {
    /// How many processes to start.
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..))]
    nproc: u16,
    /// How often to start them all again after one ended badly.
    #[arg(long, default_value_t = 0)]
    max_restarts: u32,
    /// Seconds that the others have to end before they are killed.
    #[arg(long, default_value_t = 30)]
    grace: u64,
    /// CPU threads of each process, as `OMP_NUM_THREADS`; by default that variable, or the cores
    /// of the machine divided by the number of processes.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The port where they find each other; by default a free one.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    let options = Options::parse();
    let mut launch = Launch::new(options.nproc.into())
        .max_restarts(options.max_restarts)
        .grace(Duration::from_secs(options.grace));
    if let Some(threads) = options.threads {
        launch = launch.omp_num_threads(threads.into());
    }
    if let Some(port) = options.port {
        launch = launch.port(port);
    }
    match launch.run(&options.command[0], &options.command[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // In one piece, for its processes write too.
            let message = format!("Error: {error}\n");
            drop(std::io::stderr().write_all(message.as_bytes()));
            ExitCode::FAILURE
        }
    }
}
