//! The examples on real tasks from end to end, on a tiny encoder and files of the tests' own:
//! a teacher and a student are trained, distilled, evaluated and asked, and files of perfect and
//! of empty predictions are measured. `tests/tasks.rs` tests the parts.

mod common;
#[path = "task_cases/interrupts.rs"]
mod interrupts;

use std::path::PathBuf;
use std::process::Command;

use common::example::{executable, finish, Finished};
use serde_json::{json, Value};
use tch::nn::VarStore;
use tch::Device;
use tempfile::TempDir;
use textbrewer::models::{BertConfig, BertModel, ModelType};
use textbrewer::weights;

const WORDS: &str = "[PAD] [UNK] [CLS] [SEP] [MASK] a the film plot is very good bad dull great \
    funny cold warm who where lives in anna london berlin works at bank . ? 王 明 住 在 北 京 上 \
    海 谁 哪 里 的 人 说 。 ？";

/// A folder with an encoder, a recipe, data, and room for models.
struct Bench {
    folder: TempDir,
    example: &'static str,
}

impl Bench {
    fn new(example: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench { folder, example };
        std::fs::create_dir(bench.path("data")).unwrap();
        let variables = VarStore::new(Device::Cpu);
        let config = sizes(BertConfig::default());
        tch::manual_seed(1);
        let model = BertModel::new(&variables.root(), &config).unwrap();
        model
            .save_pretrained(&variables, bench.path("encoder"))
            .unwrap();
        bench.write(
            "encoder/vocab.txt",
            WORDS.split_whitespace().collect::<Vec<_>>().join("\n"),
        );
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The example with `@name` for the path of a name in the folder.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(executable(self.example));
        for argument in arguments.split_whitespace() {
            match argument.strip_prefix('@') {
                Some(name) => command.arg(self.path(name)),
                None => command.arg(argument),
            };
        }
        command
    }

    fn run(&self, arguments: &str) -> Finished {
        finish(self.command(arguments))
    }

    fn out(&self, arguments: &str) -> String {
        let finished = self.run(arguments);
        assert_eq!(finished.code, Some(0), "{arguments}: {}", finished.err);
        finished.out
    }

    fn fails_with(&self, arguments: &str, expected: &[&str]) {
        let finished = self.run(arguments);
        assert_eq!(finished.code, Some(1), "{arguments}: {}", finished.out);
        for expected in expected {
            assert!(
                finished.err.contains(expected),
                "{arguments}: {}",
                finished.err
            );
        }
    }

    /// A figure of `evaluate`.
    fn figure(&self, name: &str, arguments: &str) -> f64 {
        let out = self.out(&format!("evaluate --cache-dir none {arguments}"));
        let line = out
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("no `{name}` in {out}"));
        line.trim().parse().unwrap()
    }

    fn results(&self, model: &str) -> Value {
        self.json(&format!("{model}/results.json"))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Trains a teacher, a student on labels, and distills another; checks what all examples
    /// promise of it. `dev` is the file with the truth, `main` the figure of a model.
    fn whole_way(&self, dev: &str, main: &str) {
        let common = "--data-dir @data --epochs 2 --batch-size 4 --max-length 32 \
                      --stride 8 --cache-dir @features";
        let out = self.out(&format!(
            "train --encoder @encoder --output-dir @teacher {common}"
        ));
        assert!(out.contains("saved in"), "{out}");
        self.out(&format!(
            "train --encoder @teacher --recipe labels --output-dir @labels {common}"
        ));
        self.out(&format!(
            "distill --teacher @teacher --output-dir @student {common}"
        ));
        for model in ["teacher", "labels", "student"] {
            let results = self.results(model);
            let said = results["metrics"][main].as_f64().unwrap();
            let again = self.figure(main, &format!("--model @{model} --file @data/{dev}"));
            assert!((said - again).abs() < 1e-3, "{model}: {said} and {again}");
            assert_eq!(results["curve"].as_array().unwrap().len(), 2);
            assert!(self.path(&format!("{model}/vocab.txt")).exists());
        }
        // It was trained: layers of the teacher, but with other values.
        let layers = |model: &str| -> Vec<_> {
            let weights = self.path(&format!("{model}/model.safetensors"));
            weights::read(weights).unwrap().into_iter().collect()
        };
        let (teacher, student) = (layers("teacher"), layers("student"));
        assert!(student.len() < teacher.len());
        assert_ne!(student, layers("labels"));
        // Four files: train and dev by two tokenizer folders (the encoder's, the teacher's) whose
        // files are equal are two.
        let kept = std::fs::read_dir(self.path("features")).unwrap().count();
        assert_eq!(kept, 2);

        self.out(&format!(
            "predict --model @student --file @data/{dev} --output @predictions --cache-dir none"
        ));
        let of_file = self.figure(
            main,
            &format!("--predictions @predictions --file @data/{dev}"),
        );
        let of_model = self.figure(main, &format!("--model @student --file @data/{dev}"));
        assert!(
            (of_file - of_model).abs() < 1e-3,
            "{of_file} and {of_model}"
        );
    }

    /// The other students and distillers end well.
    fn variants(&self) {
        let common = "--data-dir @data --epochs 1 --batch-size 4 --max-length 32 --stride 8 \
                      --cache-dir none";
        let distill = format!("distill --teacher @teacher {common}");
        self.out(&format!(
            "{distill} --teacher @teacher --output-dir @of_two"
        ));
        self.out(&format!("{distill} --recipe emd --output-dir @by_emd"));
        self.out(&format!("{distill} --student T6 --output-dir @t6"));
        let values = weights::read(self.path("t6/model.safetensors")).unwrap();
        assert_eq!(
            values.len(),
            weights::read(self.path("teacher/model.safetensors"))
                .unwrap()
                .len()
        );
    }
}

/// Six tiny layers.
fn sizes(config: BertConfig) -> BertConfig {
    config
        .vocab_size(WORDS.split_whitespace().count() as i64)
        .hidden_size(8)
        .num_attention_heads(2)
        .intermediate_size(16)
        .num_hidden_layers(6)
        .max_position_embeddings(64)
}

fn sentences(rounds: usize) -> String {
    let mut text = "sentence\tlabel\n".to_owned();
    for _ in 0..rounds {
        for (words, label) in [
            ("good", 1),
            ("great", 1),
            ("funny", 1),
            ("bad", 0),
            ("dull", 0),
            ("cold", 0),
        ] {
            text.push_str(&format!("the film is very {words} .\t{label}\n"));
        }
    }
    text
}

#[test]
fn sst2() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(4));
    bench.write("data/dev.tsv", sentences(2));
    bench.whole_way("dev.tsv", "accuracy");
    bench.variants();
    let out = bench.out("predict --model @student --cache-dir none funny");
    assert!(out.starts_with("0  ") || out.starts_with("1  "), "{out}");

    let lines = ["0\t1", "1\t1", "2\t1", "3\t0", "4\t0", "5\t0"];
    bench.write(
        "perfect",
        format!("index\tprediction\n{}\n", lines.join("\n")),
    );
    bench.write("small.tsv", sentences(1));
    assert_eq!(
        bench.figure("accuracy", "--predictions @perfect --file @small.tsv"),
        100.0
    );
    bench.write("empty", "index\tprediction\n");
    bench.fails_with(
        "evaluate --predictions @empty --file @small.tsv",
        &["empty", "0 predictions for 6 records"],
    );
    // What a run in Python begins with: every batch, the first weights, the configuration.
    bench.out(
        "export --teacher @teacher --data-dir @data --output-dir @export --epochs 2 --batch-size 4 \
         --max-length 32 --cache-dir none",
    );
    let export: Value = bench.json("export/export.json");
    assert_eq!(export["steps"], 12);
    assert_eq!(export["distillation"]["temperature"], 8.0);
    let matches = export["distillation"]["intermediate_matches"].as_array();
    assert_eq!(matches.map(Vec::len), Some(8));
    let batches =
        |epoch| weights::read(bench.path(&format!("export/epoch00{epoch}.safetensors"))).unwrap();
    let (first, second) = (batches(1), batches(2));
    assert_eq!(first["000005.input_ids"].size(), [4, 8]);
    assert_ne!(first["000000.labels"], second["000000.labels"]);
    assert!(bench.path("export/student/model.safetensors").exists());

    bench.write("data/train.tsv", format!("{}a film\tgood\n", sentences(1)));
    bench.fails_with(
        "train --encoder @encoder --data-dir @data --output-dir @x --cache-dir none",
        &["train.tsv:8: ", "unknown label `good`; known are: 0, 1"],
    );
}

#[test]
fn mnli_and_other_pairs() {
    let bench = Bench::new("mnli");
    let lines = |rounds: usize| {
        let mut text = "index\tsentence1\tsentence2\tgold_label\n".to_owned();
        for index in 0..rounds {
            text.push_str(&format!(
                "{index}\tthe film is good\tthe film is great\tentailment\n"
            ));
            text.push_str(&format!(
                "{index}\tthe film is good\tthe film is bad\tcontradiction\n"
            ));
            text.push_str(&format!(
                "{index}\tthe film is good\tthe plot is dull\tneutral\n"
            ));
        }
        text
    };
    bench.write("data/train.tsv", lines(6));
    bench.write("data/dev_matched.tsv", lines(2));
    bench.whole_way("dev_matched.tsv", "accuracy");

    // Another task of GLUE, by its columns and labels.
    let text = "question\tsentence\tlabel\nwho is good ?\tanna is good\tentailment\n\
                where is anna ?\tthe film is bad\tnot_entailment\n";
    bench.write("qnli.tsv", text);
    bench.write(
        "qnli.json",
        json!({
            "task": {
                "columns": ["question", "sentence"], "labels": ["entailment", "not_entailment"],
                "train": "qnli.tsv", "dev": "qnli.tsv", "metric": "matthews",
            },
            "student": "full", "epochs": 1, "batch_size": 2, "max_length": 32,
        })
        .to_string(),
    );
    bench.write("data/qnli.tsv", text);
    bench.out(
        "train --encoder @encoder --recipe @qnli.json --data-dir @data --output-dir @qnli \
               --cache-dir none",
    );
    // The same labels in another order are other answers: of teachers this is not found out later.
    let swapped = std::fs::read_to_string(bench.path("qnli.json")).unwrap();
    let swapped = swapped.replace(
        r#"["entailment","not_entailment"]"#,
        r#"["not_entailment","entailment"]"#,
    );
    bench.write("swapped.json", swapped);
    bench.fails_with(
        "evaluate --model @qnli --recipe @swapped.json --file @qnli.tsv --cache-dir none",
        &["its labels are", "in the model's order"],
    );
    // In the same order they are the same, however they are written.
    let capitals = |name: &str| {
        let text = std::fs::read_to_string(bench.path(name)).unwrap();
        text.replace("entailment", "Entailment")
    };
    bench.write("capitals.json", capitals("qnli.json"));
    bench.write("capitals.tsv", capitals("qnli.tsv"));
    bench.figure(
        "matthews",
        "--model @qnli --recipe @capitals.json --file @capitals.tsv",
    );
    // The recipe is in the model's folder: it need not be named again.
    let matthews = bench.figure("matthews", "--model @qnli --file @qnli.tsv");
    assert!((-100.0..=100.0).contains(&matthews));
}

#[test]
fn conll2003() {
    let bench = Bench::new("conll2003");
    let text = "-DOCSTART- -X- -X- O\n\nanna NNP B-NP B-PER\nlives VBZ B-VP O\nin IN B-PP O\n\
                london NNP B-NP B-LOC\n. . O O\n\nthe DT B-NP O\nbank NN I-NP B-ORG\nis VBZ B-VP O\n\
                in IN B-PP O\nberlin NNP B-NP B-LOC\n\n";
    bench.write("data/train.txt", text.repeat(6));
    bench.write("data/valid.txt", text);
    bench.whole_way("valid.txt", "F1");
    bench.variants();
    let out = bench.out("predict --model @student --cache-dir none anna");
    assert!(out.contains("anna"), "{out}");

    let tagged = |tag: Option<&str>| -> String {
        let line = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [word, .., truth] => format!("{word}\t{}\n", tag.unwrap_or(truth)),
            _ => "\n".to_owned(),
        };
        text.lines().map(line).collect()
    };
    bench.write("perfect", tagged(None));
    assert_eq!(
        bench.figure("F1", "--predictions @perfect --file @data/valid.txt"),
        100.0
    );
    bench.write("empty", tagged(Some("O")));
    assert_eq!(
        bench.figure("F1", "--predictions @empty --file @data/valid.txt"),
        0.0
    );
}

#[test]
fn msra_ner() {
    let bench = Bench::new("msra_ner");
    let text =
        "王\tB-PER\n明\tI-PER\n住\tO\n在\tO\n北\tB-LOC\n京\tI-LOC\n。\tO\n\n上\tB-LOC\n海\tI-LOC\n\
                的\tO\n人\tO\n说\tO\n\n";
    let files = ["msra_train_bio.txt", "msra_dev_bio.txt"];
    bench.write(&format!("data/{}", files[0]), text.repeat(6));
    bench.write(&format!("data/{}", files[1]), text);
    bench.whole_way(files[1], "F1");
    bench.write("perfect", text);
    let file = format!("--file @data/{}", files[1]);
    assert_eq!(
        bench.figure("F1", &format!("--predictions @perfect {file}")),
        100.0
    );
    let empty: String = text
        .lines()
        .map(|line| {
            line.split_once('\t')
                .map_or("\n".into(), |(word, _)| format!("{word}\tO\n"))
        })
        .collect();
    bench.write("empty", empty);
    assert_eq!(
        bench.figure("F1", &format!("--predictions @empty {file}")),
        0.0
    );
}

/// Questions about one text, in SQuAD's format.
fn questions(context: &str, asked: &[(&str, &str)], rounds: usize) -> String {
    let mut number = 0;
    let paragraphs: Vec<Value> = (0..rounds)
        .map(|_| {
            let qas = asked.iter().map(|(question, answer)| {
                number += 1;
                let start = context
                    .find(answer)
                    .map(|byte| context[..byte].chars().count());
                json!({"id": format!("Q{number}"), "question": question,
                       "answers": [{"text": answer, "answer_start": start}]})
            });
            json!({"context": context, "qas": qas.collect::<Vec<_>>()})
        })
        .collect();
    json!({"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}).to_string()
}

fn reading(
    bench: &Bench,
    train: &str,
    dev: &str,
    context: &str,
    asked: &[(&str, &str)],
    main: &str,
) {
    bench.write(&format!("data/{train}"), questions(context, asked, 4));
    bench.write(&format!("data/{dev}"), questions(context, asked, 1));
    bench.whole_way(dev, main);
    let perfect: serde_json::Map<_, _> = (1..)
        .zip(asked)
        .map(|(number, (_, answer))| (format!("Q{number}"), json!(answer)))
        .collect();
    bench.write("perfect", Value::from(perfect).to_string());
    let file = format!("--file @data/{dev}");
    for figure in ["F1", "EM"] {
        assert_eq!(
            bench.figure(figure, &format!("--predictions @perfect {file}")),
            100.0
        );
    }
    bench.write("empty", "{}");
    assert_eq!(
        bench.figure(main, &format!("--predictions @empty {file}")),
        0.0
    );
}

#[test]
fn squad() {
    let bench = Bench::new("squad");
    let asked = [
        ("who lives in london ?", "anna"),
        ("where is the bank ?", "in berlin"),
    ];
    let context = "anna lives in london . the very great bank is in berlin .";
    reading(
        &bench,
        "train-v1.1.json",
        "dev-v1.1.json",
        context,
        &asked,
        "F1",
    );
    bench.variants();
    bench.out(
        "predict --model @student --file @data/dev-v1.1.json --output @answers --n-best @n_best \
         --cache-dir none",
    );
    let (answers, n_best) = (bench.json("answers"), bench.json("n_best"));
    assert_eq!(n_best["Q1"][0]["text"], answers["Q1"]);
    assert!(n_best["Q1"].as_array().unwrap().len() > 1);
}

#[test]
fn cmrc2018_with_drcd() {
    let bench = Bench::new("cmrc2018");
    let asked = [("谁住在北京？", "王明"), ("人在哪里？", "上海")];
    let context = "王明住在北京。人在上海。";
    let (train, dev) = ("cmrc2018_train.json", "cmrc2018_dev.json");
    reading(&bench, train, dev, context, &asked, "average");
    bench.write("drcd.json", questions(context, &asked, 2));
    let out = bench.out(
        "distill --teacher @teacher --data-dir @data --augment @drcd.json --epochs 1 --batch-size 4 \
         --max-length 32 --stride 8 --cache-dir none --output-dir @augmented",
    );
    assert!(out.contains("12 records to train on"), "{out}");
}

#[test]
fn students_without_layers_and_narrow_ones() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(2));
    bench.write("data/dev.tsv", sentences(1));
    let common = "--data-dir @data --epochs 1 --batch-size 4 --max-length 32 --stride 8 \
                      --cache-dir none";
    bench.out(&format!(
        "train --encoder @encoder --output-dir @teacher {common}"
    ));
    bench.write(
        "plain.json",
        r#"{"student": "BiGRU", "distillation": {"temperature": 8}}"#,
    );
    let plain = format!("distill --teacher @teacher --recipe @plain.json {common}");
    bench.out(&format!("{plain} --output-dir @gru"));
    let accuracy = bench.figure("accuracy", "--model @gru --file @data/dev.tsv");
    let said = bench.results("gru")["metrics"]["accuracy"]
        .as_f64()
        .unwrap();
    assert!((accuracy - said).abs() < 1e-3, "{accuracy} and {said}");

    // Narrower or wider than the teacher: a projection is trained along.
    let narrow = format!("distill --teacher @teacher --student T4-tiny {common}");
    bench.out(&format!("{narrow} --output-dir @tiny"));
    bench.out(&format!(
        "distill --teacher @teacher --student T12-nano {common} --output-dir @nano"
    ));
    let out = bench.out(&format!(
        "distill --teacher @teacher --student BiGRU {common} --output-dir @gru2"
    ));
    assert!(out.contains("a BiGRU has no layers"), "{out}");
    bench.fails_with(
        &format!("{narrow} --layers 0,1,2,3 --output-dir @x"),
        &["layers: a T4-tiny has not the shape of this teacher's layers"],
    );
}

#[test]
fn encoders_of_the_family_and_sixteen_bits() {
    let bench = Bench::new("conll2003");
    let text = "anna NNP B-NP B-PER\nlives VBZ B-VP O\n\nberlin NNP B-NP B-LOC\nis VBZ B-VP O\n\n";
    bench.write("data/train.txt", text.repeat(4));
    bench.write("data/valid.txt", text);
    let common = "--data-dir @data --epochs 1 --batch-size 4 --max-length 32 --cache-dir none \
                  --precision bf16";
    for kind in [ModelType::DistilBert, ModelType::Electra] {
        let name = format!("{kind:?}");
        let config = sizes(BertConfig::new(kind));
        let variables = VarStore::new(Device::Cpu);
        let model = BertModel::new(&variables.root(), &config).unwrap();
        model
            .save_pretrained(&variables, bench.path(&name))
            .unwrap();
        std::fs::copy(
            bench.path("encoder/vocab.txt"),
            bench.path(&format!("{name}/vocab.txt")),
        )
        .unwrap();
        bench.out(&format!(
            "train --encoder @{name} --output-dir @{name}_teacher {common}"
        ));
        bench.out(&format!(
            "distill --teacher @{name}_teacher --output-dir @{name}_student {common}"
        ));
        let student =
            weights::read(bench.path(&format!("{name}_student/model.safetensors"))).unwrap();
        let teacher =
            weights::read(bench.path(&format!("{name}_teacher/model.safetensors"))).unwrap();
        assert!(
            student.len() < teacher.len() && student.keys().all(|key| teacher.contains_key(key))
        );
    }
}

#[test]
fn examples_without_truth_are_left_out() {
    let bench = Bench::new("mnli");
    bench.write("cola.json", json!({
        "task": {
            "columns": ["sentence"], "labels": ["0", "1"], "metric": "matthews", "train": "cola.tsv",
            "dev": "cola.tsv", "header": ["source", "label", "star", "sentence"],
        },
        "epochs": 1, "batch_size": 2, "max_length": 32,
    }).to_string());
    bench.write(
        "data/cola.tsv",
        "a\t1\t\tanna is good\na\t0\t*\tis good anna\n",
    );
    let train = "train --encoder @encoder --recipe @cola.json --data-dir @data --cache-dir none";
    let out = bench.out(&format!("{train} --output-dir @teacher"));
    assert!(out.contains("2 records to train on"), "{out}");
    // A test file of GLUE, which has no labels: `columns` are found by their names.
    bench.write("qnli.json", json!({
        "task": {"columns": ["sentence"], "labels": ["0", "1"], "train": "test.tsv", "dev": "dev.tsv"},
        "epochs": 1, "batch_size": 2, "max_length": 32,
    }).to_string());
    bench.write(
        "data/test.tsv",
        "\u{feff}index\tsentence\n0\tanna is good\n1\tanna is bad\n",
    );
    bench.write("data/dev.tsv", "sentence\tlabel\nanna is good\t1\n");
    let train = "--recipe @qnli.json --data-dir @data --cache-dir none";
    bench.fails_with(
        &format!("train --encoder @encoder {train} --output-dir @x"),
        &["test.tsv", "no truth in it to train on"],
    );
    // A teacher needs none to teach.
    bench.out(&format!(
        "distill --teacher @teacher {train} --output-dir @student"
    ));
}

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(2));
    bench.write("data/dev.tsv", sentences(1));
    let train = "train --encoder @encoder --data-dir @data --output-dir @x --cache-dir none";
    bench.fails_with(
        &format!("{train} --recipe nothing"),
        &["nothing", "teacher, labels, distill, emd"],
    );
    bench.write("typo.json", r#"{"epoch": 3}"#);
    bench.fails_with(
        &format!("{train} --recipe @typo.json"),
        &["typo.json", "epoch"],
    );
    bench.fails_with(
        &format!("{train} --max-length 65"),
        &["64 pieces at most", "65"],
    );
    // What does not fit is told before any time goes into the features.
    bench.write("data/bad.tsv", "sentence\tlabel\nno label\n");
    bench.fails_with(
        &format!("{train} --train-file bad.tsv --student T3 --layers 0,9,10"),
        &["9"],
    );
    bench.out(&format!("{train} --epochs 1"));
    let distill = "distill --teacher @x --data-dir @data --output-dir @y --cache-dir none \
                   --train-file bad.tsv";
    bench.write("loss.json", r#"{"hidden_matches": ["hidden_mze"]}"#);
    bench.fails_with(&format!("{distill} --recipe @loss.json"), &["hidden_mze"]);
    bench.fails_with(distill, &["bad.tsv:2", "expected 2 fields"]);
    assert!(!bench.path("y/inputs.json").exists());
    bench.fails_with(
        "distill --teacher @encoder --data-dir @data --output-dir @x --cache-dir none",
        &["encoder", "train one from it first"],
    );
    bench.fails_with(
        "evaluate --model @nowhere --file @data/dev.tsv",
        &["nowhere"],
    );
}

#[test]
fn an_own_recipe_has_the_lengths_of_the_example() {
    let bench = Bench::new("squad");
    bench.write("mine.json", r#"{"epochs": 1}"#);
    bench.fails_with(
        "train --encoder @encoder --recipe @mine.json --data-dir @data --output-dir @x",
        &["64 pieces at most", "384"],
    );
}
