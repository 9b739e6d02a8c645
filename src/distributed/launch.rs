//! Starting the processes of one machine.

use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

/// Starts a program several times on this machine, as `torchrun --standalone --no-python` does,
/// without Python.
///
/// Each process is told who it is by the variables that
/// [`Rendezvous::from_env`](super::Rendezvous::from_env) reads. If one ends badly, the others get
/// SIGTERM, and SIGKILL if they are still there after a while; then all are started again, as
/// often as [`max_restarts`](Self::max_restarts) says, and
/// [`resume_or_start`](crate::Run::resume_or_start) lets them go on from the newest checkpoint.
///
/// ```
/// use textbrewer::distributed::Launch;
///
/// # #[cfg(unix)]
/// Launch::new(2).run("sh", ["-c", "test $WORLD_SIZE = 2"])?;
/// # textbrewer::Result::Ok(())
/// ```
///
/// A program can start itself; its arguments reach all processes:
///
/// ```no_run
/// use textbrewer::distributed::Launch;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     if std::env::var_os("RANK").is_none() {
///         let arguments = std::env::args_os().skip(1);
///         return Ok(Launch::new(2).run(std::env::current_exe()?, arguments)?);
///     }
///     // Train.
///     Ok(())
/// }
/// ```
///
/// # Signals
/// Ctrl-C and SIGTERM are passed on as SIGTERM, at which a run with
/// [`handle_interrupts`](crate::Run::handle_interrupts) saves and ends; nothing is started again.
/// A second Ctrl-C kills all processes. While they run, the process that started them should not
/// train itself. If it is killed, they go on without it. Processes that the program starts itself are
/// not looked after: a script that ends with the training should `exec` it.
#[derive(Debug, Clone)]
pub struct Launch {
    processes: usize,
    max_restarts: u32,
    grace: Duration,
    omp_num_threads: Option<usize>,
    port: Option<u16>,
}

impl Launch {
    /// This many processes.
    pub fn new(processes: usize) -> Self {
        Launch {
            processes,
            max_restarts: 0,
            grace: Duration::from_secs(30),
            omp_num_threads: None,
            port: None,
        }
    }

    /// How often all processes are started again after one ended badly. Never by default.
    #[must_use]
    pub fn max_restarts(mut self, max_restarts: u32) -> Self {
        self.max_restarts = max_restarts;
        self
    }

    /// How long the other processes have to end after SIGTERM before they are killed: 30 seconds
    /// unless said otherwise. After Ctrl-C or SIGTERM they have all the time they need.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The CPU threads of each process, `OMP_NUM_THREADS`. By default the cores of the machine
    /// are divided among the processes, unless the variable is set already.
    #[must_use]
    pub fn omp_num_threads(mut self, threads: usize) -> Self {
        self.omp_num_threads = Some(threads);
        self
    }

    /// The port at which the processes find each other, `MASTER_PORT`. By default a free one,
    /// and another at each restart.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts the program and waits until all its processes have ended well. They have the
    /// environment, the folder, the input and the output of this one.
    ///
    /// # Errors
    /// - [`Error::Config`] if the program cannot be started, or no process is asked for.
    /// - [`Error::Distributed`] names the process that ended badly, by a status other than 0 or by
    ///   a signal, when no restart is left or this process was told to end.
    /// - [`Error::Unsupported`] on systems other than Unix.
    pub fn run(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<()> {
        for (field, value) in [
            ("processes", Some(self.processes)),
            ("omp_num_threads", self.omp_num_threads),
            ("port", self.port.map(usize::from)),
        ] {
            if value == Some(0) {
                return Err(Error::config(field, "is 0: it has to be 1 or more"));
            }
        }
        let args: Vec<_> = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        self.run_all(|| {
            let mut command = Command::new(program.as_ref());
            command.args(&args);
            command
        })
    }

    #[cfg(unix)]
    fn run_all(&self, command: impl Fn() -> Command) -> Result<()> {
        use super::processes::{Ended, Supervisor};
        use crate::logging::warn;

        let program = command().get_program().to_owned();
        let mut supervisor = Supervisor::begin(self.grace)?;
        let run_id = run_id();
        let mut restarts = 0;
        loop {
            let commands = self.commands(&command, restarts, &run_id)?;
            let failure = match supervisor.run(commands)? {
                Ended::Well => return Ok(()),
                Ended::Badly(failure) => failure,
            };
            if restarts == self.max_restarts || failure.signal.is_some() {
                let after = match restarts {
                    0 => String::new(),
                    1 => " after 1 restart".to_owned(),
                    _ => format!(" after {restarts} restarts"),
                };
                return Err(Error::Distributed {
                    rank: failure.rank,
                    world_size: self.processes,
                    operation: format!("running `{}`{after}", Path::new(&program).display()),
                    reason: failure.to_string(),
                });
            }
            restarts += 1;
            warn(format_args!(
                "process {} of {} {failure}. All are started again, restart {restarts} of {}",
                failure.rank, self.processes, self.max_restarts
            ));
        }
    }

    #[cfg(not(unix))]
    fn run_all(&self, _: impl Fn() -> Command) -> Result<()> {
        Err(Error::Unsupported {
            feature: "starting processes on this system".to_owned(),
            remedy: "start them yourself, each with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
                .to_owned(),
        })
    }

    /// One command for each process, with the variables that torchrun sets.
    #[cfg_attr(not(unix), allow(dead_code))]
    fn commands(
        &self,
        command: impl Fn() -> Command,
        restarts: u32,
        run_id: &str,
    ) -> Result<Vec<Command>> {
        let port = match self.port {
            Some(port) => port,
            None => free_port()?,
        };
        let threads = self.threads();
        let of_rank = |rank: usize| {
            let mut command = command();
            let mut set = |name: &str, value: &dyn fmt::Display| {
                command.env(name, value.to_string());
            };
            set("RANK", &rank);
            set("WORLD_SIZE", &self.processes);
            set("LOCAL_RANK", &rank);
            set("LOCAL_WORLD_SIZE", &self.processes);
            set("GROUP_RANK", &0);
            set("GROUP_WORLD_SIZE", &1);
            set("MASTER_ADDR", &Ipv4Addr::LOCALHOST);
            set("MASTER_PORT", &port);
            set("TORCHELASTIC_RESTART_COUNT", &restarts);
            set("TORCHELASTIC_MAX_RESTARTS", &self.max_restarts);
            set("TORCHELASTIC_RUN_ID", &run_id);
            // A torchrun that started this process serves a store of its own.
            set("TORCHELASTIC_USE_AGENT_STORE", &"False");
            if let Some(threads) = threads {
                set("OMP_NUM_THREADS", &threads);
            }
            command
        };
        Ok((0..self.processes).map(of_rank).collect())
    }

    /// `None` leaves the variable as it is.
    fn threads(&self) -> Option<usize> {
        match self.omp_num_threads {
            None if std::env::var_os("OMP_NUM_THREADS").is_some_and(|set| !set.is_empty()) => None,
            None => {
                let cores = thread::available_parallelism().map_or(1, usize::from);
                Some((cores / self.processes).max(1))
            }
            given => given,
        }
    }
}

/// What tells this launch from others on the machine.
#[cfg_attr(not(unix), allow(dead_code))]
fn run_id() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = now.map_or(0, |since| since.as_nanos());
    format!("{:x}-{nanoseconds:x}", std::process::id())
}

/// Nobody keeps it free until rank 0 listens there; the system hands others out first.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| {
        Error::config(
            "port",
            format!("no free one on 127.0.0.1: {error}; name one"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_port_of_its_own_unless_one_is_named() {
        let port = |launch: &Launch| {
            let commands = launch
                .commands(|| Command::new("program"), 0, "run")
                .unwrap();
            let ports = commands.iter().map(|command| {
                let found = command.get_envs().find(|(name, _)| *name == "MASTER_PORT");
                found.unwrap().1.unwrap().to_owned()
            });
            let ports: Vec<_> = ports.collect();
            assert_eq!(ports[0], ports[1]);
            ports[0].clone()
        };
        let launch = Launch::new(2);
        let first: u16 = port(&launch).to_str().unwrap().parse().unwrap();
        assert!(first > 0);
        assert_eq!(port(&launch.port(29500)), "29500");
    }
}
