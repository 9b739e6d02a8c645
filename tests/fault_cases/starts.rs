//! However the processes are started, and started again, they come to the same bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use textbrewer::distributed::Launch;

use crate::common::example::executable;
use crate::common::ranks::{free_port, variables};
use crate::common::tiny::{files, folder};

type Files = BTreeMap<String, Vec<u8>>;

fn bytes(folder: &Path) -> Files {
    let read = |name: String| (name.clone(), std::fs::read(folder.join(name)).unwrap());
    files(folder).into_iter().map(read).collect()
}

/// What two processes come to that are started with these variables.
fn by_hand(variables: impl Fn(usize) -> Vec<(&'static str, String)>) -> Files {
    let folder = folder();
    let start = |rank| {
        Command::new(executable("resume"))
            .env("OMP_NUM_THREADS", "1")
            .arg("--output-dir")
            .arg(folder.path())
            .envs(variables(rank))
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..2).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    bytes(folder.path())
}

#[test]
fn all_ways_to_start_come_to_the_same() {
    let port = free_port();
    let expected = by_hand(|rank| variables(rank, 2, port));
    assert!(expected.len() > 1);

    let port = free_port();
    let slurm = |rank: usize| {
        vec![
            ("SLURM_PROCID", rank.to_string()),
            ("SLURM_NTASKS", "2".to_owned()),
            ("SLURM_STEP_NUM_TASKS", "2".to_owned()),
            ("SLURM_STEP_ID", "0".to_owned()),
            ("SLURM_LOCALID", rank.to_string()),
            ("MASTER_ADDR", "127.0.0.1".to_owned()),
            ("MASTER_PORT", port.to_string()),
        ]
    };
    assert!(by_hand(slurm) == expected);

    let launch = Launch::new(2).omp_num_threads(1);
    let launched = folder();
    let output = ["--output-dir".as_ref(), launched.path().as_os_str()];
    launch.run(executable("resume"), output).unwrap();
    assert!(bytes(launched.path()) == expected);

    // One is killed in its first life.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dies_once.sh");
    let restarted = folder();
    let arguments = [executable("resume"), restarted.path().to_owned()];
    let error = launch.run(&script, arguments).unwrap_err().to_string();
    assert!(
        error.contains("process 0 of 2")
            && error.ends_with("the first to end badly, by SIGKILL; 1 other process was ended"),
        "{error}"
    );
    assert!(bytes(restarted.path()) != expected);
    // With a restart they go on from what was saved.
    let restarted = folder();
    let arguments = [executable("resume"), restarted.path().to_owned()];
    launch.max_restarts(1).run(&script, arguments).unwrap();
    assert!(bytes(restarted.path()) == expected);
}
