//! Several processes that record into one folder.

use std::path::Path;

use textbrewer::data::Shard;
use textbrewer::{Result, TeacherFile};

use super::common::tiny::{first_line, folder};
use super::mixture::{bits, contents, loader, mixture, record, record_share, recorded, share_of};

fn names(folder: &Path) -> Vec<String> {
    contents(folder).into_keys().collect()
}

/// All that one process says, from several.
fn assert_same(folder: &Path, examples: i64) {
    let alone = super::folder();
    let wanted = recorded(alone.path(), 0.5, examples);
    let file = TeacherFile::open(folder).unwrap();
    file.verify().unwrap();
    assert!(file.ids().eq(0..examples as u64));
    assert_eq!(file.columns(), wanted.columns());
    for id in file.ids() {
        let (got, wanted) = (bits(&file, id).unwrap(), bits(&wanted, id).unwrap());
        assert_eq!(got, wanted, "example {id} of {examples}");
    }
}

#[test]
fn the_union_is_what_one_process_records() {
    for (examples, ranks) in [(37, 2), (8, 2), (13, 3)] {
        let folder = folder();
        for rank in (0..ranks).rev() {
            assert!(
                TeacherFile::open(folder.path()).is_err(),
                "{rank} is missing"
            );
            record_share(folder.path(), (rank, ranks), examples).unwrap();
        }
        assert_same(folder.path(), examples);
        let names = names(folder.path());
        assert!(
            names.iter().all(|name| !name.starts_with("recording")),
            "{names:?}"
        );
    }
}

#[test]
fn at_the_same_time() {
    let folder = folder();
    std::thread::scope(|scope| {
        for rank in 0..2 {
            let path = folder.path();
            scope.spawn(move || record_share(path, (rank, 2), 37).unwrap());
        }
    });
    assert_same(folder.path(), 37);
}

#[test]
fn a_process_without_any_example() {
    for order in [[0, 1], [1, 0]] {
        let folder = folder();
        for rank in order {
            record_share(folder.path(), (rank, 2), 1).unwrap();
        }
        assert_same(folder.path(), 1);
    }
}

#[test]
fn who_has_not_finished_is_named() {
    let second = folder();
    record_share(second.path(), (0, 2), 9).unwrap();
    let said = first_line(TeacherFile::open(second.path()));
    let wanted = "is not finished: process 1 of 2 has not written its manifest; wait for it, or start it again";
    assert_eq!(said, format!("{}: {wanted}", second.path().display()));
    let first = folder();
    record_share(first.path(), (1, 2), 9).unwrap();
    let said = first_line(TeacherFile::open(first.path()));
    assert!(said.contains("process 0 of 2"), "{said}");
    // Begun, and not one of them at its end.
    let begun = folder();
    let share = Shard::new(1, 2).unwrap();
    drop(mixture(begun.path()).begin_share(share).unwrap());
    let said = first_line(TeacherFile::open(begun.path()));
    assert!(said.contains("is not finished: start the same"), "{said}");
    // As the message says.
    record_share(second.path(), (1, 2), 9).unwrap();
    assert_same(second.path(), 9);
}

/// Nothing is computed for a folder that could not be read in the end.
#[test]
fn other_numbers_of_processes_are_refused_at_the_start() {
    let refused = |result: Result<()>| {
        let said = first_line(result);
        assert!(said.contains("which differs in the processes"), "{said}");
    };
    let folder = folder();
    record_share(folder.path(), (1, 2), 9).unwrap();
    let before = contents(folder.path());
    let alone =
        |folder: &Path| record(mixture(folder), 0.5, &mut loader(9, 4), |_| panic!("asked"));
    refused(alone(folder.path()).map(drop));
    refused(record_share(folder.path(), (1, 3), 9));
    assert!(contents(folder.path()) == before);
    let of_one = super::folder();
    recorded(of_one.path(), 0.5, 9);
    refused(record_share(of_one.path(), (0, 2), 9));
    // And one that was only begun.
    let begun = super::folder();
    drop(mixture(begun.path()).begin().unwrap());
    refused(record_share(begun.path(), (0, 2), 9));
}

#[test]
fn processes_that_do_not_agree() {
    let folder = folder();
    record_share(folder.path(), (0, 2), 9).unwrap();
    let recording = mixture(folder.path()).fact("teacher", "another");
    share_of(recording, Shard::new(1, 2).unwrap(), 9).unwrap();
    let said = first_line(TeacherFile::open(folder.path()));
    assert!(
        said.contains("process 1 recorded with other facts"),
        "{said}"
    );
    // Both had all examples, for their loaders were not of one length.
    let folder = super::folder();
    record_share(folder.path(), (0, 2), 9).unwrap();
    record_share(folder.path(), (1, 2), 23).unwrap();
    let said = first_line(TeacherFile::open(folder.path()));
    assert!(
        said.contains("twice, in `shard-0-of-2-00000.safetensors` and in `shard-1-of-2-0000"),
        "{said}"
    );
}
