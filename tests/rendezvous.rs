//! What a process learns of itself from its environment, as a user sees it. The test starts itself
//! again, since a process should not change its own variables.

use std::process::Command;

use tch::Device;
use textbrewer::distributed::Rendezvous;

/// Set where this binary is run again, to say what it finds.
const TELL: &str = "TELL_RENDEZVOUS";

/// What a process with these variables and no others finds, or its error.
fn found_with(variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tells_what_it_finds", "--nocapture"])
        .env_clear()
        .env(TELL, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let told = out.lines().find_map(|line| line.split_once("found: "));
    told.unwrap_or_else(|| panic!("{out}")).1.to_owned()
}

#[test]
fn tells_what_it_finds() {
    if std::env::var_os(TELL).is_none() {
        return;
    }
    println!();
    match Rendezvous::from_env() {
        Ok(found) => println!(
            "found: {} of {}, alone: {}",
            found.rank(),
            found.world_size(),
            found.is_alone()
        ),
        Err(error) => println!("found: {error}"),
    }
}

#[test]
fn a_process_asks_its_environment() {
    assert_eq!(found_with(&[]), "0 of 1, alone: true");
    let torchrun = [
        ("RANK", "1"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "node1"),
        ("MASTER_PORT", "29500"),
    ];
    assert_eq!(found_with(&torchrun), "1 of 2, alone: false");
    let without_port = found_with(&torchrun[..3]);
    assert!(
        without_port.starts_with("MASTER_PORT: is not set: set it to a port that is free"),
        "{without_port}"
    );
}

#[cfg(unix)]
#[test]
fn text_that_is_no_unicode_is_no_number() {
    use std::os::unix::ffi::OsStrExt;

    let odd = std::ffi::OsStr::from_bytes(b"\xff1");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tells_what_it_finds", "--nocapture"])
        .env_clear()
        .env(TELL, "1")
        .env("RANK", odd)
        .env("WORLD_SIZE", "2")
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(
        out.contains("RANK: is `\u{fffd}1`, which is not a number"),
        "{out}"
    );
}

#[test]
fn a_program_says_it_itself() {
    let given = Rendezvous::new(1, 2)
        .local_rank(0)
        .address("node1", 29500)
        .device(Device::Cpu);
    assert_eq!((given.rank(), given.world_size()), (1, 2));
    assert!(!given.is_alone());
}
