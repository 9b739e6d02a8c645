//! Variables of all who start processes.

use super::*;

/// The environment of these words, `NAME=value` each.
fn of(words: &str) -> Result<Option<Environment>> {
    let variables: Vec<_> = words
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .collect();
    read(|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn found(words: &str) -> Environment {
    of(words).unwrap().unwrap()
}

/// Rank, world size and local rank.
fn ranks(words: &str) -> (usize, usize, usize) {
    let found = found(&format!("MASTER_ADDR=node1 MASTER_PORT=29500 {words}"));
    assert_eq!(found.address, Some(("node1".to_owned(), 29500)));
    (found.rank, found.world_size, found.local_rank)
}

const BATCH: &str = "SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=4";

#[test]
fn each_starter_is_understood() {
    for (words, expected) in [
        ("RANK=3 WORLD_SIZE=4 LOCAL_RANK=1", (3, 4, 1)),
        ("RANK=3 WORLD_SIZE=4", (3, 4, 0)),
        (
            "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3 OMPI_COMM_WORLD_LOCAL_RANK=1",
            (2, 3, 1),
        ),
        ("PMI_RANK=2 PMI_SIZE=3 MPI_LOCALRANKID=1", (2, 3, 1)),
        ("PMI_RANK=2 PMI_SIZE=3 SLURM_LOCALID=1", (2, 3, 1)),
        ("PMI_RANK=2 PMI_SIZE=3 LOCAL_RANK=1", (2, 3, 1)),
        (
            "MV2_COMM_WORLD_RANK=2 MV2_COMM_WORLD_SIZE=3 MV2_COMM_WORLD_LOCAL_RANK=1",
            (2, 3, 1),
        ),
        (
            "SLURM_PROCID=2 SLURM_NTASKS=3 SLURM_LOCALID=1 SLURM_STEP_ID=0",
            (2, 3, 1),
        ),
        // `srun -n 2` in a job of 4 tasks that keeps the job's variables.
        (
            "SLURM_PROCID=1 SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=1 \
             SLURM_STEPID=12",
            (1, 2, 1),
        ),
    ] {
        assert_eq!(ranks(words), expected, "{words}");
    }
}

#[test]
fn the_closest_starter_counts() {
    let mpi = "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1";
    let torchrun = "RANK=3 WORLD_SIZE=4 LOCAL_RANK=3";
    let step = format!("{BATCH} SLURM_STEP_ID=0");
    assert_eq!(ranks(&format!("{step} {mpi}")), (1, 2, 1));
    assert_eq!(ranks(&format!("{step} {mpi} {torchrun}")), (3, 4, 3));
}

#[test]
fn a_batch_script_and_an_interactive_shell_are_one_process() {
    assert_eq!(of(BATCH).unwrap(), None);
    for step in ["SLURM_STEP_ID=4294967290", "SLURM_STEPID=4294967291"] {
        let shell = format!("{BATCH} SLURM_STEP_NUM_TASKS=1 {step}");
        assert_eq!(of(&shell).unwrap(), None, "{step}");
    }
}

#[test]
fn nothing_set_is_nothing_said() {
    for words in ["", "MASTER_ADDR=node1 MASTER_PORT=0", "RANK= WORLD_SIZE="] {
        assert_eq!(of(words).unwrap(), None, "{words}");
    }
}

#[test]
fn one_process_needs_no_address() {
    assert_eq!(found("RANK=0 WORLD_SIZE=1").address, None);
    let step = "SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_STEP_ID=0 MASTER_PORT=1";
    assert_eq!(found(step).address, None);
}

#[test]
fn torchrun_tells_of_its_store_and_its_restarts() {
    let all = "RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1";
    let plain = found(all);
    assert_eq!((plain.agent_store, plain.restart_count), (false, 0));
    let agent = "TORCHELASTIC_USE_AGENT_STORE=True TORCHELASTIC_RESTART_COUNT=2";
    let found = found(&format!("{all} {agent}"));
    assert_eq!((found.agent_store, found.restart_count), (true, 2));
    let own = of(&format!("{all} TORCHELASTIC_USE_AGENT_STORE=False")).unwrap();
    assert!(!own.unwrap().agent_store);
}

#[test]
fn what_is_wrong_is_named_with_a_remedy() {
    let step = "SLURM_PROCID=0 SLURM_NTASKS=2 SLURM_STEP_ID=0";
    let address = "MASTER_ADDR=a MASTER_PORT=1";
    for (words, field, parts) in [
        ("WORLD_SIZE=2", "RANK", &["WORLD_SIZE is `2`", "unset"][..]),
        ("LOCAL_RANK=0", "RANK", &["LOCAL_RANK is `0`"]),
        ("RANK=1", "WORLD_SIZE", &["RANK is `1`", "number of all"]),
        ("PMI_RANK=1", "PMI_SIZE", &["PMI_RANK is `1`"]),
        ("RANK=one WORLD_SIZE=2", "RANK", &["`one`", "not a number"]),
        ("RANK=+1 WORLD_SIZE=2", "RANK", &["`+1`"]),
        ("RANK=-1 WORLD_SIZE=2", "RANK", &["`-1`"]),
        ("RANK=0 WORLD_SIZE=2.0", "WORLD_SIZE", &["`2.0`"]),
        ("RANK=0 WORLD_SIZE=0", "WORLD_SIZE", &["`0`", "1 or more"]),
        ("RANK=2 WORLD_SIZE=2", "RANK", &["`2`", "0 to 1"]),
        (
            &format!("RANK=0 WORLD_SIZE=2 LOCAL_RANK=gpu0 {address}"),
            "LOCAL_RANK",
            &["`gpu0`"],
        ),
        ("RANK=0 WORLD_SIZE=2", "MASTER_ADDR", &["127.0.0.1"]),
        (
            "RANK=0 WORLD_SIZE=2 MASTER_ADDR=a",
            "MASTER_PORT",
            &["29500"],
        ),
        (step, "MASTER_ADDR", &["scontrol show hostnames"]),
        (
            &format!("{step} MASTER_ADDR=a"),
            "MASTER_PORT",
            &["scontrol"],
        ),
        (
            "RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=0",
            "MASTER_PORT",
            &["`0`", "65535"],
        ),
        (
            "RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=65536",
            "MASTER_PORT",
            &["`65536`"],
        ),
        (
            &format!("{step} {address} WORLD_SIZE=8"),
            "WORLD_SIZE",
            &["`8`", "SLURM_NTASKS is `2`"],
        ),
        (
            &format!("RANK=0 WORLD_SIZE=2 {address} TORCHELASTIC_RESTART_COUNT=x"),
            "TORCHELASTIC_RESTART_COUNT",
            &["`x`"],
        ),
    ] {
        let error = of(words).unwrap_err();
        let shown = error.to_string();
        assert!(
            matches!(error, Error::Config { field: named, .. } if named == field),
            "{shown}"
        );
        for part in parts {
            assert!(shown.contains(part), "{words}: {shown}");
        }
        assert_eq!(shown.lines().count(), 1, "{shown}");
    }
    assert!(of(&format!("{step} {address} WORLD_SIZE=2")).is_ok());
}
