//! What a recording does with what it finds in its folder, and with what it is given once more.

use std::fs;
use std::path::Path;

use tch::Tensor;
use textbrewer::teacher_file::{Recorder, Recording, Stored};
use textbrewer::{AdaptorOutput, TeacherFile};

use super::recording;

fn said(number: f32) -> AdaptorOutput {
    AdaptorOutput::new().logits(Tensor::from_slice2(&[[number, 1.0]]))
}

fn of(folder: &Path, stored: Stored) -> Recording {
    recording(folder)
        .logits(stored)
        .fact("teacher", "a")
        .shard_examples(1)
}

fn number(file: &TeacherFile, id: u64) -> f64 {
    let said = file.read(&[id]).unwrap();
    said.logits[0].whole().unwrap().double_value(&[0, 0])
}

#[test]
fn what_could_not_be_added_may_be_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = of(folder.path(), Stored::Float32).begin().unwrap();
    let error = recorder.add(&[4], &said(f32::NAN)).unwrap_err().to_string();
    assert!(
        error.contains("examples from 4 on") && error.contains("NaN"),
        "{error}"
    );
    recorder.add(&[4], &said(2.5)).unwrap();
    assert_eq!(number(&recorder.finish().unwrap(), 4), 2.5);
}

#[test]
fn a_killed_recording_goes_on_although_it_may_overwrite() {
    let folder = tempfile::tempdir().unwrap();
    let begin = || -> Recorder {
        let recording = of(folder.path(), Stored::Float32).overwrite(true);
        recording.begin().unwrap()
    };
    begin().add(&[1], &said(1.0)).unwrap();
    let mut recorder = begin();
    assert!(recorder.has_all(&[1]));
    recorder.add(&[2], &said(2.0)).unwrap();
    assert_eq!(recorder.finish().unwrap().len(), 2);
    // Another one takes its place, whole.
    let other = of(folder.path(), Stored::BFloat16).overwrite(true);
    let mut recorder = other.begin().unwrap();
    assert!(!recorder.has_all(&[1]));
    recorder.add(&[3], &said(3.0)).unwrap();
    assert!(recorder.finish().unwrap().ids().eq([3]));
}

/// Shards whose manifest was removed have the columns, and another teacher.
#[test]
fn shards_of_another_recording_are_not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = of(folder.path(), Stored::Float32).begin().unwrap();
    recorder.add(&[1], &said(1.0)).unwrap();
    recorder.finish().unwrap();
    fs::remove_file(folder.path().join("manifest.json")).unwrap();
    let other = || of(folder.path(), Stored::Float32).fact("teacher", "b");
    let error = other().begin().unwrap_err().to_string();
    assert!(
        error.contains("shard-00000.safetensors: is left of another"),
        "{error}"
    );
    let mut recorder = other().overwrite(true).begin().unwrap();
    recorder.add(&[1], &said(7.0)).unwrap();
    assert_eq!(number(&recorder.finish().unwrap(), 1), 7.0);
}
