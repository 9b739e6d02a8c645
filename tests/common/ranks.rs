//! A test that runs in several processes: the test binary starts itself once for each.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tch::Device;
use tempfile::TempDir;

use super::tiny::folder;
use textbrewer::distributed::{ProcessGroup, Rendezvous};

/// Names the folder of a test to its processes, in which they leave what they have found.
const FOLDER: &str = "TEXTBREWER_TEST_FOLDER";

/// A port that nobody has.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The folder of the test that this process was started for; none in the test itself.
pub fn child_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// One of the processes of a test, which runs the test of this name, and nothing else, again.
pub fn start(test: &str, folder: &Path, variables: &[(&str, String)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("OMP_NUM_THREADS", "1")
        .env(FOLDER, folder)
        .envs(
            variables
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Variables as torchrun sets them.
pub fn variables(rank: usize, world_size: usize, port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("RANK", rank.to_string()),
        ("LOCAL_RANK", rank.to_string()),
        ("WORLD_SIZE", world_size.to_string()),
        ("MASTER_ADDR", "127.0.0.1".to_owned()),
        ("MASTER_PORT", port.to_string()),
    ]
}

/// The group of a process that was started with [`variables`], on the CPU and quick to give up.
pub fn group() -> ProcessGroup {
    let number = |name| std::env::var(name).unwrap().parse().unwrap();
    let rendezvous = Rendezvous::new(number("RANK"), number("WORLD_SIZE"))
        .address("127.0.0.1", number("MASTER_PORT") as u16)
        .device(Device::Cpu)
        .timeout(Duration::from_secs(60));
    ProcessGroup::new(&rendezvous).unwrap()
}

/// Runs `work` in so many processes that have a group, and returns the folder where they left what
/// they found. In the processes themselves it returns none, and the test is to end.
pub fn in_processes(
    test: &str,
    world_size: usize,
    work: impl FnOnce(&ProcessGroup, &Path),
) -> Option<TempDir> {
    if let Some(folder) = child_folder() {
        work(&group(), &folder);
        return None;
    }
    let folder = folder();
    start_all(test, world_size, folder.path());
    Some(folder)
}

/// Runs the test of this name in so many processes with this folder, where what each of them said
/// is left as `said0` and so on.
pub fn start_all(test: &str, world_size: usize, folder: &Path) {
    let port = free_port();
    let children: Vec<_> = (0..world_size)
        .map(|rank| start(test, folder, &variables(rank, world_size, port)))
        .collect();
    let outputs = outputs(children);
    // A test of another name would be left out, and succeed.
    let has_run = |output: &Output| output.status.success() && said(output).contains("1 passed");
    if !outputs.iter().all(has_run) {
        // All of them: who fails first makes the others fail too.
        let all = outputs.iter().enumerate();
        let all = all.map(|(rank, output)| format!("process {rank}:\n{}", said(output)));
        panic!("{}", all.collect::<String>());
    }
    for (rank, output) in outputs.iter().enumerate() {
        std::fs::write(folder.join(format!("said{rank}")), said(output)).unwrap();
    }
}

/// Waits for all of them.
pub fn outputs(children: Vec<Child>) -> Vec<Output> {
    let waiting = children
        .into_iter()
        .map(|child| std::thread::spawn(|| child.wait_with_output().unwrap()));
    let waiting: Vec<_> = waiting.collect();
    waiting.into_iter().map(|one| one.join().unwrap()).collect()
}

/// What a process wrote.
pub fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
