//! What does not fit is told, with the thing, the place and the remedy.

use tch::Tensor;
use textbrewer::teacher_file::{Recording, Stored};
use textbrewer::{
    AdaptorOutput, DataLoader, DistillationConfig, Error, GeneralDistiller, Ids, IntermediateMatch,
    Model, Result, TeacherFile,
};

use super::common::tiny::config;
use super::{Sentences, Words, adapt, loader, masks, record, recording};

fn first_batch() -> Sentences {
    loader(3, false).epoch(1).unwrap().next().unwrap().unwrap()
}

#[track_caller]
fn assert_says<T>(result: Result<T>, parts: &[&str]) {
    let Err(error) = result else {
        panic!("no error")
    };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_match_that_needs_what_the_file_lacks_is_told_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path())
        .logits(Stored::Float32)
        .feature("hidden", [1], Stored::Float32)
        .run(&Words::new(0.3), adapt, &mut loader(4, false))
        .unwrap();
    let student = Words::new(0.8);
    let built = |matches: Vec<IntermediateMatch>| {
        GeneralDistiller::builder(file.teacher(masks), &student, &student.variables)
            .train_config(config(folder.path()))
            .distill_config(DistillationConfig::default().intermediate_matches(matches))
            .teacher_adaptor(|_, said: &AdaptorOutput| Ok(said.shallow_clone()))
            .student_adaptor(adapt)
            .build()
    };
    built(vec![IntermediateMatch::hidden(-1, 1)]).unwrap();
    let lacks = ["has no layer 0 of `hidden`", "record the teacher again"];
    assert_says(built(vec![IntermediateMatch::hidden(0, 1)]), &lacks);
    assert_says(
        built(vec![IntermediateMatch::attention(0, 0)]),
        &[
            "has no `attention`, which `intermediate_matches[0]` needs",
            "it has logits.0, hidden.1; record",
        ],
    );
}

#[test]
fn a_file_without_logits_is_told_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path())
        .feature("hidden", [1], Stored::Float32)
        .run(&Words::new(0.3), adapt, &mut loader(4, false))
        .unwrap();
    let student = Words::new(0.8);
    let built = GeneralDistiller::builder(file.teacher(masks), &student, &student.variables)
        .train_config(config(folder.path()))
        .teacher_adaptor(|_, said: &AdaptorOutput| Ok(said.shallow_clone()))
        .student_adaptor(adapt)
        .build();
    assert_says(built, &["has no logits"]);
}

#[test]
fn another_tokenizer_is_told_by_the_positions() {
    let folder = tempfile::tempdir().unwrap();
    let file = record(folder.path(), &Words::new(0.3), 4);
    let mut batch = first_batch();
    batch
        .mask
        .select(0, 1)
        .narrow(0, 0, 1)
        .copy_(&Tensor::from(0i64));
    let id = batch.ids[1].to_string();
    assert_says(
        file.teacher(masks).forward(&batch, false),
        &[
            &format!("example {id} has "),
            "in `logits.0`",
            "another tokenizer",
        ],
    );
    batch = first_batch();
    let no_mask = file.teacher(|_: &Sentences| Ok(AdaptorOutput::new()));
    assert_says(
        no_mask.forward(&batch, false),
        &["return it as `logits_mask`"],
    );
}

#[test]
fn ids_facts_labels_and_classes_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = recording(folder.path())
        .logits(Stored::Float32)
        .labels(["no", "yes"])
        .fact("tokenizer", "abc")
        .begin()
        .unwrap();
    let logits = Tensor::from_slice2(&[[0.0f32, 1.0], [2.0, 3.0]]);
    recorder
        .add(&[3, 8], &AdaptorOutput::new().logits(&logits))
        .unwrap();
    let file = recorder.finish().unwrap();
    file.check_ids([8, 3]).unwrap();
    assert_says(
        file.check_ids(0..10),
        &[
            "8 of 10 examples are not in it: 0, 1, 2, 4, 5, …",
            "ids from 3 to 8",
        ],
    );
    let unknown = file.teacher(|_: &Ids| Ok(AdaptorOutput::new()));
    assert_says(
        unknown.forward(&Ids::from(vec![3, 4]), false),
        &["1 of 2 examples are not in it: 4"],
    );
    file.check_fact("tokenizer", "abc").unwrap();
    assert_says(
        file.check_fact("tokenizer", "abd"),
        &["another `tokenizer`: abc, not abd"],
    );
    assert_says(file.check_fact("data", "x"), &["does not say its `data`"]);
    file.check_labels(&["no", "yes"]).unwrap();
    assert_says(
        file.check_labels(&["yes", "no"]),
        &["another order of the classes: no, yes"],
    );
    assert_says(file.check_labels(&["yes", "maybe"]), &["other classes"]);
    file.check_classes(2).unwrap();
    assert_says(
        file.check_classes(3),
        &["logits of 2 classes, wanted are 3"],
    );
    assert_says(
        file.teacher(|_: &Ids| Ok(AdaptorOutput::new()))
            .using("logits.1"),
        &["has no logits `logits.1`, but logits.0"],
    );
    assert_says(file.read(&[1]), &["1 of 1 examples are not in it: 1"]);
}

#[test]
fn what_cannot_be_recorded_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let logits = Tensor::from_slice2(&[[0.0f32, 1.0], [2.0, 3.0]]);
    let said = |logits: &Tensor| AdaptorOutput::new().logits(logits);
    let begin = |recording: Recording| recording.begin();
    assert_says(begin(recording(folder.path())), &["nothing is to be kept"]);
    assert_says(
        begin(recording(folder.path()).top_k(0, 1.0)),
        &["k must be 1 or more"],
    );
    assert_says(
        begin(recording(folder.path()).sample(9, 0.0, 1)),
        &["positive number, is 0"],
    );
    let mut recorder = begin(recording(folder.path()).logits(Stored::Float32)).unwrap();
    recorder.add(&[1, 2], &said(&logits)).unwrap();
    assert_says(
        recorder.add(&[3, 2], &said(&logits)),
        &["example 2 came twice"],
    );
    let labelled = recording(&folder.path().join("labelled")).logits(Stored::Float32);
    let mut labelled = begin(labelled.labels(["a", "b", "c"])).unwrap();
    assert_says(
        labelled.add(&[1, 2], &said(&logits)),
        &["labels: there are 3, but `logits.0` has 2 classes"],
    );
    let mut large = begin(recording(&folder.path().join("large")).top_k(3, 1.0)).unwrap();
    assert_says(
        large.add(&[1, 2], &said(&logits)),
        &["top 3", "only 2 classes"],
    );
    assert_says(recorder.add(&[7], &said(&logits)), &["for 1 ids", "[2]"]);
    assert_says(
        recorder.add(&[8, 9], &AdaptorOutput::new()),
        &["no `logits`, which the recording needs"],
    );
    let three = || said(&logits).logits(&logits).logits(&logits);
    let mask = Tensor::from_slice2(&[[1i64], [1]]);
    assert_says(
        recorder.add(&[12, 13], &three().logits_mask(&mask).logits_mask(&mask)),
        &["one, or one for each of the 3 logits, got 2"],
    );
    let wider = Tensor::from_slice2(&[[0.0f32, 1.0, 2.0], [2.0, 3.0, 4.0]]);
    assert_says(
        recorder.add(&[10, 11], &said(&wider)),
        &["3 numbers", "until now it was"],
    );
    let other = tempfile::tempdir().unwrap();
    let nothing = begin(recording(other.path()).logits(Stored::Float32)).unwrap();
    assert_says(nothing.finish(), &["nothing was recorded"]);
    let mut recorder = begin(recording(other.path()).logits(Stored::Float32)).unwrap();
    recorder.add(&[1, 2], &said(&logits)).unwrap();
    drop(recorder);
    assert_says(
        TeacherFile::open(other.path()),
        &["is not finished", "again"],
    );
    assert_says(
        TeacherFile::open(folder.path().join("nowhere")),
        &["nowhere"],
    );
    let empty = tempfile::tempdir().unwrap();
    assert_says(
        TeacherFile::open(empty.path()),
        &["no `manifest.json`: it is no file of a teacher"],
    );
    std::fs::write(empty.path().join("shard-00000.safetensors"), "").unwrap();
    assert_says(
        TeacherFile::open(empty.path()),
        &["copy it too, or start the same recording"],
    );
}

#[test]
fn batches_without_ids_are_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let rows = || vec![Tensor::from_slice2(&[[0.0f32, 1.0]])];
    let mut loader = textbrewer::data::VecLoader::new(rows()).unwrap();
    let teacher = textbrewer::from_fn(|row: &Tensor, _| Ok(row.shallow_clone()));
    let recorded = recording(folder.path()).logits(Stored::Float32).run(
        &teacher,
        |_, logits| Ok(AdaptorOutput::new().logits(logits)),
        &mut loader,
    );
    assert_says(recorded, &["`Ids`", "`with_ids`"]);
}

/// Padding that was recorded, for nothing said that it does not count, has to be the same.
#[test]
fn without_a_mask_lengths_have_to_agree() {
    let folder = tempfile::tempdir().unwrap();
    let unmasked =
        |_: &Sentences, said: &super::Said| Ok(AdaptorOutput::new().logits(&said.logits));
    let teacher = Words::new(0.3);
    let file = recording(folder.path())
        .logits(Stored::Float32)
        .run(&teacher, unmasked, &mut loader(4, false))
        .unwrap();
    let file = file.teacher(|_: &Sentences| Ok(AdaptorOutput::new()));
    let recorded = loader(4, false).epoch(1).unwrap().next().unwrap().unwrap();
    let read = file.forward(&recorded, false).unwrap();
    let live = teacher.forward(&recorded, false).unwrap().logits;
    assert_eq!(read.logits[0].whole().unwrap(), live);
    let other = loader(6, false).epoch(1).unwrap().next().unwrap().unwrap();
    let error = file.forward(&other, false).unwrap_err();
    assert!(matches!(&error, Error::TeacherFile { .. }));
    assert!(
        error.to_string().contains("or record with a mask"),
        "{error}"
    );
}
