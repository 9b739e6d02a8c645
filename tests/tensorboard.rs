//! Event files are read back by a parser of their own, which checks every checksum.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::tensorboard::{Scalar, crc32c, read_events, read_scalars};
use textbrewer::Error;
use textbrewer::logging::{LogSink, MemorySink, TensorBoardSink};

fn event_file(run: &Path) -> PathBuf {
    let mut files = fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = files.next().unwrap();
    assert!(
        files.next().is_none(),
        "more than one file in {}",
        run.display()
    );
    file
}

#[test]
fn checksums_are_those_of_the_standard() {
    // Check value of CRC-32C and the test vectors of RFC 3720, appendix B.4.
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = TensorBoardSink::create(folder.path().join("a/b")).unwrap();
    sink.scalar("scalar/total_loss", 1.5, 1).unwrap();
    sink.scalar("scalar/total_loss", f64::from(1e-7f32), 300)
        .unwrap();
    sink.scalar("損失", -2.0, 0).unwrap();
    sink.scalar("not a number", f64::NAN, 1 << 40).unwrap();
    sink.flush().unwrap();

    let file = event_file(sink.path());
    assert!(
        file.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .contains("tfevents")
    );
    let events = read_events(&file);
    assert_eq!(events.len(), 5);
    assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
    assert!(events.iter().all(|event| event.wall_time > 1.6e9));
    let scalars = read_scalars(&file);
    let scalar = |tag: &str, value: f32, step| Scalar {
        tag: tag.to_owned(),
        value,
        step,
    };
    assert_eq!(scalars[0], scalar("scalar/total_loss", 1.5, 1));
    assert_eq!(scalars[1], scalar("scalar/total_loss", 1e-7, 300));
    assert_eq!(scalars[2], scalar("損失", -2.0, 0));
    assert_eq!(
        (scalars[3].step, scalars[3].value.is_nan()),
        (1 << 40, true)
    );
}

#[test]
fn what_was_not_flushed_is_written_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink: Box<dyn LogSink> = Box::new(TensorBoardSink::create(folder.path()).unwrap());
    for step in 0..1000 {
        sink.scalar("loss", step as f64, step).unwrap();
    }
    drop(sink);
    let scalars = read_scalars(&event_file(&folder.path().join("run-0001")));
    assert_eq!(scalars.len(), 1000);
    assert!(
        scalars
            .iter()
            .all(|scalar| scalar.value == scalar.step as f32)
    );
}

#[test]
fn every_run_has_a_folder_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let create = || TensorBoardSink::create(folder.path()).unwrap();
    let name = |sink: &TensorBoardSink| sink.path().file_name().unwrap().to_owned();
    assert_eq!(name(&create()), "run-0001");
    assert_eq!(name(&create()), "run-0002");
    // Runs are numbered on, whatever else is there.
    fs::create_dir(folder.path().join("run-0041")).unwrap();
    fs::create_dir(folder.path().join("run-best")).unwrap();
    fs::write(folder.path().join("run-0042"), "a file").unwrap();
    assert_eq!(name(&create()), "run-0043");

    let at_once = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| name(&create()))).collect();
        let names = threads.into_iter().map(|thread| thread.join().unwrap());
        names.collect::<BTreeSet<_>>()
    });
    assert_eq!(at_once.len(), 16);
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for log_dir in [file.clone(), file.join("logs")] {
        let error = TensorBoardSink::create(&log_dir).unwrap_err();
        assert!(matches!(error, Error::Log { .. }), "{error:?}");
        let message = error.to_string();
        let start = format!("log folder {}: ", log_dir.display());
        assert!(message.starts_with(&start), "{message}");
        assert!(
            message.ends_with("choose a folder that can be written (`log_dir`)"),
            "{message}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_deleted_meanwhile_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = TensorBoardSink::create(folder.path()).unwrap();
    fs::remove_dir_all(sink.path()).unwrap();
    sink.scalar("loss", 1.0, 1).unwrap();
    sink.flush().unwrap();
}

#[test]
fn memory_keeps_what_its_clones_are_given() {
    let memory = MemorySink::new();
    let mut given = memory.clone();
    fn lend(mut sink: impl LogSink) {
        sink.scalar("a", 1.0, 1).unwrap();
    }
    lend(&mut given);
    let mut boxed: Box<dyn LogSink> = Box::new(given);
    boxed.scalar("b", 2.0, 1).unwrap();
    boxed.scalar("a", 3.0, 2).unwrap();
    boxed.flush().unwrap();
    assert_eq!(memory.curve("a"), [(1, 1.0), (2, 3.0)]);
    assert_eq!(memory.scalars()[1], ("b".to_owned(), 2.0, 1));
}
