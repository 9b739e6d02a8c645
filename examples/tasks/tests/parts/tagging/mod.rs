//! Sequence labelling.

use std::path::{Path, PathBuf};

use ndarray::Array2;
use tasks::pieces::Pieces;
use tasks::tagging::{Sentence, Window};
use tasks::{Tagging, Task};
use tempfile::TempDir;

mod features;
mod predictions;
mod reader;
mod settings;

/// Two documents in four columns.
const CONLL: &str = "\
-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
lamb NN I-NP O
. . O O

-DOCSTART- -X- -X- O

George NNP B-NP B-PER
Washington NNP I-NP I-PER

Sleeps VBZ B-VP O
";

/// A tokenizer that makes letters small, with a piece for each of these lines.
const VOCABULARY: [&str; 22] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "eu", "rejects", "german", "lamb", ".", "george",
    "wash", "##ing", "##ton", "sleep", "##s", "-", "北", "京", "你", "好", "a",
];

const MASKED: i64 = -100;

/// A folder with one file, and the path of the file.
fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn read(task: &Tagging, content: impl AsRef<[u8]>) -> tasks::Result<Vec<Sentence>> {
    let (_folder, path) = file(content);
    task.read(&path)
}

/// What is wrong with a file: the message without the folder.
fn refused(task: &Tagging, content: impl AsRef<[u8]>) -> String {
    let (folder, path) = file(content);
    let error = task.read(&path).unwrap_err().to_string();
    let folder = format!("{}/", folder.path().display());
    error.strip_prefix(&folder).unwrap().to_owned()
}

fn tokenizer(task: &Tagging, max_length: usize, stride: usize) -> Pieces {
    let folder = tempfile::tempdir().unwrap();
    vocabulary(folder.path());
    Pieces::from_folder(folder.path(), task.truncation(max_length, stride)).unwrap()
}

fn vocabulary(folder: &Path) {
    std::fs::write(folder.join("vocab.txt"), VOCABULARY.join("\n")).unwrap();
}

fn tokens(window: &Window) -> Vec<&'static str> {
    let ids = window.encoded.ids.iter();
    ids.map(|id| VOCABULARY[*id as usize]).collect()
}

/// Scores by which each word gets its true tag, and all other pieces another.
fn true_scores(task: &Tagging, window: &Window) -> Array2<f32> {
    let mut scores = Array2::zeros((window.encoded.ids.len(), task.outputs()));
    scores.column_mut(task.outputs() - 1).fill(1.0);
    for (place, tag) in window.words.iter().zip(window.tags.as_ref().unwrap()) {
        scores[[place.position, *tag as usize]] = 2.0;
    }
    scores
}

/// The tags that a perfect model would give.
fn perfect(task: &Tagging, pieces: &Pieces, sentence: &Sentence) -> Vec<usize> {
    let windows = task.features(pieces, sentence).unwrap();
    let scores: Vec<_> = windows.iter().map(|w| true_scores(task, w)).collect();
    let parts: Vec<_> = windows.iter().zip(&scores).collect();
    task.predict(sentence, &parts).unwrap()
}
