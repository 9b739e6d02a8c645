//! Runs over lines of files and over streams, converted in several threads.

use std::path::Path;
use std::sync::OnceLock;

use tch::{Kind, Tensor};
use tempfile::TempDir;
use textbrewer::data::{Line, LineLoader, StreamLoader};
use textbrewer::{AdamW, BasicTrainer, DataLoader, Distiller, MemorySink, Result, TrainSummary};

use super::exact::{End, Student, adapt, finish, survives};
use crate::common::tiny::{INPUT, batch, config};

fn train<L: DataLoader<Batch = Tensor>>(
    folder: &Path,
    end: End,
    resumes: bool,
    sink: &MemorySink,
    loader: &mut L,
    checkpoints: u64,
) -> Result<TrainSummary> {
    let student = Student::new(end);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder).ckpt_frequency(checkpoints))
        .adaptor(adapt)
        .build()?;
    let run = trainer.train(loader).epochs(2).optimizer(AdamW::new(0.02));
    finish(run, &student.flag, resumes, sink)
}

/// Two files, of 4 and 5 lines.
fn files() -> &'static TempDir {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for (name, range) in [("a.txt", 0..4), ("b.txt", 4..9)] {
            let line = |number: i64| format!("{number} {}\n\n", number * number);
            let text: String = range.map(line).collect();
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    })
}

fn tensor(lines: &[Line]) -> Result<Tensor> {
    let rows = lines.iter().map(|line| {
        let seed = line.parse_with(|text| text.split_once(' ').unwrap().1.parse::<i64>())?;
        Ok(batch(seed))
    });
    Ok(Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0))
}

fn lines(folder: &Path, end: End, resumes: bool, sink: &MemorySink) -> Result<TrainSummary> {
    let paths = ["a.txt", "b.txt"].map(|name| files().path().join(name));
    let mut loader = LineLoader::new(paths, 2)?
        .shuffle(8)
        .map_in_threads(3, |lines| tensor(&lines));
    train(folder, end, resumes, sink, &mut loader, 5)
}

fn stream(folder: &Path, end: End, resumes: bool, sink: &MemorySink) -> Result<TrainSummary> {
    // The examples differ from epoch to epoch.
    let open =
        |epoch, first| Ok((first as i64..11).map(move |number| Ok(20 * epoch as i64 + number)));
    let mut loader = StreamLoader::seekable(3, open)?
        .shuffle(5, 4)
        .with_num_batches(4)
        .map_in_threads(2, |numbers| {
            let rows: Vec<_> = numbers.into_iter().map(batch).collect();
            Ok(Tensor::cat(&rows, 0)
                .to_kind(Kind::Float)
                .reshape([-1, 3, INPUT]))
        })
        .prefetch(1);
    train(folder, end, resumes, sink, &mut loader, 4)
}

#[test]
fn lines_of_files() {
    survives(lines, 10, 10);
}

#[test]
fn a_stream_with_a_buffer() {
    survives(stream, 8, 8);
}
