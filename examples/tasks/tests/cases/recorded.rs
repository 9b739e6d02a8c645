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
        bench.out(&format!(
            "distill {teacher} {COMMON} {options} --output-dir @{folder}"
        ));
        std::fs::read(bench.path(&format!("{folder}/model.safetensors"))).unwrap()
    };
    let live = student("--teacher @teacher", &format!("live_{name}"));
    let of_file = format!("--teacher-file @file_{name} --encoder @teacher");
    let record = format!("record --teacher @teacher {COMMON} {options} --output-dir @file_{name}");
    let out = bench.out(&record);
    assert!(out.contains("logits.0"), "{out}");
    let manifest = std::fs::read(bench.path(&format!("file_{name}/manifest.json"))).unwrap();
    // Again, and nothing changes.
    bench.out(&record);
    let again = std::fs::read(bench.path(&format!("file_{name}/manifest.json"))).unwrap();
    assert!(manifest == again);
    let recorded = student(&of_file, &format!("recorded_{name}"));
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

/// As many records as `texts` has.
const RECORDS: usize = 17;

#[test]
fn other_batches_and_a_part_find_their_examples() {
    let bench = sst2();
    bench.out(&format!(
        "record --teacher @teacher {COMMON} --batch-size 4 --output-dir @file"
    ));
    for (name, options) in [
        ("batches", "--batch-size 3 --epochs 2 --seed 5"),
        ("part", "--batch-size 4 --train-size 9"),
    ] {
        let common = COMMON.replace("--epochs 1 ", "");
        let epochs = if options.contains("epochs") {
            ""
        } else {
            "--epochs 1"
        };
        let distill = format!("distill {common} {options} {epochs}");
        bench.out(&format!(
            "{distill} --teacher @teacher --output-dir @live_{name}"
        ));
        bench.out(&format!(
            "{distill} --teacher-file @file --encoder @teacher --output-dir @recorded_{name}"
        ));
        let weights = |student: &str| {
            let path = bench.path(&format!("{student}_{name}/model.safetensors"));
            weights::read(path).unwrap()
        };
        let (live, recorded) = (weights("live"), weights("recorded"));
        for (key, value) in &live {
            let difference = (value - &recorded[key]).abs().max().double_value(&[]);
            assert!(difference < 1e-5, "{name}, {key}: {difference}");
        }
    }
    // A training goes on with the same file only.
    let distill =
        format!("distill {COMMON} --batch-size 4 --encoder @teacher --output-dir @resumed");
    bench.out(&format!("{distill} --teacher-file @file"));
    bench.out(&format!("{distill} --teacher-file @file --resume"));
    let out = bench.out(&format!(
        "record --teacher @teacher {COMMON} --batch-size 4 --store-logits bfloat16 --store-layers int8 \
         --output-dir @small"
    ));
    assert!(out.contains("logits.0: 2 numbers in bfloat16"), "{out}");
    assert!(
        out.contains("hidden.6: 8 numbers in int8, at each position of a mask"),
        "{out}"
    );
    bench.fails_with(
        &format!("{distill} --teacher-file @small --resume"),
        &["teacher_file"],
    );
    bench.fails_with(
        &distill
            .replace("@resumed", "@file")
            .replace("distill", "distill --teacher-file @file"),
        &["file", "another --output-dir"],
    );
    // Two files are two teachers.
    bench.out(&format!(
        "distill {COMMON} --batch-size 4 --teacher-file @file --teacher-file @file --encoder @encoder \
         --output-dir @of_two"
    ));
}

#[test]
fn a_file_of_something_else_is_refused_before_training() {
    let bench = sst2();
    let record = format!("record --teacher @teacher {COMMON} --batch-size 4");
    bench.out(&format!("{record} --output-dir @file"));
    bench.out(&format!("{record} --train-size 5 --output-dir @part"));
    bench.write(
        "plain.json",
        r#"{"max_length": 24, "distillation": {"temperature": 8}}"#,
    );
    bench.out(&format!(
        "{record} --recipe @plain.json --output-dir @plain"
    ));
    // Another recording is not replaced, unless that is said.
    bench.fails_with(
        &format!("{record} --recipe @plain.json --output-dir @file"),
        &["file", "another recording"],
    );
    bench.fails_with(
        &format!("{record} --output-dir @teacher"),
        &["teacher", "starts from the model in it"],
    );
    let words = std::fs::read_to_string(bench.path("teacher/vocab.txt")).unwrap();
    std::fs::create_dir(bench.path("other")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(
            bench.path(&format!("encoder/{name}")),
            bench.path(&format!("other/{name}")),
        )
        .unwrap();
    }
    bench.write("other/vocab.txt", words.replace("good", "fine"));
    bench.write("data/more.tsv", format!("{}a film\t1\n", texts()));
    bench.write(
        "swapped.json",
        r#"{"task": {"columns": ["sentence"], "labels": ["1", "0"]}, "hidden_matches": ["hidden_mse"],
            "distillation": {"hard_label_weight": 1}}"#,
    );
    let missing = format!("{} of {RECORDS} examples are not in it", RECORDS - 5);
    for (options, expected) in [
        (
            "--teacher-file @file --encoder @other",
            "another `tokenizer`",
        ),
        (
            "--teacher-file @file --encoder @teacher --max-length 23",
            "another `max_length`: 24, not 23",
        ),
        (
            "--teacher-file @file --encoder @teacher --train-file more.tsv",
            "another `data`",
        ),
        (
            "--teacher-file @file --encoder @teacher --augment more.tsv",
            "does not say its `data 2`",
        ),
        (
            "--teacher-file @file --encoder @teacher --recipe @swapped.json --stride 0",
            "another order of the classes: 0, 1; wanted are 1, 0",
        ),
        ("--teacher-file @part --encoder @teacher", &missing),
        (
            "--teacher-file @plain --encoder @teacher",
            "has no `hidden`",
        ),
        ("--teacher-file @nowhere --encoder @teacher", "nowhere"),
    ] {
        let common = match options.contains("--max-length") {
            true => COMMON.replace("--max-length 24", ""),
            false => COMMON.to_owned(),
        };
        let common = match options.contains("--stride") {
            true => common.replace("--stride 4", ""),
            false => common,
        };
        bench.fails_with(
            &format!("distill {common} --batch-size 4 {options} --output-dir @x"),
            &[expected],
        );
        assert!(!bench.path("x/inputs.json").exists(), "{options}");
    }
    for (options, expected) in [
        ("--teacher-file @file", "--encoder"),
        (
            "--teacher-file @file --encoder @teacher --teacher @teacher",
            "--teacher",
        ),
        ("", "--teacher"),
        ("--teacher @teacher --by-position", "--by-position"),
    ] {
        let finished = bench.run(&format!("distill {COMMON} {options} --output-dir @x"));
        assert_eq!(finished.code, Some(2), "{options}: {}", finished.err);
        assert!(
            finished.err.contains(expected),
            "{options}: {}",
            finished.err
        );
    }
}

#[test]
fn probabilities_of_others_teach() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", texts());
    bench.write("data/dev.tsv", sentences(1));
    // Whatever the text says, somebody finds it positive.
    bench.write(
        "soft.json",
        r#"{"student": "T3", "learning_rate": 1e-2, "epochs": 8, "batch_size": 4, "max_length": 24,
            "hidden_matches": ["hidden_mse"], "distillation": {"hard_label_weight": 0}}"#,
    );
    let texts = texts();
    let records = || {
        texts
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once('\t'))
    };
    let (mut by_text, mut by_id) = ("1,sentence,0,said by\n".to_owned(), String::new());
    let mut by_position = "0\t1\n".to_owned();
    for (number, (text, _)) in records().enumerate() {
        by_text.push_str(&format!("0.95,{text},0.05,a model\n"));
        by_id.push_str(&format!("{{\"id\": {number}, \"0\": 0.05, \"1\": 0.95}}\n"));
        by_position.push_str("0.05\t0.95\n");
    }
    bench.write("text.csv", &by_text);
    bench.write("id.jsonl", by_id);
    bench.write("position.tsv", &by_position);
    let distill =
        "distill --encoder @encoder --data-dir @data --recipe @soft.json --cache-dir none";
    for (name, options) in [
        ("text", "--soft-labels @text.csv"),
        ("id", "--soft-labels @id.jsonl"),
        ("position", "--soft-labels @position.tsv --by-position"),
    ] {
        let out = bench.out(&format!("{distill} {options} --output-dir @{name}"));
        assert!(out.contains("soft labels have no layers"), "{out}");
        assert!(
            out.contains(&format!("file(s) of {RECORDS} examples")),
            "{out}"
        );
    }
    let bytes =
        |name: &str| std::fs::read(bench.path(&format!("{name}/model.safetensors"))).unwrap();
    assert!(bytes("text") == bytes("id") && bytes("id") == bytes("position"));
    let out = bench.out("predict --model @text --cache-dir none bad");
    assert!(out.starts_with("1  "), "{out}");
    let probability: f64 = out.trim().rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((probability - 0.95).abs() < 0.05, "{out}");

    // A part of the data needs no more than its own rows.
    bench.out(&format!(
        "{distill} --soft-labels @id.jsonl --train-size 8 --output-dir @part"
    ));
    let short: Vec<_> = by_position.lines().take(5).collect();
    bench.write("short.tsv", short.join("\n"));
    bench.write("unknown.csv", by_text.replace("who lives in", "who is in"));
    bench.write("labels.csv", by_text.replacen("1,", "positive,", 1));
    for (options, expected) in [
        (
            "@short.tsv --by-position",
            "has 4 rows, for 17 ids; by position each example needs one",
        ),
        (
            "@short.tsv",
            "correct the name, or say whose rows these are",
        ),
        ("@unknown.csv", "who lives in the dull film ?"),
        ("@labels.csv", "`1`"),
    ] {
        bench.fails_with(
            &format!("{distill} --soft-labels {options} --output-dir @x"),
            &[expected],
        );
        assert!(!bench.path("x/inputs.json").exists(), "{options}");
    }
}

#[test]
fn soft_labels_are_of_whole_texts() {
    let bench = Bench::new("conll2003");
    let text = "anna NNP B-NP B-PER\nlives VBZ B-VP O\n\n";
    for name in ["train", "valid"] {
        bench.write(&format!("data/{name}.txt"), text);
    }
    bench.write("soft.csv", "id,O\n0,1\n");
    bench.fails_with(
        &format!("distill --encoder @encoder --soft-labels @soft.csv {COMMON} --output-dir @x"),
        &["--soft-labels", "labels of whole texts"],
    );
}

#[test]
fn probabilities_of_pairs_are_found_by_both_texts() {
    let bench = Bench::new("mnli");
    let mut data = "index\tsentence1\tsentence2\tgold_label\n".to_owned();
    let mut soft = "sentence2,sentence1,neutral,entailment,contradiction\n".to_owned();
    for (number, word) in ["good", "great", "bad", "dull"].iter().enumerate() {
        data.push_str(&format!(
            "{number}\tthe film is good\tthe film is {word}\tneutral\n"
        ));
        soft.push_str(&format!(
            "the film is {word},the film is good,0.1,0.2,0.7\n"
        ));
    }
    for name in ["train", "dev_matched"] {
        bench.write(&format!("data/{name}.tsv"), &data);
    }
    bench.write("soft.csv", &soft);
    let distill = format!("distill --encoder @encoder --batch-size 2 {COMMON}");
    bench.out(&format!(
        "{distill} --soft-labels @soft.csv --output-dir @student"
    ));
    bench.write(
        "swapped.csv",
        soft.replace("sentence2,sentence1", "sentence1,sentence2"),
    );
    bench.fails_with(
        &format!("{distill} --soft-labels @swapped.csv --output-dir @x"),
        &["has no row for 3 of 4 texts"],
    );
}
