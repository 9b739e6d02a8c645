//! The files of the examples on real tasks: what is read is cut to pieces, answered at random,
//! written and read again.

#[path = "../../../tests/fuzz_cases/harness.rs"]
mod harness;
#[path = "../../../tests/fuzz_cases/mutate.rs"]
mod mutate;
#[path = "../../../tests/fuzz_cases/values.rs"]
mod values;

use std::fmt::Debug;
use std::path::Path;

use ndarray::Array2;
use serde_json::json;
use tasks::classification::Classification;
use tasks::pieces::Pieces;
use tasks::reading::Reading;
use tasks::recipe::Recipe;
use tasks::tagging::Tagging;
use tasks::{Result, Task};
use tempfile::TempDir;

use harness::fuzz;
use mutate::Mutator;

const PAIRS: [&str; 2] = [
    "index\tsentence1\tsentence2\tgold_label\n0\ta man eats\the eats\tentailment\n\
     1\ta b\tc\tneutral\n2\tthe man\tnobody\tcontradiction\n",
    "sentence1\tsentence2\nit is a man\tso it is",
];

const WORDS: [&str; 2] = [
    "-DOCSTART- -X- -X- O\n\na NN B-NP B-PER\nman NN I-NP I-PER\neats V B-VP O\n\n\
     the DT B-NP B-ORG\nso X B-NP B-LOC\n",
    "he PRP B-NP O\n\nis VB B-VP B-MISC\n",
];

/// The files of one task, and a tokenizer.
struct Bench<T> {
    folder: TempDir,
    task: T,
    /// How many rows the scores of a feature have, where it is not one for each piece.
    rows: Option<usize>,
    pieces: Pieces,
}

impl<T: Task> Bench<T> {
    fn new(task: T, rows: Option<usize>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words = "[PAD] [UNK] [CLS] [SEP] [MASK] a man eats he is the it so 北 京 ##s ##e";
        let words: Vec<_> = words.split(' ').collect();
        std::fs::write(folder.path().join("vocab.txt"), words.join("\n")).unwrap();
        let pieces = Pieces::from_folder(folder.path(), task.truncation(16, 4)).unwrap();
        Bench {
            folder,
            task,
            rows,
            pieces,
        }
    }

    fn file(&self, content: &[u8]) -> std::path::PathBuf {
        let file = self.folder.path().join("file");
        std::fs::write(&file, content).unwrap();
        file
    }

    /// Answers by scores that depend on the pieces alone.
    fn answers(&self, records: &[T::Record]) -> Result<Vec<T::Prediction>> {
        let answer = |record| {
            let features = self.task.features(&self.pieces, record)?;
            let scores: Vec<_> = features
                .iter()
                .map(|feature| {
                    let ids = &self.task.encoded(feature).ids;
                    let rows = self.rows.unwrap_or(ids.len());
                    Array2::from_shape_fn((rows, self.task.outputs()), |(row, output)| {
                        let id = ids.get(row).copied().unwrap_or_default() as usize;
                        ((id * 7 + row * 3 + output * 5) % 11) as f32
                    })
                })
                .collect();
            let parts: Vec<_> = features.iter().zip(&scores).collect();
            if let Some(first) = features.first() {
                let encoded = self.task.encoded(first);
                let inputs = self.pieces.batch(&[encoded])?;
                self.task.targets(&[first], encoded.ids.len(), inputs)?;
            }
            self.task.predict(record, &parts)
        };
        records.iter().map(answer).collect()
    }

    /// From a file of data to predictions, and to the file of predictions and back.
    fn whole_way(&self, input: &[u8]) -> Result<()> {
        let records = self.task.read(&self.file(input))?;
        let predictions = self.answers(&records)?;
        let measured = self.task.measure(&records, &predictions);
        let truths = records.iter().filter(|record| self.task.has_truth(record));
        assert!(measured.is_ok() || truths.count() < records.len());
        let text = self.task.write(&records, &predictions)?;
        let again = self
            .task
            .read_predictions(&self.file(text.as_bytes()), &records);
        let again = again.expect("what was written can be read");
        assert_eq!(self.task.write(&records, &again)?, text);
        Ok(())
    }

    /// A file of predictions for the records of `data`.
    fn predictions(&self, data: &str) -> (Vec<T::Record>, String) {
        let records = self.task.read(&self.file(data.as_bytes())).unwrap();
        let predictions = self.answers(&records).unwrap();
        let text = self.task.write(&records, &predictions).unwrap();
        (records, text)
    }

    fn measure(&self, records: &[T::Record], input: &[u8]) -> Result<()> {
        let predictions = self.task.read_predictions(&self.file(input), records)?;
        self.task.measure(records, &predictions).map(|_| ())
    }
}

fn squad(context: &str) -> String {
    let answer = |text: &str| json!({"text": text, "answer_start": context.find(text).unwrap()});
    let qas = json!([
        {"id": "a", "question": "is it so", "answers": [answer("man")]},
        {"id": "b", "question": "who eats", "answers": [answer("he"), answer("man")]},
    ]);
    let paragraphs = json!([{"context": context, "qas": qas}]);
    json!({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}).to_string()
}

fn texts() -> [String; 2] {
    [
        squad("a man eats the man. he is so"),
        squad("北京 man eats so, he is man"),
    ]
}

#[test]
fn files_of_labels() {
    let bench = Bench::new(Classification::mnli(), Some(1));
    let mutate = |mutator: &mut Mutator| mutator.lines(&PAIRS);
    fuzz("GLUE", 2000, mutate, |input| bench.whole_way(input));
    let (records, text) = bench.predictions(PAIRS[0]);
    let mutate = |mutator: &mut Mutator| mutator.lines(&[&text]);
    fuzz("predictions of labels", 2000, mutate, |input| {
        bench.measure(&records, input)
    });
}

#[test]
fn files_of_tags() {
    let bench = Bench::new(Tagging::conll2003(), None);
    let mutate = |mutator: &mut Mutator| mutator.lines(&WORDS);
    fuzz("CoNLL-2003", 2000, mutate, |input| bench.whole_way(input));
    let (records, text) = bench.predictions(WORDS[0]);
    let mutate = |mutator: &mut Mutator| mutator.lines(&[&text]);
    fuzz("predictions of tags", 2000, mutate, |input| {
        bench.measure(&records, input)
    });
}

#[test]
fn files_of_questions() {
    let texts = texts();
    let corpus = [texts[0].as_str(), texts[1].as_str()];
    // The patterns of CMRC's metric take long to build.
    let tasks = [
        ("SQuAD", Reading::squad(), 1000),
        ("CMRC", Reading::cmrc2018(), 50),
    ];
    for (name, task, inputs) in tasks {
        let bench = Bench::new(task, None);
        let mutate = |mutator: &mut Mutator| mutator.json(&corpus);
        fuzz(name, inputs, mutate, |input| bench.whole_way(input));
        let (records, text) = bench.predictions(corpus[0]);
        let mutate = |mutator: &mut Mutator| mutator.json(&[&text]);
        let name = format!("predictions of {name}");
        fuzz(&name, inputs, mutate, |input| {
            bench.measure(&records, input)
        });
    }
}

#[test]
fn recipes() {
    let corpus = [
        include_str!("../recipes/sst2/distill.json"),
        include_str!("../recipes/squad/emd.json"),
        r#"{"task": {"columns": ["a"], "labels": ["0", "1"], "metric": "f1", "header": ["a"]},
            "layers": [0, 2], "train_size": 5, "keep": "best", "training": {"fp16": true}}"#,
        r#"{"task": {"train": "a", "dev": "b", "tags": ["O", "B-X"],
            "columns": {"count": 2, "word": 0, "tag": 1, "separator": "tab"}}}"#,
        r#"{"task": {"train": "a", "dev": "b", "language": "english", "n_best": 3}}"#,
    ];
    let mutate = |mutator: &mut Mutator| mutator.json(&corpus);
    fuzz("Recipe", 4000, mutate, |input| {
        let text = String::from_utf8_lossy(input);
        let recipe = Recipe::from_json_str(Path::new("mine.json"), &text)?;
        if let Some(task) = &recipe.task {
            fn parse<T: serde::de::DeserializeOwned + Debug>(task: &serde_json::Value) {
                let _ =
                    serde_path_to_error::deserialize::<_, T>(task).map(|task| format!("{task:?}"));
            }
            parse::<Classification>(task);
            parse::<Tagging>(task);
            parse::<Reading>(task);
        }
        for teacher in [(1, 4), (6, 384), (12, 768)] {
            let _ = recipe.distill_config(teacher, (3, 384));
            let _ = recipe.distill_config(teacher, (12, 312));
        }
        Ok::<_, tasks::Error>(())
    });
}
