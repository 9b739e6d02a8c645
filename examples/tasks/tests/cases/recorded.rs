//! What a teacher said, in a file, in the place of the teacher.

use textbrewer::weights;

use super::bench::{Bench, sentences};

const COMMON: &str = "--data-dir @data --epochs 1 --max-length 24 --stride 4 \
                      --cache-dir none";

/// Texts of several lengths.
fn texts() -> String {
    let mut text = sentences(2);
    for (words, label) in [
        ("good", 1),
        ("bad", 0),
        ("a very very funny plot in the film .", 1),
        ("the plot is dull and the film is cold and bad .", 0),
        ("who lives in the dull film ?", 0),
    ] {
        text.push_str(&format!("{words}\t{label}\n"));
    }
    text
}

fn sst2() -> Bench {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", texts());
    bench.write("data/dev.tsv", sentences(1));
    bench.out(&format!(
        "train --encoder @encoder --batch-size 4 --output-dir @teacher {COMMON}"
    ));
    bench
}

/// The student is the same, whether the teacher is there or its file.
fn same_student(bench: &Bench, name: &str, options: &str) {
    let student = |teacher: &str, folder: &str| {
        let out = bench.out(&format!(
            "distill {teacher} {COMMON} {options} --output-dir @{folder}"
        ));
        let bytes = std::fs::read(bench.path(&format!("{folder}/model.safetensors"))).unwrap();
        (out, bytes)
    };
    let (_, live) = student("--teacher @teacher", &format!("live_{name}"));
    let of_file = format!("--teacher-file @file_{name} --encoder @teacher");
    let record = format!("record --teacher @teacher {COMMON} {options} --output-dir @file_{name}");
    let out = bench.out(&record);
    assert!(out.contains("logits.0"), "{out}");
    let manifest = std::fs::read(bench.path(&format!("file_{name}/manifest.json"))).unwrap();
    // Again, and nothing changes.
    bench.out(&record);
    let again = std::fs::read(bench.path(&format!("file_{name}/manifest.json"))).unwrap();
    assert!(manifest == again);
    let (_, recorded) = student(&of_file, &format!("recorded_{name}"));
    if live != recorded || true {
        let (_, live2) = student("--teacher @teacher", &format!("live2_{name}"));
        let (_, rec2) = student(&of_file, &format!("recorded2_{name}"));
        eprintln!(
            "{name} live same {} rec same {}",
            live == live2,
            recorded == rec2
        );
        let (a, b) = (
            weights::read(bench.path(&format!("live_{name}/model.safetensors"))).unwrap(),
            weights::read(bench.path(&format!("recorded_{name}/model.safetensors"))).unwrap(),
        );
        let worst = a
            .iter()
            .map(|(key, a)| ((a - &b[key]).abs().max().double_value(&[]), key.as_str()))
            .fold((0.0, ""), |x, y| if y.0 > x.0 { (y.0, y.1) } else { x });
        eprintln!("{name}: {worst:?}");
    }
    assert!(
        live == recorded,
        "{name}: not the bytes of the live teacher"
    );
}

#[test]
fn a_file_teaches_labels_as_its_teacher_does() {
    let bench = sst2();
    same_student(&bench, "usual", "--batch-size 4");
    same_student(&bench, "emd", "--batch-size 4 --recipe emd");
    same_student(&bench, "narrow", "--batch-size 4 --student T4-tiny");
    bench.write(
        "attention.json",
        r#"{"student": "T3", "max_length": 24, "group_by_length": false, "distillation": {
            "temperature": 8, "intermediate_matches": [{"layer_T": 5, "layer_S": 2,
            "feature": "attention", "loss": "attention_mse", "weight": 1}]}}"#,
    );
    same_student(
        &bench,
        "attention",
        "--batch-size 4 --recipe @attention.json",
    );
    let shown = bench.json("file_attention/manifest.json").to_string();
    assert!(
        shown.contains("attention.5") && !shown.contains("hidden"),
        "{shown}"
    );
}

#[test]
fn a_file_teaches_tags_as_its_teacher_does() {
    let bench = Bench::new("conll2003");
    let text = "anna NNP B-NP B-PER\nlives VBZ B-VP O\nin IN B-PP O\nlondon NNP B-NP B-LOC\n\n\
                the DT B-NP O\nbank NN I-NP B-ORG\n\nberlin NNP B-NP B-LOC\n\n";
    bench.write("data/train.txt", text.repeat(4));
    bench.write("data/valid.txt", text);
    bench.out(&format!(
        "train --encoder @encoder --batch-size 4 --output-dir @teacher {COMMON}"
    ));
    same_student(&bench, "usual", "--batch-size 4");
}

#[test]
fn a_file_teaches_answers_as_its_teacher_does() {
    let bench = Bench::new("squad");
    let question = |id: &str, context: &str, question: &str, answer: &str| {
        let start = context.find(answer);
        serde_json::json!({"context": context, "qas": [{"id": id, "question": question,
            "answers": [{"text": answer, "answer_start": start}]}]})
    };
    let long = "anna lives in london . the very great bank is in berlin . who works at the bank ? \
                anna works at the bank in berlin .";
    let paragraphs = [
        question(
            "1",
            "anna lives in london .",
            "who lives in london ?",
            "anna",
        ),
        // Of several windows.
        question("2", long, "where is the bank ?", "berlin"),
        question("3", "the bank is in berlin .", "where ?", "berlin"),
        question("4", "a film", "a film ?", "film"),
        question(
            "5",
            "anna is in the very great bank .",
            "who is in the bank ?",
            "anna",
        ),
    ];
    let text = serde_json::json!({"version": "1.1", "data": [{"title": "",
        "paragraphs": paragraphs}]});
    for name in ["train", "dev"] {
        bench.write(&format!("data/{name}-v1.1.json"), text.to_string());
    }
    bench.out(&format!(
        "train --encoder @encoder --batch-size 4 --output-dir @teacher {COMMON}"
    ));
    same_student(&bench, "usual", "--batch-size 3");
    let file = bench.json("file_usual/manifest.json");
    // Windows of one text have ids of their own.
    assert!(file["examples"].as_u64().unwrap() > 5, "{file}");
}
