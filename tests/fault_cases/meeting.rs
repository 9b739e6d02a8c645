//! Processes that cannot meet.

use std::net::TcpListener;

use textbrewer::distributed::{ProcessGroup, Reduce};

use super::scene::{Scene, Told, child, tell};

/// Meets the others, in a process that was started for that.
fn has_met() -> bool {
    let Some((rendezvous, _)) = child() else {
        return false;
    };
    tell(ProcessGroup::new(&rendezvous).and_then(|group| {
        drop(group.all_reduce(&tch::Tensor::from_slice(&[1i64]), Reduce::Sum)?);
        Ok("met".to_owned())
    }));
    true
}

#[track_caller]
fn all_say(told: &[Told], expected: &str) {
    for (index, told) in told.iter().enumerate() {
        assert!(told.text.contains(expected), "{index}: {told:#?}");
        assert!(told.status.success(), "{index}: {told:#?}");
    }
}

#[test]
fn another_world_size_is_told_to_all() {
    if has_met() {
        return;
    }
    let mut scene = Scene::new("meeting::another_world_size_is_told_to_all");
    for (rank, size) in [(0, 2), (1, 3), (2, 3)] {
        scene.start(rank, size, 20, &[]);
    }
    let told = scene.end();
    all_say(&told, " processes in all, another one ");
    all_say(&told, "meeting the other processes: process ");
    all_say(&told, "(WORLD_SIZE)");
}

#[test]
fn a_rank_twice_is_told_to_all() {
    if has_met() {
        return;
    }
    let mut scene = Scene::new("meeting::a_rank_twice_is_told_to_all");
    for rank in [0, 1, 1] {
        scene.start(rank, 3, 20, &[]);
    }
    let told = scene.end();
    all_say(
        &told,
        "there are two processes with rank 1; give each of the 3 a number",
    );
}

#[test]
fn one_too_many_does_not_disturb_those_that_met() {
    if has_met() {
        return;
    }
    let mut scene = Scene::new("meeting::one_too_many_does_not_disturb_those_that_met");
    for rank in [0, 1, 1] {
        scene.start(rank, 2, 20, &[]);
    }
    let told = scene.end();
    let met = told.iter().filter(|told| told.text == "met").count();
    assert!(met == 0 || met == 2, "{told:#?}");
    let others = told.iter().filter(|told| told.text != "met");
    for told in others {
        assert!(
            told.text.contains("with rank 1") || told.text.contains("process 0"),
            "{told:#?}"
        );
    }
}

#[test]
fn those_that_do_not_come_are_named() {
    if has_met() {
        return;
    }
    // On a busy machine those that were started may be late themselves: they get more time then.
    let told = [2, 8, 32, 128].into_iter().find_map(|seconds| {
        let mut scene = Scene::new("meeting::those_that_do_not_come_are_named");
        for rank in [0, 2] {
            scene.start(rank, 5, seconds, &[]);
        }
        let told = scene.end();
        let expected = format!(
            "meeting the other processes: processes 1, 3 and 4 of 5 did not come within {seconds} \
             s; look whether all were started"
        );
        let all = told.iter().all(|told| told.text.contains(&expected));
        if !all {
            let late = |told: &Told| {
                ["did not come", "nobody answers"].map(|said| told.text.contains(said))
            };
            assert!(
                told.iter().all(|told| late(told).contains(&true)),
                "{told:#?}"
            );
        }
        all.then_some(told)
    });
    let told = told.unwrap();
    for told in &told {
        assert!(
            told.error_file.as_ref().unwrap().contains("1, 3 and 4"),
            "{told:#?}"
        );
    }
}

#[test]
fn without_process_0_its_address_is_named() {
    if has_met() {
        return;
    }
    let mut scene = Scene::new("meeting::without_process_0_its_address_is_named");
    scene.start(1, 2, 2, &[]);
    let place = format!("nobody answers at 127.0.0.1:{}", scene.port);
    let told = scene.end();
    all_say(&told, &place);
    all_say(
        &told,
        "is that one running, and are MASTER_ADDR and MASTER_PORT those of its machine?",
    );
}

#[test]
fn a_port_that_somebody_has_is_named() {
    if has_met() {
        return;
    }
    let mut scene = Scene::new("meeting::a_port_that_somebody_has_is_named");
    // It accepts, and says nothing.
    let listener = TcpListener::bind(("127.0.0.1", scene.port)).unwrap();
    // The first is to find out, and the second to give up.
    scene.start(0, 2, 60, &[]);
    scene.start(1, 2, 3, &[]);
    let port = scene.port;
    let told = scene.end();
    drop(listener);
    let in_use = format!("port {port} is in use on this machine; choose another MASTER_PORT");
    all_say(&told[..1], &in_use);
    all_say(&told[1..], &format!("nobody answers at 127.0.0.1:{port}"));
    all_say(&told[1..], "or not as process 0 does");
}

#[test]
fn a_listener_that_hangs_up_is_no_process_0() {
    if has_met() {
        return;
    }
    let mut scene = Scene::new("meeting::a_listener_that_hangs_up_is_no_process_0");
    let listener = TcpListener::bind(("127.0.0.1", scene.port)).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    scene.start(1, 2, 2, &[]);
    all_say(
        &scene.end(),
        "or not as process 0 does; is that one running",
    );
}

#[test]
fn an_unknown_name_is_named() {
    if has_met() {
        return;
    }
    let mut scene = Scene::new("meeting::an_unknown_name_is_named");
    // No name can have an empty part, so that nobody is asked for it. It might become known until
    // the time is over.
    for rank in [0, 1] {
        scene.start(rank, 2, 2, &[("MASTER_ADDR", "no..name")]);
    }
    all_say(
        &scene.end(),
        "the name `no..name` is unknown on this machine; set MASTER_ADDR to",
    );
}

#[test]
fn an_address_of_nobody_is_named() {
    if has_met() {
        return;
    }
    let mut scene = Scene::new("meeting::an_address_of_nobody_is_named");
    // Process 0 listens at all addresses of IPv4 and IPv6; this one is never one of them.
    for rank in [0, 1] {
        scene.start(rank, 2, 2, &[("MASTER_ADDR", "255.255.255.255")]);
    }
    let told = scene.end();
    all_say(
        &told[..1],
        "but not at 255.255.255.255: nobody answers there within 2 s; set MASTER_ADDR",
    );
    all_say(&told[1..], "nobody answers at 255.255.255.255:");
}

#[test]
fn an_interface_that_one_lacks_is_told_to_all() {
    if has_met() {
        return;
    }
    let mut scene = Scene::new("meeting::an_interface_that_one_lacks_is_told_to_all");
    scene.start(0, 2, 20, &[]);
    scene.start(1, 2, 20, &[("GLOO_SOCKET_IFNAME", "no-such-interface")]);
    let told = scene.end();
    all_say(&told, "process 1 cannot connect: ");
    all_say(&told, "no-such-interface");
}
