//! One process fails in the middle of a run.

use std::cell::Cell;
use std::path::Path;

use tch::Tensor;
use textbrewer::distributed::{ProcessGroup, Reduce};
use textbrewer::{BasicTrainer, DataLoader, Distiller, Error, Flow, Model, Result, Sgd, from_fn};

use super::scene::{Scene, Told, child, in_group, tell};
use crate::common::tiny::{Net, config, files, loader, square};

/// Where a process fails, and which one does.
const PLACE: &str = "TEXTBREWER_TEST_PLACE";
const RANK: &str = "TEXTBREWER_TEST_RANK";

/// What happens in the callback after a step.
type InCallback<'a> = &'a dyn Fn(u64) -> Result<Flow>;

/// Trains for six steps, of which every second is saved, and asks the group for something more
/// after an error.
fn train(
    group: &ProcessGroup,
    folder: &Path,
    happens: &dyn Fn(&str) -> Result<()>,
    in_callback: InCallback<'_>,
) -> Result<String> {
    // Its gradients are larger than the messages that are sent beside them.
    let student = Net::new(2, 64, 0.25);
    let model = from_fn(|batch: &Tensor, train| {
        happens("model")?;
        student.forward(batch, train)
    });
    let mut trainer = BasicTrainer::builder(&model, &student.variables)
        .train_config(config(&folder.join("run")).ckpt_steps(2))
        .adaptor(square)
        .build()?;
    let mut loader = loader(12).map(|batch| {
        happens("loader")?;
        Ok(batch)
    });
    let result = trainer
        .train(&mut loader)
        .steps(6)
        .optimizer(Sgd::new(0.01))
        .callback(|_, info| {
            happens("callback")?;
            in_callback(info.global_step)
        })
        .after_step(|_, _| happens("hook"))
        .process_group(group)
        .run();
    match result {
        Ok(summary) => Ok(format!("done after step {}", summary.global_steps)),
        Err(error) => {
            let again = group.barrier().unwrap_err();
            Ok(format!("{error}\n{again}"))
        }
    }
}

fn go_on(_step: u64) -> Result<Flow> {
    Ok(Flow::Continue)
}

fn well(_place: &str) -> Result<()> {
    Ok(())
}

/// Its error, and that of what it asked for afterwards.
fn lines(told: &Told) -> (&str, &str) {
    assert!(told.status.success(), "{told:#?}");
    let (first, rest) = told.text.split_once('\n').unwrap_or((&told.text, ""));
    (first, rest.lines().last().unwrap_or(first))
}

#[test]
fn its_error_is_told_to_the_others() {
    if let Some((rendezvous, folder)) = child() {
        let (place, rank) = (std::env::var(PLACE).unwrap(), std::env::var(RANK).unwrap());
        let fails = rendezvous.rank().to_string() == rank;
        let times = Cell::new(0);
        let happens = |here: &str| {
            if !fails || here != place {
                return Ok(());
            }
            times.set(times.get() + 1);
            let late = if here == "callback" { 2 } else { 3 };
            match times.get() >= late {
                true => Err(Error::other(format!("the {here} has no more\nof it"))),
                false => Ok(()),
            }
        };
        tell(
            ProcessGroup::new(&rendezvous)
                .and_then(|group| train(&group, &folder, &happens, &go_on)),
        );
        return;
    }
    for (place, rank) in [
        ("loader", 1),
        ("model", 1),
        ("callback", 0),
        ("hook", 1),
        ("hook", 0),
    ] {
        let mut scene = Scene::new("one_fails::its_error_is_told_to_the_others");
        for each in 0..2 {
            let rank = rank.to_string();
            scene.start(each, 2, 60, &[(PLACE, place), (RANK, &rank)]);
        }
        let run = scene.folder.path().join("run");
        let told = scene.end_with(|| files(&run));
        let (told, files) = told;
        let (failed, other) = (&told[rank], &told[1 - rank]);
        let (own, again) = lines(failed);
        assert!(
            own.contains(&format!("the {place} has no more")),
            "{failed:#?}"
        );
        assert!(
            again.contains("barrier: the group came to an end"),
            "{failed:#?}"
        );
        assert!(
            failed.error_file.as_ref().unwrap().starts_with(own),
            "{failed:#?}"
        );
        let (others, again) = lines(other);
        let start = format!("process {} of 2, ", 1 - rank);
        let end = format!(": process {rank} failed: {own}");
        assert!(
            others.starts_with(&start) && others.ends_with(&end),
            "{other:#?}"
        );
        assert!(
            again.contains("barrier: the group came to an end"),
            "{other:#?}"
        );
        assert_eq!(other.error_file, None);
        assert_eq!(other.err, "");
        assert!(files.contains(&"gs2.safetensors".to_owned()), "{files:?}");
    }
}

#[test]
fn a_disk_that_refuses_is_told_to_the_others() {
    let name = "one_fails::a_disk_that_refuses_is_told_to_the_others";
    let told = in_group(name, 2, 60, |group, folder| {
        // In the place of a file there is a folder that is not empty.
        let obstacle = folder.join("run").join("gs4.safetensors").join("more");
        let place = |step| {
            if step == 2 && group.is_first() {
                std::fs::create_dir_all(&obstacle).unwrap();
            }
            Ok(Flow::Continue)
        };
        train(group, folder, &well, &place)
    });
    let Some(told) = told else { return };
    let (own, _) = lines(&told[0]);
    assert!(own.contains("gs4.safetensors"), "{told:#?}");
    let expected = format!("process 1 of 2, saving the student: process 0 failed: {own}");
    assert_eq!(lines(&told[1]).0, expected);
    assert_eq!(told[1].error_file, None);
}

#[test]
fn a_panic_is_told_to_the_others() {
    let told = in_group(
        "one_fails::a_panic_is_told_to_the_others",
        2,
        60,
        |group, folder| {
            let times = Cell::new(0);
            let panics = |place: &str| {
                times.set(times.get() + i32::from(place == "model"));
                assert!(group.is_first() || times.get() < 3, "an odd batch");
                Ok(())
            };
            train(group, folder, &panics, &go_on)
        },
    );
    let Some(told) = told else { return };
    let (other, _) = lines(&told[0]);
    assert!(
        other.ends_with(": process 1 panicked; it says itself where"),
        "{told:#?}"
    );
    assert!(
        !told[1].status.success() && told[1].err.contains("an odd batch"),
        "{told:#?}"
    );
    assert!(
        told[1].error_file.as_ref().unwrap().contains("panicked"),
        "{told:#?}"
    );
    assert_eq!(told[0].error_file, None);
}

#[test]
fn one_that_ends_without_a_run_is_named() {
    let name = "one_fails::one_that_ends_without_a_run_is_named";
    let told = in_group(name, 2, 60, |group, folder| match group.is_first() {
        true => train(group, folder, &well, &go_on),
        false => Ok("nothing to do".to_owned()),
    });
    let Some(told) = told else { return };
    let (other, _) = lines(&told[0]);
    assert!(
        other.contains(": process 1 has left the group: it ended, or does less"),
        "{told:#?}"
    );
    assert_eq!(told[1].err, "");
}

#[test]
fn callbacks_may_use_the_group_if_all_do() {
    let name = "one_fails::callbacks_may_use_the_group_if_all_do";
    let told = in_group(name, 2, 60, |group, folder| {
        let add = |step| {
            let own = Tensor::from_slice(&[step as i64 + group.rank() as i64]);
            let sum = group.all_reduce(&own, Reduce::Sum)?;
            assert_eq!(sum.int64_value(&[0]), 2 * step as i64 + 1);
            Ok(Flow::Continue)
        };
        train(group, folder, &well, &add)
    });
    let Some(told) = told else { return };
    for told in told {
        assert_eq!(told.text, "done after step 6", "{told:#?}");
        assert_eq!((told.err.as_str(), told.error_file), ("", None));
    }
}

#[test]
fn a_callback_that_uses_it_in_one_process_is_an_error_in_all() {
    let name = "one_fails::a_callback_that_uses_it_in_one_process_is_an_error_in_all";
    let told = in_group(name, 2, 60, |group, folder| {
        let waits = |_| {
            if !group.is_first() {
                group.barrier()?;
            }
            Ok(Flow::Continue)
        };
        train(group, folder, &well, &waits)
    });
    let Some(told) = told else { return };
    assert!(
        lines(&told[0])
            .0
            .contains("process 1 is at \"barrier\"; all processes"),
        "{told:#?}"
    );
    assert!(
        lines(&told[1])
            .0
            .contains("process 0 is at \"the verdict of the callbacks\""),
        "{told:#?}"
    );
}

#[test]
fn a_hook_that_uses_it_in_one_process_is_an_error_in_all() {
    let name = "one_fails::a_hook_that_uses_it_in_one_process_is_an_error_in_all";
    // They are at things of different kinds, which nothing tells them but the time.
    let told = in_group(name, 2, 10, |group, folder| {
        let waits = |place: &str| match place == "hook" && !group.is_first() {
            true => group.barrier(),
            false => Ok(()),
        };
        train(group, folder, &waits, &go_on)
    });
    let Some(told) = told else { return };
    let mut late = 0;
    for (told, place) in told.iter().zip([
        "process 0 of 2, averaging the gradients: ",
        "hook `after_step 1` at global step 1: process 1 of 2, barrier: ",
    ]) {
        let reason = lines(told).0.strip_prefix(place);
        let reason = reason.unwrap_or_else(|| panic!("{told:#?}"));
        let is_late = reason.starts_with("another process did not answer within 10 s: it hangs");
        // Whoever gives up first ends, and the other may see that.
        let sees_the_end = reason.starts_with("another process has ended");
        assert!(is_late || sees_the_end, "{told:#?}");
        late += usize::from(is_late);
    }
    assert!(late > 0, "{told:#?}");
}

#[test]
fn one_that_hangs_is_given_up() {
    let name = "one_fails::one_that_hangs_is_given_up";
    let told = in_group(name, 2, 10, |group, folder| {
        let pipe = folder.join("pipe");
        if group.is_first() {
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.unwrap().success());
        }
        let hangs = |_| {
            if !group.is_first() {
                std::fs::read(&pipe).unwrap();
            }
            Ok(Flow::Continue)
        };
        let result = train(group, folder, &well, &hangs);
        if group.is_first() {
            // Now the other one may find out that it was given up.
            std::fs::write(&pipe, "").unwrap();
        }
        result
    });
    let Some(told) = told else { return };
    let (other, _) = lines(&told[0]);
    let start = "process 0 of 2, the verdict of the callbacks: another process did not answer \
                 within 10 s: it hangs";
    assert!(other.starts_with(start), "{told:#?}");
    assert!(
        lines(&told[1]).0.starts_with("process 1 of 2, "),
        "{told:#?}"
    );
    assert_eq!(told[1].error_file, None);
}

fn send(signal: &str, process: &str) {
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args([signal, process]).status().unwrap().success());
}

/// Process 0 serves the store as well, so that nobody can be asked why it is silent.
#[test]
fn the_first_one_that_is_stopped_is_given_up() {
    let name = "one_fails::the_first_one_that_is_stopped_is_given_up";
    let told = in_group(name, 2, 3, |group, folder| {
        let first = folder.join("first");
        if group.is_first() {
            std::fs::write(&first, std::process::id().to_string()).unwrap();
        }
        let stops = |_| {
            if group.is_first() {
                send("-STOP", &std::process::id().to_string());
            }
            Ok(Flow::Continue)
        };
        let result = train(group, folder, &well, &stops);
        if !group.is_first() {
            send("-CONT", &std::fs::read_to_string(&first).unwrap());
        }
        result
    });
    let Some(told) = told else { return };
    let (other, _) = lines(&told[1]);
    let start = "process 1 of 2, the verdict of the callbacks: another process did not answer \
                 within 3 s: it hangs";
    assert!(other.starts_with(start), "{told:#?}");
}

#[test]
fn a_run_that_was_not_given_its_group_is_warned_of() {
    let name = "one_fails::a_run_that_was_not_given_its_group_is_warned_of";
    let told = in_group(name, 2, 60, |group, folder| {
        let student = Net::new(1, 2, 0.5);
        let folder = folder.join(group.rank().to_string());
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(&folder))
            .adaptor(square)
            .build()?;
        let mut loader = loader(1);
        let run = trainer
            .train(&mut loader)
            .epochs(1)
            .optimizer(Sgd::new(0.1));
        run.run()?;
        group.barrier()?;
        Ok("done".to_owned())
    });
    let Some(told) = told else { return };
    for (rank, told) in told.iter().enumerate() {
        let line = format!(
            "textbrewer: warning: this process is {rank} of 2, but the run was not given its group \
             and trains alone: add `.process_group(&group)`"
        );
        assert!(told.err.contains(&line), "{told:#?}");
    }
}
