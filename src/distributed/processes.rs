//! Processes that live and end together.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::signal_name;

use crate::error::{Error, Result};
use crate::signals::{Listening, Told};

/// Something that the supervisor waits for.
enum Event {
    /// The process of this rank has ended; its number is still its own.
    Ended(usize),
    /// This process got Ctrl-C or SIGTERM.
    Signal(i32),
}

/// Starts processes, and sees to it that none is left when one has failed.
pub(super) struct Supervisor {
    sender: Sender<Event>,
    events: Receiver<Event>,
    grace: Duration,
    /// The newest signal that this process got.
    signal: Option<i32>,
    _signals: Listening<Told>,
}

/// How all processes have ended.
pub(super) enum Ended {
    Well,
    Badly(Failure),
}

/// How the first one ended badly, and what came of the others.
pub(super) struct Failure {
    pub(super) rank: usize,
    status: ExitStatus,
    /// The others that were told to end.
    told: usize,
    /// Those of them that had to be killed.
    killed: usize,
    /// What this process had been told before.
    pub(super) signal: Option<i32>,
}

impl Supervisor {
    pub(super) fn begin(grace: Duration) -> Result<Self> {
        let (sender, events) = channel();
        let to_self = sender.clone();
        let tell = move |signal| drop(to_self.send(Event::Signal(signal)));
        let signals = Listening::begin(|| Told::begin(tell)).map_err(|error| {
            Error::config(
                "Launch",
                format!("Ctrl-C and SIGTERM cannot be handled: {error}"),
            )
        })?;
        Ok(Supervisor {
            sender,
            events,
            grace,
            signal: None,
            _signals: signals,
        })
    }

    /// Starts them all and waits until all have ended.
    pub(super) fn run(&mut self, commands: Vec<Command>) -> Result<Ended> {
        let mut processes = Processes::default();
        for command in commands {
            processes.start(command, &self.sender)?;
        }
        let mut failure: Option<Failure> = None;
        let mut kill_at: Option<Instant> = None;
        while processes.running() > 0 {
            match self.next(kill_at) {
                Some(Event::Ended(rank)) => {
                    let status = processes.reap(rank)?;
                    if !status.success() && failure.is_none() {
                        failure = Some(Failure {
                            rank,
                            status,
                            told: processes.running(),
                            killed: 0,
                            signal: self.signal,
                        });
                        processes.signal(Signal::TERM);
                        // A grace without an end is a long one.
                        kill_at = Instant::now().checked_add(self.grace);
                    }
                }
                Some(Event::Signal(signal)) => match self.signal.replace(signal) {
                    // Not another SIGTERM: who sends it may do so twice, to the group and to each.
                    Some(_) if signal == SIGINT => processes.signal(Signal::KILL),
                    // Ctrl-C in a terminal reaches the processes as well. Another SIGINT would
                    // end their runs without a checkpoint, and SIGTERM does not.
                    _ => processes.signal(Signal::TERM),
                },
                None => {
                    kill_at = None;
                    if let Some(failure) = &mut failure {
                        failure.killed = processes.running();
                    }
                    processes.signal(Signal::KILL);
                }
            }
        }
        Ok(match failure {
            None => Ended::Well,
            Some(mut failure) => {
                failure.signal = failure.signal.or_else(|| self.signal_since());
                Ended::Badly(failure)
            }
        })
    }

    /// The next event; `None` when the time has come.
    fn next(&self, end: Option<Instant>) -> Option<Event> {
        let Some(end) = end else {
            // It cannot fail: this holds a sender.
            return self.events.recv().ok();
        };
        let left = end.saturating_duration_since(Instant::now());
        self.events.recv_timeout(left).ok()
    }

    /// A signal that came while the last processes ended: nothing is started after it.
    fn signal_since(&mut self) -> Option<i32> {
        for event in self.events.try_iter() {
            if let Event::Signal(signal) = event {
                self.signal = Some(signal);
            }
        }
        self.signal
    }
}

/// Processes by rank. When this is dropped they are killed.
#[derive(Default)]
struct Processes(Vec<(Child, Option<ExitStatus>)>);

impl Processes {
    /// Starts the next one, with a thread that tells when it ends.
    fn start(&mut self, mut command: Command, sender: &Sender<Event>) -> Result<()> {
        let child = command.spawn().map_err(|error| {
            let program = Path::new(command.get_program());
            let remedy = match error.kind() == io::ErrorKind::NotFound
                && program.components().count() == 1
            {
                true => format!("; give its path, such as ./{}", program.display()),
                false => String::new(),
            };
            let program = program.display();
            Error::config(
                "program",
                format!("`{program}` cannot be started: {error}{remedy}"),
            )
        })?;
        let (rank, pid) = (self.0.len(), pid(&child));
        self.0.push((child, None));
        let sender = sender.clone();
        let wait = move || {
            wait_without_reaping(pid);
            drop(sender.send(Event::Ended(rank)));
        };
        let waiting = thread::Builder::new().name(format!("textbrewer-rank-{rank}"));
        waiting.spawn(wait).map(drop).map_err(|error| {
            Error::config(
                "processes",
                format!("no thread to wait for process {rank}: {error}"),
            )
        })
    }

    fn running(&self) -> usize {
        let running = self.0.iter().filter(|(_, status)| status.is_none());
        running.count()
    }

    /// Takes the status of one that has ended.
    fn reap(&mut self, rank: usize) -> Result<ExitStatus> {
        let (child, status) = &mut self.0[rank];
        let ended = child.wait().map_err(|error| {
            Error::config(
                "processes",
                format!("the status of process {rank} is lost: {error}"),
            )
        })?;
        *status = Some(ended);
        Ok(ended)
    }

    /// To all that have not been reaped, so that their numbers cannot be another's.
    fn signal(&self, signal: Signal) {
        for (child, status) in &self.0 {
            if status.is_none()
                && let Some(pid) = pid(child)
            {
                // It fails only for one that changed its user, which cannot be helped.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        for (child, status) in &mut self.0 {
            if status.is_none() {
                let _ = child.wait();
            }
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Returns when the process has ended, and leaves its status and its number for `reap`.
fn wait_without_reaping(pid: Option<Pid>) {
    if let Some(pid) = pid {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(error) = waitid(WaitId::Pid(pid), options)
            && io::Error::from(error).kind() == io::ErrorKind::Interrupted
        {}
    }
}

/// `was the first to end badly, with status 3; 1 other process was ended`. The first need not be
/// the cause: another one may have failed and told it so before it ended itself.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status.code(), self.status.signal()) {
            _ if self.told > 0 => f.write_str("was the first to end badly, ")?,
            (None, Some(_)) => f.write_str("was ended ")?,
            _ => f.write_str("ended ")?,
        }
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "with status {code}")?,
            (None, Some(signal)) => write!(f, "by {}", name(signal))?,
            (None, None) => write!(f, "with {}", self.status)?,
        }
        if let Some(signal) = self.signal {
            write!(f, " after {} to the process that started it", name(signal))?;
        }
        match self.told {
            0 => {}
            1 => write!(f, "; 1 other process was ended")?,
            told => write!(f, "; {told} other processes were ended")?,
        }
        match self.killed {
            0 => Ok(()),
            killed => write!(f, ", {killed} of them by SIGKILL when the grace was over"),
        }
    }
}

fn name(signal: i32) -> String {
    match signal_name(signal) {
        Some(name) => name.to_owned(),
        None => format!("signal {signal}"),
    }
}
