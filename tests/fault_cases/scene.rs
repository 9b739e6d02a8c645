//! Processes that are started alike, and what each of them came to.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tch::Device;
use tempfile::TempDir;
use textbrewer::Result;
use textbrewer::distributed::{ProcessGroup, Rendezvous};

use crate::common::ranks::{child_folder, free_port, outputs, start, variables};

/// Where a process writes what it came to.
const TOLD: &str = "TEXTBREWER_TEST_TOLD";
/// How many seconds its operations wait.
const SECONDS: &str = "TEXTBREWER_TEST_SECONDS";

/// What a process came to.
#[derive(Debug)]
pub struct Told {
    /// What its work returned, or its error.
    pub text: String,
    /// What it wrote to standard error.
    pub err: String,
    /// The message in its `TORCHELASTIC_ERROR_FILE`.
    pub error_file: Option<String>,
    pub status: std::process::ExitStatus,
}

/// Processes of a test.
pub struct Scene {
    pub folder: TempDir,
    pub port: u16,
    test: &'static str,
    children: Vec<Child>,
}

impl Scene {
    pub fn new(test: &'static str) -> Self {
        Scene {
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            test,
            children: Vec::new(),
        }
    }

    /// Starts one more, with variables beside those of a rank.
    pub fn start(
        &mut self,
        rank: usize,
        world_size: usize,
        seconds: u64,
        more: &[(&'static str, &str)],
    ) {
        let mut variables = variables(rank, world_size, self.port);
        let place = |name: &str| {
            let file = format!("{name}{}", self.children.len());
            self.folder.path().join(file).display().to_string()
        };
        variables.push((TOLD, place("told")));
        variables.push(("TORCHELASTIC_ERROR_FILE", place("error")));
        variables.push((SECONDS, seconds.to_string()));
        variables.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        let child = start(self.test, self.folder.path(), &variables);
        self.children.push(child);
    }

    /// Waits for all of them, and looks at something in the folder before it is removed.
    pub fn end_with<T>(mut self, look: impl FnOnce() -> T) -> (Vec<Told>, T) {
        let read = |name: &str, index: usize| {
            std::fs::read_to_string(self.folder.path().join(format!("{name}{index}"))).ok()
        };
        let ended = outputs(std::mem::take(&mut self.children))
            .into_iter()
            .enumerate();
        let told = ended.map(|(index, output)| {
            let error_file = read("error", index).map(|text| {
                let json: serde_json::Value = serde_json::from_str(&text).unwrap();
                json["message"]["message"].as_str().unwrap().to_owned()
            });
            let told = Told {
                text: read("told", index).unwrap_or_default(),
                err: String::from_utf8_lossy(&output.stderr).into_owned(),
                error_file,
                status: output.status,
            };
            if std::env::var_os("SHOW").is_some() {
                eprintln!("{index}: {told:#?}");
            }
            told
        });
        let told = told.collect();
        (told, look())
    }

    /// Waits for all of them.
    pub fn end(self) -> Vec<Told> {
        self.end_with(|| ()).0
    }
}

/// What this process, which was started for a test, is to do: who it is, and the test's folder.
/// None in the test itself.
pub fn child() -> Option<(Rendezvous, PathBuf)> {
    let folder = child_folder()?;
    let seconds = std::env::var(SECONDS).unwrap().parse().unwrap();
    let rendezvous = Rendezvous::from_env()
        .unwrap()
        .device(Device::Cpu)
        .timeout(Duration::from_secs(seconds));
    Some((rendezvous, folder))
}

/// Leaves what this process came to.
pub fn tell(result: Result<String>) {
    let text = result.unwrap_or_else(|error| error.to_string());
    std::fs::write(std::env::var_os(TOLD).unwrap(), text).unwrap();
}

/// What each of so many processes comes to that do `work` with a group. None in the processes.
pub fn in_group(
    test: &'static str,
    world_size: usize,
    seconds: u64,
    work: impl FnOnce(&ProcessGroup, &Path) -> Result<String>,
) -> Option<Vec<Told>> {
    if let Some((rendezvous, folder)) = child() {
        tell(ProcessGroup::new(&rendezvous).and_then(|group| work(&group, &folder)));
        return None;
    }
    let mut scene = Scene::new(test);
    for rank in 0..world_size {
        scene.start(rank, world_size, seconds, &[]);
    }
    Some(scene.end())
}
