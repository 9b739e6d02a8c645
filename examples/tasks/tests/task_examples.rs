//! The examples on real tasks from end to end, on a tiny encoder and files of the tests' own:
//! a teacher and a student are trained, distilled, evaluated and asked, and files of perfect and
//! of empty predictions are measured. `tasks.rs` tests the parts.

#[path = "cases/bench.rs"]
mod bench;
#[path = "cases/broken.rs"]
mod broken;
#[path = "cases/commands.rs"]
mod commands;
#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "cases/interrupts.rs"]
mod interrupts;
#[path = "cases/outputs.rs"]
mod outputs;
#[path = "cases/processes.rs"]
mod processes;
#[path = "cases/recorded.rs"]
mod recorded;
#[path = "cases/reference.rs"]
mod reference;

use bench::{Bench, sentences, sizes};
use serde_json::{Value, json};
use tch::Device;
use tch::nn::VarStore;
use textbrewer::models::{BertConfig, BertModel, ModelType};
use textbrewer::weights;

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
    // One that cannot be made leaves the one before as it was.
    bench.write("data/bad.tsv", "sentence\tlabel\nno label\n");
    bench.fails_with(
        "export --teacher @teacher --data-dir @data --output-dir @export --epochs 1 --seed 5 \
         --train-file bad.tsv --cache-dir none --overwrite",
        &["bad.tsv:2"],
    );
    bench.fails_with(
        "export --teacher @teacher --data-dir @data --output-dir @export --cache-dir none",
        &["export", "--overwrite"],
    );
    assert_eq!(bench.json("export/export.json"), export);
    assert_eq!(batches(2), second);
    // Nor is a dev file of any use to it.
    let (dev, away) = (bench.path("data/dev.tsv"), bench.path("away.tsv"));
    std::fs::rename(&dev, &away).unwrap();
    bench.out(
        "export --teacher @teacher --data-dir @data --output-dir @export --epochs 1 --seed 5 \
         --batch-size 4 --max-length 32 --cache-dir none --overwrite",
    );
    assert!(!bench.path("export/epoch002.safetensors").exists());
    std::fs::rename(&away, &dev).unwrap();

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
    // The same labels in another order are the same answers, and teach the same.
    let swapped = std::fs::read_to_string(bench.path("qnli.json")).unwrap();
    let swapped = swapped.replace(
        r#"["entailment","not_entailment"]"#,
        r#"["not_entailment","entailment"]"#,
    );
    bench.write("swapped.json", swapped.replace(r#""full""#, r#""T3""#));
    let answers = |more: &str| {
        let predict = "predict --model @qnli --file @qnli.tsv --cache-dir none";
        bench.out(&format!("{predict} {more}"))
    };
    let (plain, other) = (answers(""), answers("--recipe @swapped.json"));
    for (plain, other) in plain.lines().zip(other.lines()) {
        // The answer, and each label with its probability.
        let [answer, first, p, second, q] = plain.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{plain}");
        };
        assert_eq!(other, format!("{answer}  {second} {q}  {first} {p}"));
    }
    bench.out(
        "distill --teacher @qnli --recipe @swapped.json --data-dir @data --output-dir @swapped \
         --cache-dir none",
    );
    let labels = bench.json("swapped/config.json");
    assert_eq!(labels["id2label"]["0"], "not_entailment");
    bench.out(
        "train --encoder @qnli --recipe @swapped.json --data-dir @data --output-dir @retrained \
         --cache-dir none",
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
    let text = "王\tB-PER\n明\tI-PER\n住\tO\n在\tO\n北\tB-LOC\n京\tI-LOC\n。\tO\n\n上\tB-LOC\n海\tI-LOC\n\
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
    // Texts of the command line are told apart by their numbers.
    let mut command = bench.command("predict --model @student --output @texts --cache-dir none");
    command.args(["who lives ?\tanna lives .", "who lives ?\tthe bank lives ."]);
    let finished = common::example::finish(command);
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    let texts = bench.json("texts");
    let ids: Vec<_> = texts.as_object().unwrap().keys().collect();
    assert_eq!(ids, ["1", "2"]);
}

#[test]
fn cmrc2018_with_drcd() {
    let bench = Bench::new("cmrc2018");
    let asked = [("谁住在北京？", "王明"), ("人在哪里？", "上海")];
    let context = "王明住在北京。人在上海。";
    let (train, dev) = ("cmrc2018_train.json", "cmrc2018_dev.json");
    reading(&bench, train, dev, context, &asked, "average");
    bench.write("data/drcd.json", questions(context, &asked, 2));
    let out = bench.out(
        "distill --teacher @teacher --data-dir @data --augment drcd.json --epochs 1 --batch-size 4 \
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
        &["layers: those of a T4-tiny have another shape than this teacher's"],
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
