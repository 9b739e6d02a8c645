//! The example `text_classification` from end to end, on a tiny encoder and sentences of the
//! tests' own.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use common::example::{executable, finish, Finished};
use tch::nn::VarStore;
use tch::{Device, Tensor};
use tempfile::TempDir;
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertModel};
use textbrewer::weights;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const GOOD: [&str; 4] = ["good", "funny", "warm", "great"];
const BAD: [&str; 4] = ["bad", "dull", "cold", "awful"];
const OTHER: [&str; 8] = ["a", "film", "the", "plot", "is", "very", "##s", "."];
const LONGEST: i64 = 64;

/// A folder with `data`, `encoder` and room for models.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Bench {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(bench.path("data")).unwrap();
        bench.write("data/train.tsv", sentences(10));
        bench.write("data/dev.tsv", sentences(2));
        let variables = VarStore::new(Device::Cpu);
        let model = seeded(|| BertModel::new(&variables.root(), &config()).unwrap());
        let folder = bench.path("encoder");
        model.save_pretrained(&variables, folder).unwrap();
        bench.write("encoder/vocab.txt", vocabulary());
        bench
    }

    /// Puts a classifier in the folder `teacher`, which is as if it had been fine-tuned.
    fn with_teacher(self, config: &BertConfig) -> Self {
        let variables = VarStore::new(Device::Cpu);
        let root = variables.root();
        let model = seeded(|| BertForSequenceClassification::new(&root, config).unwrap());
        let folder = self.path("teacher");
        model.save_pretrained(&variables, folder).unwrap();
        self.write("teacher/vocab.txt", vocabulary());
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs the example; names that begin with `@` are paths in the folder.
    fn run(&self, arguments: &str) -> Finished {
        let mut command = Command::new(executable("text_classification"));
        command.args(["--device", "cpu", "--batch-size", "8"]);
        command.arg("--output-dir").arg(self.path("models"));
        for argument in arguments.split_whitespace() {
            match argument.strip_prefix('@') {
                Some(name) => command.arg(self.path(name)),
                None => command.arg(argument),
            };
        }
        finish(command)
    }

    fn fails_with(&self, arguments: &str, expected: &[&str]) {
        let finished = self.run(arguments);
        assert!(matches!(finished.code, Some(1 | 2)), "{}", finished.out);
        let first = finished.err.lines().next().unwrap_or_default();
        for part in expected {
            assert!(first.contains(part), "expected `{part}` in: {first}");
        }
    }
}

/// Makes a model with values that are the same in every run: all tests of a process draw
/// from one generator.
fn seeded<M>(make: impl FnOnce() -> M) -> M {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(1);
    make()
}

fn config() -> BertConfig {
    BertConfig::default()
        .vocab_size((SPECIAL.len() + GOOD.len() + BAD.len() + OTHER.len()) as i64)
        .hidden_size(32)
        .num_attention_heads(2)
        .intermediate_size(64)
        .num_hidden_layers(4)
        .max_position_embeddings(LONGEST)
        .hidden_dropout_prob(0.0)
        .attention_probs_dropout_prob(0.0)
        // The usual 0.02 is for wide models.
        .initializer_range(0.1)
}

fn vocabulary() -> String {
    [&SPECIAL[..], &GOOD, &BAD, &OTHER].concat().join("\n") + "\n"
}

/// Eight times as many lines, each positive or negative for one word in it.
fn sentences(rounds: usize) -> String {
    let mut text = "sentence\tlabel\n".to_owned();
    for round in 0..rounds {
        let very = "very ".repeat(round % 3);
        for (label, words) in [(0, BAD), (1, GOOD)] {
            for word in words {
                writeln!(text, "The films is {very}{word} . \t{label}").unwrap();
            }
        }
    }
    text
}

fn values(folder: &Path) -> BTreeMap<String, Tensor> {
    weights::read(folder.join("model.safetensors")).unwrap()
}

/// The accuracy in the line of the table that begins with `name`.
fn accuracy<'a>(out: &'a str, name: &str) -> Option<&'a str> {
    let (_, table) = out.split_once("steps/s")?;
    let line = table.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()
}

#[test]
fn teacher_and_students_learn_and_are_saved() {
    let bench = Bench::new();
    let finished = bench.run(
        "--data-dir @data --encoder @encoder --teacher-epochs 12 --epochs 12 \
         --teacher-learning-rate 3e-3 --learning-rate 3e-3 --train-examples 64 \
         --student-layers 0,2 --log-dir @logs --predict awful",
    );
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    let out = &finished.out;
    assert!(
        out.contains(": 64 sentences to train on, 16 to evaluate on"),
        "{out}"
    );
    // Twelve checkpoints for each of three models.
    assert_eq!(out.matches("epoch ").count(), 36, "{out}");
    for name in ["teacher", "student, labels only", "student, distilled"] {
        assert_eq!(accuracy(out, name), Some("100.0"), "{name}: {out}");
        let judged = format!("  {name:<24}negative");
        let wanted = name != "student, labels only";
        assert_eq!(out.contains(&judged), wanted, "{name}: {out}");
    }

    for (folder, layers) in [
        ("teacher", 4),
        ("student_labels", 2),
        ("student_distilled", 2),
    ] {
        let path = bench.path("models").join(folder);
        let variables = VarStore::new(Device::Cpu);
        let loaded = BertForSequenceClassification::from_pretrained(&variables, &path);
        let (model, report) = loaded.unwrap();
        assert_eq!(model.config().num_hidden_layers, layers, "{folder}");
        assert_eq!(model.config().label_count(), 2, "{folder}");
        assert!(report.missing.is_empty() && report.unexpected.is_empty());
        assert!(path.join("vocab.txt").exists(), "{folder}");
        assert!(
            path.join("checkpoints/gs96.safetensors").exists(),
            "{folder}"
        );
        let logs = std::fs::read_dir(bench.path("logs").join(folder));
        assert_eq!(logs.unwrap().count(), 1, "{folder}");
    }
}

#[test]
fn a_student_starts_from_the_chosen_layers_of_a_teacher_that_was_saved() {
    let bench = Bench::new().with_teacher(&config().num_labels(2));
    // Nothing is learned at rate 0, so the start is what is saved.
    let finished = bench.run(
        "--data-dir @data --teacher @teacher --no-baseline --epochs 1 --learning-rate 0 \
         --student-layers 1,3",
    );
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    assert!(!bench.path("models/teacher").exists());
    assert!(!bench.path("models/student_labels").exists());
    assert!(accuracy(&finished.out, "student, labels only").is_none());

    let teacher = values(&bench.path("teacher"));
    let student = values(&bench.path("models/student_distilled"));
    let mut layers = 0;
    for (name, value) in &student {
        let source = match name.strip_prefix("bert.encoder.layer.") {
            Some(rest) => {
                layers += 1;
                let (layer, rest) = rest.split_once('.').unwrap();
                let from = [1, 3][layer.parse::<usize>().unwrap()];
                format!("bert.encoder.layer.{from}.{rest}")
            }
            None => name.clone(),
        };
        assert_eq!(value, &teacher[&source], "{name} from {source}");
    }
    // Sixteen weights a layer.
    assert_eq!(layers, 32);
}

#[test]
fn a_tokenizer_file_cuts_as_the_vocabulary_does_whatever_lengths_it_asks_for() {
    let bench = Bench::new().with_teacher(&config().num_labels(2));
    // Longer than the model allows, so it fails if it is not cut.
    bench.write(
        "data/dev.tsv",
        format!(
            "sentence\tlabel\n{}\t1\nGOOD Films.\t1\n",
            "a film ".repeat(40)
        ),
    );
    let arguments = "--data-dir @data --teacher @teacher --no-baseline --epochs 1 \
                     --learning-rate 0 --student-layers 0,2 --predict GOOD,films.";
    let by_vocabulary = bench.run(arguments);
    assert_eq!(by_vocabulary.code, Some(0), "{}", by_vocabulary.err);

    let model = WordPiece::from_file(&bench.path("teacher/vocab.txt").to_string_lossy());
    let mut tokenizer = Tokenizer::new(model.build().unwrap());
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, true)));
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    let (separator, class) = (("[SEP]".to_owned(), 3), ("[CLS]".to_owned(), 2));
    tokenizer.with_post_processor(Some(BertProcessing::new(separator, class)));
    // More than the model allows, and less than the sentences have.
    tokenizer.with_padding(Some(PaddingParams {
        strategy: PaddingStrategy::Fixed(128),
        ..PaddingParams::default()
    }));
    let truncation = TruncationParams {
        max_length: 3,
        ..TruncationParams::default()
    };
    tokenizer.with_truncation(Some(truncation)).unwrap();
    tokenizer
        .save(bench.path("teacher/tokenizer.json"), false)
        .unwrap();
    std::fs::remove_file(bench.path("teacher/vocab.txt")).unwrap();
    let by_file = bench.run(arguments);
    assert_eq!(by_file.code, Some(0), "{}", by_file.err);

    let judged = |out: &str| out[out.find("GOOD,films.").unwrap()..].to_owned();
    assert_eq!(judged(&by_file.out), judged(&by_vocabulary.out));
    for name in ["teacher", "student, distilled"] {
        let both = [&by_file.out, &by_vocabulary.out].map(|out| accuracy(out, name));
        assert_eq!(both[0], both[1], "{name}");
    }
    assert!(bench
        .path("models/student_distilled/tokenizer.json")
        .exists());
}

#[test]
fn configurations_come_from_files() {
    let bench = Bench::new().with_teacher(&config().num_labels(2));
    let arguments =
        "--data-dir @data --teacher @teacher --no-baseline --epochs 2 --student-layers 2 \
                     --distill-config @distill.json --train-config @train.json";
    bench.write(
        "distill.json",
        r#"{"temperature": 3, "kd_loss_type": "mse"}"#,
    );
    bench.write(
        "train.json",
        r#"{"ckpt_frequency": 2, "output_dir": "unused"}"#,
    );
    let finished = bench.run(arguments);
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    assert!(finished.out.contains(": 3\n"), "{}", finished.out);
    assert!(finished.out.contains("kd_loss_type                : mse"));
    assert_eq!(finished.out.matches("epoch ").count(), 4);
    assert!(!Path::new("unused").exists(), "--output-dir goes first");

    // The command line goes before the file here too.
    bench.write("train.json", r#"{"fp16": true}"#);
    let both = format!("{arguments} --precision bf16 --teacher-precision float32");
    bench.fails_with(&both, &["fp16: is true, and `precision` is `bf16`"]);
    bench.write("train.json", r#"{"precision": "fp16"}"#);
    let finished = bench.run(&both);
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    bench.fails_with(&format!("{arguments} --precision half"), &["half"]);

    bench.write("train.json", r#"{"ckpt_frequence": 2}"#);
    bench.fails_with(arguments, &["error: ", "train.json", "ckpt_frequence"]);
    let both = format!("{arguments} --temperature 2");
    bench.fails_with(&both, &["--temperature", "--distill-config"]);
}

#[test]
fn a_malformed_line_is_named() {
    let bench = Bench::new();
    let cases: [(&str, &[u8], &[&str]); 8] = [
        (
            "train",
            b"a film . 1\n",
            &["train.tsv:1: ", "header", "a film . 1"],
        ),
        (
            "train",
            b"sentence\tlabel\na\t1\na film\n",
            &["train.tsv:3: ", "got 1 field"],
        ),
        (
            "train",
            b"sentence\tlabel\na\t1\t0\n",
            &["train.tsv:2: ", "got 3 field"],
        ),
        (
            "train",
            b"sentence\tlabel\na\t2\n",
            &["train.tsv:2: ", "0 or 1", "`2`"],
        ),
        (
            "train",
            b"sentence\tlabel\n \t1\n",
            &["train.tsv:2: ", "empty"],
        ),
        (
            "train",
            b"sentence\tlabel\na\t1\n\xff\t0\n",
            &["train.tsv:3: ", "utf-8"],
        ),
        (
            "train",
            b"sentence\tlabel\n",
            &["train.tsv: ", "no sentence"],
        ),
        (
            "dev",
            b"sentence\tlabel\r\na \"b\t1\r\nc\td\r\n",
            &["dev.tsv:3: ", "`d`"],
        ),
    ];
    for (name, content, expected) in cases {
        bench.write("data/train.tsv", sentences(1));
        bench.write(&format!("data/{name}.tsv"), content);
        bench.fails_with("--data-dir @data --encoder @encoder", expected);
    }
}

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    let bench = Bench::new().with_teacher(&config().num_labels(3));
    let expected: [(&str, &[&str]); 6] = [
        (
            "--data-dir @none --encoder @encoder",
            &["error: ", "none", "train.tsv"],
        ),
        (
            "--data-dir @data --encoder @none",
            &["error: ", "none", "vocab.txt"],
        ),
        (
            "--data-dir @data --teacher @encoder",
            &["encoder", "classifier", "--encoder"],
        ),
        (
            "--data-dir @data --teacher @teacher",
            &["teacher", "3 labels"],
        ),
        (
            "--data-dir @data --encoder @encoder --train-examples 7",
            &["train.tsv", "7 sentences", "--batch-size 8"],
        ),
        ("--data-dir @data", &["required"]),
    ];
    for (arguments, expected) in expected {
        bench.fails_with(arguments, expected);
    }
    let encoder = "--data-dir @data --encoder @encoder";
    bench.fails_with(
        &format!("{encoder} --max-length 65"),
        &["--max-length", "64"],
    );
    bench.write("encoder/vocab.txt", vocabulary() + "more\nwords\n");
    bench.fails_with(encoder, &["encoder", "23 ids", "21"]);
    bench.write("encoder/vocab.txt", "[UNK]\n[CLS]\nfilm\n");
    bench.fails_with(encoder, &["vocab.txt", "[SEP]"]);
    std::fs::remove_file(bench.path("encoder/vocab.txt")).unwrap();
    bench.fails_with(
        encoder,
        &["encoder", "neither tokenizer.json nor vocab.txt"],
    );
}

#[test]
fn a_layer_that_the_teacher_lacks_is_named_before_anything_is_trained() {
    let bench = Bench::new();
    let finished = bench.run("--data-dir @data --encoder @encoder --student-layers 0,4");
    assert_eq!(finished.code, Some(1));
    assert_eq!(
        finished.err,
        "error: --student-layers: there is no layer 4; the teacher's are 0 to 3\n"
    );
    assert!(!bench.path("models").exists());
}
