//! Reading comprehension, on files and a vocabulary of the tests' own.

mod answers;
mod decode;
mod files;
mod predictions;
mod windows;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tasks::Task;
use tasks::pieces::Pieces;
use tasks::reading::{Answer, Question, Reading, Span};
use tempfile::TempDir;

/// A folder for the files of one test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A tokenizer of words that are split to `un ##believ ##able`, of letters, and of some
    /// Chinese characters.
    fn pieces(&self, task: &Reading, max_length: usize, stride: usize) -> Pieces {
        self.try_pieces(task, max_length, stride).unwrap()
    }

    fn try_pieces(
        &self,
        task: &Reading,
        max_length: usize,
        stride: usize,
    ) -> tasks::Result<Pieces> {
        let mut words: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            .iter()
            .chain(&["un", "##believ", "##able", "who", "what", "the", "river"])
            .map(|word| word.to_string())
            .collect();
        for c in ('a'..='z').chain('0'..='9') {
            words.extend([c.to_string(), format!("##{c}")]);
        }
        words.extend(
            ".,?!-《》。，？范廷颂是何时被任为主教的年臺灣在哪裡亞洲東部島"
                .chars()
                .map(String::from),
        );
        self.write("vocab.txt", words.join("\n"));
        Pieces::from_folder(self.0.path(), task.truncation(max_length, stride))
    }
}

/// A file with one context.
fn squad(context: &str, qas: Value) -> String {
    let paragraphs = json!([{"context": context, "qas": qas}]);
    json!({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}).to_string()
}

/// A question whose answer is the first place of `answer` in the context.
fn question(question: &str, context: &str, answer: &str) -> Question {
    let byte = context.find(answer).unwrap();
    let start = context[..byte].chars().count();
    let end = start + answer.chars().count();
    Question {
        id: "q".to_owned(),
        question: question.to_owned(),
        context: Arc::from(context),
        answers: vec![Answer {
            text: answer.to_owned(),
            span: Some(Span { start, end }),
        }],
    }
}

/// The characters of a span.
fn part(text: &str, span: Span) -> String {
    text.chars()
        .skip(span.start)
        .take(span.end - span.start)
        .collect()
}
