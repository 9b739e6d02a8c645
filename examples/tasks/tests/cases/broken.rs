//! Data as it is published: broken lines, and records without a label.

use super::bench::Bench;

const RECIPE: &str = r#"{"task": {"columns": ["question1", "question2"],
    "label_column": "is_duplicate", "labels": ["0", "1"], "metric": "f1"},
    "epochs": 1, "batch_size": 2, "max_length": 32}"#;

const HEADER: &str = "id\tquestion1\tquestion2\tis_duplicate\n";

/// Lines of which the `bad` ones are put in the middle.
fn questions(bad: &str) -> String {
    format!(
        "{HEADER}0\twho lives in anna ?\twho is anna ?\t1\n{bad}1\twhere is the bank ?\twho is bad ?\t0\n\
         2\twhere is a film ?\twhere is the film ?\t1\n"
    )
}

#[test]
fn broken_lines_are_left_out_with_one_warning() {
    let bench = Bench::new("mnli");
    bench.write("recipe.json", RECIPE);
    bench.write("data/dev.tsv", questions(""));
    let train = "train --encoder @encoder --recipe @recipe.json --data-dir @data --cache-dir none \
                 --output-dir @model --overwrite";
    for (bad, expected) in [
        (
            "\"\twho is it ?\t0\n",
            "1 of 4 lines are broken and are left out; the first is line 3: expected 4 fields, got 3",
        ),
        (
            "7\twho is it ?\t\t0\n8\t \twho is it ?\t1\n",
            "2 of 5 lines are broken and are left out; the first is line 3: `question2` is empty",
        ),
        (
            "7\twho is it ?\twho\tis it ?\t0\n",
            "1 of 4 lines are broken and are left out; the first is line 3: expected 4 fields, got 5",
        ),
    ] {
        bench.write("data/train.tsv", questions(bad));
        let finished = bench.run(train);
        assert_eq!(finished.code, Some(0), "{}", finished.err);
        assert!(
            finished.out.contains("3 records to train on (3 features)"),
            "{}",
            finished.out
        );
        assert_eq!(
            finished.err.matches("broken").count(),
            1,
            "{}",
            finished.err
        );
        assert!(
            finished.err.contains(&format!("train.tsv: {expected}")),
            "{}",
            finished.err
        );
    }
    // The same when a student is taught, which needs no labels.
    bench.write(
        "student.json",
        RECIPE.replace("\"epochs\"", "\"student\": \"T3\", \"epochs\""),
    );
    let finished = bench.run(
        "distill --teacher @model --recipe @student.json --data-dir @data --cache-dir none \
         --output-dir @student",
    );
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    assert!(
        finished.out.contains("3 records to train on"),
        "{}",
        finished.out
    );

    // Measured without them, and predicted in step with the lines.
    bench.write("whole.tsv", questions(""));
    bench.write("blank.tsv", questions("7\twho is it ?\t\t0\n"));
    let whole = bench.figure("accuracy", "--model @model --file @whole.tsv");
    let finished =
        bench.run("evaluate --model @model --file @blank.tsv --cache-dir none --output @predicted");
    assert!(
        finished.out.contains(&format!("{whole:.3}")),
        "{}",
        finished.out
    );
    let expected = "1 of 4 lines are broken and are not measured; the first is line 3";
    assert!(finished.err.contains(expected), "{}", finished.err);
    let again = bench.figure(
        "accuracy",
        "--predictions @predicted --recipe @recipe.json --file @blank.tsv",
    );
    assert_eq!(again, whole);
    let predict = "predict --model @model --file @blank.tsv --cache-dir none";
    let finished = bench.run(predict);
    assert_eq!(finished.out.lines().count(), 4, "{}", finished.out);
    assert!(
        finished.err.contains("are answered all the same"),
        "{}",
        finished.err
    );
    bench.write("short.tsv", questions("\"\twho is it ?\t0\n"));
    bench.fails_with(
        "predict --model @model --file @short.tsv --cache-dir none",
        &["short.tsv:3: expected 4 fields, got 3"],
    );

    // A file of which nothing is left.
    bench.write("data/train.tsv", format!("{HEADER}a\tb\n\n1\ta\t\t0\n"));
    bench.fails_with(train, &["train.tsv:2: expected 4 fields, got 2"]);
    bench.fails_with(
        "evaluate --model @model --file @data/train.tsv --cache-dir none",
        &["train.tsv:2: expected 4 fields, got 2"],
    );
}

#[test]
fn records_without_a_label_are_answered_and_not_learned_from() {
    let bench = Bench::new("mnli");
    let pairs = |missing: &str| {
        format!(
            "sentence1\tsentence2\tgold_label\nthe film is good\tthe film is great\tentailment\n\
             anna works\tanna is cold\t{missing}\nthe film is good\tthe film is bad\tcontradiction\n"
        )
    };
    let common = "--data-dir @data --epochs 1 --batch-size 2 --max-length 32 --cache-dir none";
    let train = format!("train --encoder @encoder --output-dir @model --overwrite {common}");
    for missing in ["-", "-1", "", "hidden"] {
        bench.write("data/train.tsv", pairs(missing));
        bench.write("data/dev_matched.tsv", pairs(missing));
        let finished = bench.run(&train);
        assert_eq!(finished.code, Some(0), "{}", finished.err);
        for expected in ["2 records to train on", "2 records to evaluate on"] {
            assert!(finished.out.contains(expected), "{}", finished.out);
        }
        let expected = "train.tsv: 1 of 3 records have no truth (a label in the column \
                        `gold_label`) and are left";
        assert_eq!(
            finished.err.matches(expected).count(),
            1,
            "{}",
            finished.err
        );
    }
    let finished = bench.run("predict --model @model --file @data/train.tsv --cache-dir none");
    assert_eq!(finished.out.lines().count(), 3, "{}", finished.err);
    let finished = bench.run("evaluate --model @model --file @data/train.tsv --cache-dir none");
    let expected = "1 of 3 records have no truth (a label in the column `gold_label`) and are not \
                    measured";
    assert!(finished.err.contains(expected), "{}", finished.err);
    // A teacher needs no labels, unless the student learns from them too.
    let distill = format!("distill --teacher @model --overwrite --output-dir @student {common}");
    bench.write("plain.json", r#"{"student": "T3"}"#);
    bench.write(
        "labels.json",
        r#"{"student": "T3", "distillation": {"hard_label_weight": 1}}"#,
    );
    for (recipe, records) in [("plain", 3), ("labels", 2)] {
        let finished = bench.run(&format!("{distill} --recipe @{recipe}.json"));
        let expected = format!("{records} records to train on");
        assert!(
            finished.out.contains(&expected),
            "{}{}",
            finished.out,
            finished.err
        );
    }

    bench.write("data/dev_matched.tsv", pairs("no"));
    bench.fails_with(
        &train,
        &["dev_matched.tsv:3: unknown label `no`; known are"],
    );
    let none = "sentence1\tsentence2\tgold_label\nanna\tthe film\t-\n";
    bench.write("data/dev_matched.tsv", none);
    bench.fails_with(
        &train,
        &["dev_matched.tsv: 0 of its 1 records have the truth"],
    );
    bench.write("data/train.tsv", none);
    let expected = "no truth in it to train on: expected a label in the column `gold_label`";
    bench.fails_with(&train, &[&format!("train.tsv: {expected}")]);
}
