//! Rendezvous from variables.

use super::*;

fn from(words: &str) -> Result<Rendezvous> {
    let variables: Vec<_> = words
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .collect();
    Rendezvous::from_variables(|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn an_environment_becomes_a_rendezvous() {
    let given = from(
        "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 MASTER_ADDR=node1 MASTER_PORT=29500 \
         TORCHELASTIC_RESTART_COUNT=2",
    )
    .unwrap();
    assert_eq!(
        (given.rank(), given.world_size(), given.rank_here()),
        (5, 8, 1)
    );
    assert_eq!(given.checked_address().unwrap(), ("node1", 29500));
    assert_eq!((given.restart_count, given.agent_store), (2, false));
    assert_eq!(given.prefix(), "textbrewer/2");
    assert!(!given.is_alone() && !given.serves_store());
}

#[test]
fn the_store_is_served_once() {
    let all = "WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1";
    assert!(from(&format!("RANK=0 {all}")).unwrap().serves_store());
    assert!(!from(&format!("RANK=1 {all}")).unwrap().serves_store());
    let agent = from(&format!("RANK=0 {all} TORCHELASTIC_USE_AGENT_STORE=True")).unwrap();
    assert!(agent.agent_store && !agent.serves_store());
}

#[test]
fn one_process_is_alone_unless_it_has_an_address() {
    assert!(from("").unwrap().is_alone());
    assert!(from("RANK=0 WORLD_SIZE=1").unwrap().is_alone());
    assert!(!Rendezvous::new(0, 1).address("127.0.0.1", 29500).is_alone());
    assert!(!Rendezvous::new(0, 2).is_alone());
}

#[test]
fn what_cannot_meet_is_refused() {
    for (rendezvous, field) in [
        (Rendezvous::new(0, 0), "world_size"),
        (Rendezvous::new(2, 2).address("a", 1), "rank"),
        (Rendezvous::new(0, 2), "address"),
        (Rendezvous::new(0, 2).address("a", 0), "address"),
        (Rendezvous::new(0, 2).address("", 1), "address"),
    ] {
        let error = rendezvous.checked_address().unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    }
}

#[test]
fn each_process_has_a_device_of_its_own() {
    for (local_rank, count, visible, expected) in [
        (0, 0, None, Device::Cpu),
        (1, 2, None, Device::Cuda(1)),
        (1, 2, Some("4,6"), Device::Cuda(1)),
        (2, 2, None, Device::Cpu),
        (3, 1, Some("3"), Device::Cuda(0)),
        (3, 1, None, Device::Cpu),
        (0, 0, Some(""), Device::Cpu),
    ] {
        let device = default_device(local_rank, count, visible);
        assert_eq!(device, expected, "{local_rank} of {count}, {visible:?}");
    }
    let chosen = Rendezvous::new(3, 4).device(Device::Cpu).chosen_device();
    assert_eq!(chosen, Device::Cpu);
}

#[test]
fn timeouts_are_pytorchs_unless_shorter() {
    let usual = Rendezvous::new(0, 2);
    assert_eq!(usual.operation_timeout().as_secs(), 1800);
    assert_eq!(usual.store_timeout().as_secs(), 300);
    let short = usual.timeout(Duration::from_secs(5));
    assert_eq!(short.operation_timeout().as_secs(), 5);
    assert_eq!(short.store_timeout().as_secs(), 5);
}
