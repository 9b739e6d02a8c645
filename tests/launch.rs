//! Processes started by `Launch`, and what becomes of them. They are small programs of the shell;
//! those that wait do so until they are told to end.
#![cfg(unix)]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::example::executable;
use common::tiny::{Net, config, folder, loader, square};
use textbrewer::distributed::Launch;
use textbrewer::{BasicTrainer, Distiller, Error, Result, Sgd, StepInfo};

/// Runs a script in each process, whose `$1` is this folder. One that reads from `$1/end` waits
/// until it is told to end, and at the latest until this process is gone.
fn run(launch: &Launch, script: &str, folder: &Path) -> Result<()> {
    let end = folder.join("end");
    if !end.exists() {
        pipe(&end);
    }
    // Opened for both, it does not wait for another one.
    let _held = File::options().read(true).write(true).open(&end).unwrap();
    let arguments = [
        "-c".as_ref(),
        script.as_ref(),
        "sh".as_ref(),
        folder.as_os_str(),
    ];
    launch.run("sh", arguments)
}

/// The lines of a file that a process wrote.
fn lines(folder: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A pipe by name: who reads from it waits for one who writes.
fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

fn send(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("sh")
        .args(["-c", "kill -$1 $2", "sh", signal, &pid])
        .status();
    assert!(sent.unwrap().success());
}

/// Whether a process of this number is there.
fn exists(pid: &str) -> bool {
    let asked = Command::new("sh")
        .args(["-c", "kill -0 \"$1\" 2>/dev/null", "sh", pid])
        .status();
    asked.unwrap().success()
}

#[test]
fn each_process_learns_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $GROUP_RANK $MASTER_ADDR \
                  $TORCHELASTIC_RESTART_COUNT $TORCHELASTIC_MAX_RESTARTS \
                  $TORCHELASTIC_USE_AGENT_STORE $OMP_NUM_THREADS >\"$1/$RANK\"; \
                  echo $MASTER_PORT $TORCHELASTIC_RUN_ID >\"$1/common$RANK\"";
    let launch = Launch::new(2).max_restarts(4).omp_num_threads(3);
    run(&launch, script, folder.path()).unwrap();
    assert_eq!(
        lines(folder.path(), "0"),
        ["0 2 0 2 0 127.0.0.1 0 4 False 3"]
    );
    assert_eq!(
        lines(folder.path(), "1"),
        ["1 2 1 2 0 127.0.0.1 0 4 False 3"]
    );
    let common = lines(folder.path(), "common0");
    assert_eq!(common, lines(folder.path(), "common1"));
    let (port, run_id) = common[0].split_once(' ').unwrap();
    assert!(port.parse::<u16>().unwrap() > 0 && !run_id.is_empty());
}

#[test]
fn one_that_fails_ends_the_others_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    pipe(&folder.path().join("pipe"));
    let script = r#"
        if [ $RANK = 1 ]; then read go <"$1/pipe"; exit 3; fi
        echo $$ >"$1/pid"
        echo >"$1/pipe"
        read line <"$1/end""#;
    let error = run(&Launch::new(2), script, folder.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "process 1 of 2, running `sh`: was the first to end badly, with status 3; 1 other process was ended"
    );
    assert!(matches!(
        error,
        Error::Distributed {
            rank: 1,
            world_size: 2,
            ..
        }
    ));
    assert!(!exists(&lines(folder.path(), "pid")[0]));
}

#[test]
fn one_that_does_not_end_is_killed_when_the_grace_is_over() {
    let folder = tempfile::tempdir().unwrap();
    pipe(&folder.path().join("pipe"));
    let script = r#"
        if [ $RANK = 0 ]; then read go <"$1/pipe"; exit 1; fi
        trap '' TERM
        echo $$ >"$1/pid"
        echo >"$1/pipe"
        read line <"$1/end""#;
    let launch = Launch::new(2).grace(Duration::ZERO);
    let error = run(&launch, script, folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("1 other process was ended, 1 of them by SIGKILL"),
        "{error}"
    );
    assert!(!exists(&lines(folder.path(), "pid")[0]));
}

#[test]
fn one_ended_by_a_signal_is_named_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"if [ $RANK = 2 ]; then kill -KILL $$; fi; read line <"$1/end""#;
    let error = run(&Launch::new(3), script, folder.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "process 2 of 3, running `sh`: was the first to end badly, by SIGKILL; 2 other processes \
         were ended"
    );
}

#[test]
fn all_are_started_again_as_often_as_asked() {
    let script = r#"
        echo $TORCHELASTIC_RESTART_COUNT $MASTER_PORT $TORCHELASTIC_RUN_ID >>"$1/$RANK"
        [ $RANK = 0 ] || [ $TORCHELASTIC_RESTART_COUNT = 2 ]"#;
    let folder = tempfile::tempdir().unwrap();
    run(&Launch::new(2).max_restarts(2), script, folder.path()).unwrap();
    let starts = lines(folder.path(), "1");
    let column = |at: usize| -> Vec<_> {
        let words = starts.iter().map(|line| line.split(' ').nth(at).unwrap());
        words.collect()
    };
    assert_eq!(column(0), ["0", "1", "2"]);
    assert!(column(2).iter().all(|id| *id == column(2)[0]), "{starts:?}");

    let folder = tempfile::tempdir().unwrap();
    let error = run(&Launch::new(2).max_restarts(1), script, folder.path());
    let error = error.unwrap_err().to_string();
    let start = "process 1 of 2, running `sh` after 1 restart: ";
    assert!(
        error.starts_with(start) && error.contains("with status 1"),
        "{error}"
    );
    assert_eq!(lines(folder.path(), "1").len(), 2);
}

#[test]
fn cores_are_divided_unless_somebody_said_how() {
    let threads = |set: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new(executable("launch"));
        command.env_remove("OMP_NUM_THREADS");
        if let Some(threads) = set {
            command.env("OMP_NUM_THREADS", threads);
        }
        command
            .args(arguments)
            .args(["sh", "-c", "echo $OMP_NUM_THREADS"]);
        let out = command.output().unwrap().stdout;
        String::from_utf8(out).unwrap().trim_end().to_owned()
    };
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(threads(None, &["-n", "1"]), cores.to_string());
    let half = (cores / 2).max(1).to_string();
    assert_eq!(threads(None, &["-n", "2"]), format!("{half}\n{half}"));
    assert_eq!(threads(Some("7"), &["-n", "1"]), "7");
    assert_eq!(threads(Some("7"), &["-n", "1", "--threads", "5"]), "5");
}

/// Set where this binary is run again to launch something and then do something else.
const LATER: &str = "WAIT_AFTER_A_LAUNCH";

#[test]
fn waits_after_a_launch() {
    if std::env::var_os(LATER).is_some() {
        Launch::new(1).run("true", [""; 0]).unwrap();
        println!("\nlaunched");
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
}

#[test]
fn signals_are_the_systems_again_after_a_launch() {
    use std::os::unix::process::ExitStatusExt;

    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "waits_after_a_launch", "--nocapture"])
            .env(LATER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut lines = out.lines().map_while(std::result::Result::ok);
        assert!(lines.any(|line| line == "launched"));
        send(&child, signal);
        // Its input ends after the signal, so that it does not wait where nothing came of it.
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().signal(), Some(number));
    }
}

/// Trains for some steps in a run that handles signals, which a signal ends after the second.
fn train(signal: Option<i32>) -> textbrewer::TrainSummary {
    let folder = folder();
    let student = Net::new(2, 4, 0.25);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap();
    let mut loader = loader(4);
    let raise = move |_: &Net, step: &StepInfo| match signal {
        Some(signal) if step.global_step == 2 => {
            signal_hook::low_level::raise(signal).map_err(Error::other)
        }
        _ => Ok(()),
    };
    let run = trainer.train(&mut loader).steps(4).optimizer(Sgd::new(0.1));
    run.handle_interrupts().after_step(raise).run().unwrap()
}

/// Starts a process that ends well when it is told to end, and has this one told to.
fn told_to_end() {
    // Without the output: whoever reads that learns when this process has ended.
    let script = "exec >/dev/null; trap 'exit 0' TERM; kill -TERM $PPID; while :; do read line || exit 3; done";
    Launch::new(1).run("sh", ["-c", script]).unwrap();
}

/// Runs that get signals, and end by them.
fn told_to_stop() {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let summary = train(Some(signal));
        assert_eq!((summary.interrupted, summary.global_steps), (true, 2));
    }
    assert!(!train(None).interrupted);
}

#[test]
fn a_launch_after_a_run_passes_signals_on() {
    in_a_process("a_launch_after_a_run_passes_signals_on", || {
        assert!(!train(None).interrupted);
        told_to_end();
        told_to_stop();
        told_to_end();
    });
}

#[test]
fn a_run_after_a_launch_handles_signals() {
    in_a_process("a_run_after_a_launch_handles_signals", || {
        Launch::new(1).run("true", [""; 0]).unwrap();
        told_to_stop();
        told_to_end();
        told_to_stop();
    });
}

/// Does the work of a test in a process of its own.
fn in_a_process(test: &str, work: impl FnOnce()) {
    if std::env::var_os(LATER).is_some() {
        work();
        return println!("\nall are listened to");
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(LATER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its input stays open until here, however long it runs.
    let input = child.stdin.take();
    let mut said = String::new();
    let out = child.stdout.take().unwrap();
    BufReader::new(out).read_to_string(&mut said).unwrap();
    drop(input);
    let status = child.wait().unwrap();
    assert!(
        status.success() && said.contains("\nall are listened to\n"),
        "{status} {said}"
    );
}

#[test]
fn what_cannot_be_started_is_named() {
    let no_arguments = [""; 0];
    let error = Launch::new(2).run("./no-such-program", no_arguments);
    let error = error.unwrap_err().to_string();
    let start = "program: `./no-such-program` cannot be started: No such file";
    assert!(
        error.starts_with(start) && !error.contains("its path"),
        "{error}"
    );
    let error = Launch::new(2).run("no-such-program", no_arguments);
    let error = error.unwrap_err().to_string();
    let remedy = "; give its path, such as ./no-such-program";
    assert!(error.ends_with(remedy), "{error}");
    for (launch, field) in [
        (Launch::new(0), "processes"),
        (Launch::new(1).omp_num_threads(0), "omp_num_threads"),
        (Launch::new(1).port(0), "port"),
    ] {
        let error = launch.run("true", no_arguments).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{field}: is 0")), "{error}");
    }
}

/// The example, looking after processes that read from its input until they are told to end.
struct Launcher {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Closed when the test ends, however it does.
    _input: ChildStdin,
}

impl Launcher {
    /// Waits until two processes are ready.
    fn start(script: &str) -> Self {
        let mut child = Command::new(executable("launch"))
            .args(["-n", "2", "--max-restarts", "3", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut launcher = Launcher {
            out: BufReader::new(child.stdout.take().unwrap()),
            _input: child.stdin.take().unwrap(),
            child,
        };
        assert_eq!(launcher.two_lines(), ["ready", "ready"]);
        launcher
    }

    fn two_lines(&mut self) -> [String; 2] {
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            self.out.read_line(line).unwrap();
            line.truncate(line.trim_end().len());
        }
        lines.sort();
        lines
    }

    fn signal(&self, signal: &str) {
        send(&self.child, signal);
    }

    /// Its exit code, and what it wrote to standard error.
    fn finish(mut self) -> (Option<i32>, String) {
        let mut err = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), err)
    }
}

#[test]
fn signals_are_passed_on_and_the_processes_may_end_well() {
    for signal in ["TERM", "INT"] {
        let script = "trap 'echo saved $RANK; exit 0' TERM; echo ready; read line";
        let mut launcher = Launcher::start(script);
        launcher.signal(signal);
        assert_eq!(launcher.two_lines(), ["saved 0", "saved 1"]);
        assert_eq!(launcher.finish(), (Some(0), String::new()));
    }
}

#[test]
fn nothing_is_started_again_after_a_signal() {
    let launcher = Launcher::start("echo ready; read line");
    launcher.signal("TERM");
    let (code, err) = launcher.finish();
    assert_eq!(code, Some(1));
    let end = "by SIGTERM after SIGTERM to the process that started it";
    assert!(
        err.starts_with("Error: process ") && err.contains(end),
        "{err}"
    );
}

#[test]
fn a_second_ctrl_c_kills() {
    // `read` fails at a signal, and at the end of the input, when nobody listens any more.
    let script = "trap 'told=1; echo told' TERM; echo ready; \
                  while told=0; read line || [ $told = 1 ]; do :; done";
    let mut launcher = Launcher::start(script);
    launcher.signal("INT");
    assert_eq!(launcher.two_lines(), ["told", "told"]);
    // What a batch system sends twice is no second thought.
    launcher.signal("TERM");
    assert_eq!(launcher.two_lines(), ["told", "told"]);
    launcher.signal("INT");
    let (code, err) = launcher.finish();
    assert_eq!(code, Some(1));
    let end = "by SIGKILL after SIGINT to the process that started it";
    assert!(err.contains(end), "{err}");
}
