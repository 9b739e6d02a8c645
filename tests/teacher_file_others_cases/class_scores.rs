//! Probabilities and scores of classes that somebody else made.

use tch::{Device, Kind, Tensor, nn};
use textbrewer::data::{DataLoader, TensorLoader};
use textbrewer::teacher_file::{ClassScores, Recording, TeacherFile};
use textbrewer::{
    AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller, Ids, Presets, Result, Sgd,
    TrainingConfig, from_fn,
};

struct Case {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Case {
    fn new(name: &'static str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        Case { folder, name }
    }

    fn probabilities(&self) -> ClassScores {
        ClassScores::probabilities(self.folder.path().join(self.name), ["bad", "good"])
    }

    fn logits(&self) -> ClassScores {
        ClassScores::logits(self.folder.path().join(self.name), ["bad", "good"])
    }

    fn record(&self, scores: ClassScores) -> Result<TeacherFile> {
        scores.record(Recording::new(self.folder.path().join("teacher")))
    }

    fn error(&self, scores: ClassScores) -> String {
        let error = self.record(scores).unwrap_err().to_string();
        assert!(error.contains(self.name), "{error}");
        assert!(!self.folder.path().join("teacher").exists());
        error
    }
}

fn numbers(file: &TeacherFile, ids: &[u64]) -> Vec<f32> {
    let logits = file.read(ids).unwrap().logits[0].whole().unwrap();
    Vec::try_from(logits.reshape([-1])).unwrap()
}

/// A probability of 0 has a logarithm with which losses are not NaN.
fn logs(probabilities: &[f32]) -> Vec<f32> {
    let logs = Tensor::from_slice(probabilities).log();
    Vec::try_from(logs.clamp_min(-1e30)).unwrap()
}

#[test]
fn probabilities_by_id_are_kept_to_the_bit() {
    let files = [
        (
            "soft.csv",
            "good,id,bad\n0.9,7,0.1\n0.3,18446744073709551615,0.7\n1,2,0\n",
        ),
        (
            "soft.tsv",
            "\u{feff}good\tid\tbad\n0.9\t7\t0.1\n0.3\t18446744073709551615\t0.7\n1\t2\t0\n",
        ),
        (
            "soft.jsonl",
            "{\"id\": 7, \"good\": 0.9, \"bad\": 0.1}\n\n{\"bad\": 0.7, \"id\": \"18446744073709551615\", \
             \"good\": \"0.3\"}\n{\"id\": 2, \"good\": 1, \"bad\": 0}",
        ),
    ];
    for (name, text) in files {
        let case = Case::new(name, text);
        let file = case.record(case.probabilities()).unwrap();
        assert_eq!(file.labels().unwrap(), ["bad", "good"]);
        let got = numbers(&file, &[2, 7, u64::MAX]);
        assert_eq!(got, logs(&[0.0, 1.0, 0.1, 0.9, 0.7, 0.3]), "{name}");
        assert_eq!(
            file.columns()[0].to_string(),
            "logits.0.probabilities: 2 probabilities in float32"
        );
    }
}

#[test]
fn logits_are_kept_to_the_bit() {
    let case = Case::new("scores.csv", "id,bad,good\n0,-1.1,0.3333333\n1,-inf,12\n");
    let file = case.record(case.logits()).unwrap();
    assert_eq!(numbers(&file, &[0, 1]), [-1.1, 0.333_333_3, -1e30, 12.0]);
}

#[test]
fn texts_find_their_rows() {
    let text = "sentence,label,bad,good\n\"dull, long\",x,0.8,0.2\nfine,x,0.1,0.9\nunused,x,0.5,0.5\n\
                dull,x,0.7,0.3\nfine,y,0.1,0.9\n";
    let case = Case::new("soft.csv", text);
    let scores = || {
        let texts = ["fine ", "dull, long", "dull", "fine"];
        case.probabilities()
            .texts("sentence", texts)
            .ignore_other_columns()
    };
    let file = case.record(scores()).unwrap();
    let expected = logs(&[0.1, 0.9, 0.8, 0.2, 0.7, 0.3, 0.1, 0.9]);
    assert_eq!(numbers(&file, &[0, 1, 2, 3]), expected);

    let other = Case::new("soft.csv", text);
    let file = other.record(scores().ids([5, 6, 7, 9])).unwrap();
    assert_eq!(file.ids().collect::<Vec<_>>(), [5, 6, 7, 9]);
    assert_eq!(numbers(&file, &[9, 6]), logs(&[0.1, 0.9, 0.8, 0.2]));
}

#[test]
fn pairs_of_texts_find_their_rows() {
    let case = Case::new(
        "soft.tsv",
        "b\ta\tbad\tgood\nx\ty\t0.8\t0.2\ny\tx\t0.1\t0.9\n",
    );
    let pairs = [["x", "y"], ["y", "x"]];
    let file = case
        .record(case.probabilities().text_pairs(["a", "b"], pairs))
        .unwrap();
    assert_eq!(numbers(&file, &[0, 1]), logs(&[0.1, 0.9, 0.8, 0.2]));
}

#[test]
fn position_counts_where_that_is_said() {
    let case = Case::new("soft.csv", "bad,good\n0.8,0.2\n0.1,0.9\n");
    let error = case.error(case.probabilities());
    assert!(
        error.contains("line 1 has no `id`: say whose rows") && error.contains("by_position"),
        "{error}"
    );
    let file = case.record(case.probabilities().by_position()).unwrap();
    assert_eq!(numbers(&file, &[1]), logs(&[0.1, 0.9]));

    // Ids and the column of the texts are passed over, other columns are not.
    let case = Case::new("soft.csv", "id,text,bad,good\n1,b,0.8,0.2\n0,a,0.1,0.9\n");
    let error = case.error(case.probabilities().by_position());
    assert!(
        error.contains("line 1 has a column `text`, which"),
        "{error}"
    );
    let scores = case.probabilities().texts("text", ["a", "b"]);
    let file = case.record(scores.by_position()).unwrap();
    assert_eq!(numbers(&file, &[1]), logs(&[0.1, 0.9]));
}

#[test]
fn probabilities_that_are_read_as_logits_are_warned_of() {
    crate::listen();
    for (text, is_warned_of) in [
        ("id,bad,good\n0,0.8,0.21\n1,0,1\n", true),
        ("id,bad,good\n0,0.8,0.2\n1,1.5,-0.5\n", false),
        ("id,bad,good\n0,0.8,0.2\n1,1,1\n", false),
    ] {
        let case = Case::new("soft.csv", text);
        case.record(case.logits()).unwrap();
        let warnings = crate::warnings_of(case.folder.path());
        let told = "read them with `ClassScores::probabilities`";
        match &warnings[..] {
            [] => assert!(!is_warned_of, "{text:?}"),
            [one] => assert!(is_warned_of && one.contains(told), "{one}"),
            several => panic!("{several:?}"),
        }
    }
    let case = Case::new("soft.csv", "id,bad,good\n0,0.8,0.2\n");
    case.record(case.probabilities()).unwrap();
    assert_eq!(crate::warnings_of(case.folder.path()), [""; 0]);
}

/// The column that is missing is the cause, and not those that are there in its place.
#[test]
fn what_is_missing_is_told_first() {
    let cases = [
        (
            "soft.csv",
            "text,negative,positive\na,1,0\n",
            "line 1 has no column for the labels `bad`, `good`; its columns are `text`, `negative`, `positive`",
        ),
        (
            "soft.csv",
            "id,Bad,good\n1,1,0\n",
            "no column for the label `bad`; its columns are `id`, `Bad`, `good`; it has `Bad`, did you mean \
             `bad`?",
        ),
        (
            "soft.csv",
            "sentence,bad,good\na,1,0\n",
            "line 1 has no `id`: say whose rows these are with `ClassScores::texts`, `text_pairs` or \
             `by_position`; its columns are `sentence`",
        ),
        (
            "soft.csv",
            "ID,bad,good\n1,1,0\n",
            "it has `ID`, did you mean `id`?",
        ),
        (
            "soft.jsonl",
            "{\"bad\": 1, \"good\": 0}\n",
            "line 1 has no `id`: say whose rows these are",
        ),
        (
            "soft.csv",
            "id;bad;good\n1;1;0\n",
            "line 1 seems to be separated by `;`; `,` is needed",
        ),
        (
            "soft.csv",
            "id\tbad\tgood\n1\t1\t0\n",
            "line 1 seems to be separated by a tab; `,` is needed, or a tab in a file that ends in `.tsv`",
        ),
        (
            "soft.tsv",
            "id,bad,good\n1,1,0\n",
            "line 1 seems to be separated by `,`; a tab is needed",
        ),
    ];
    for (name, text, expected) in cases {
        let case = Case::new(name, text);
        let error = case.error(case.probabilities());
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let case = Case::new("soft.csv", "sentence,bad,good\na,1,0\n");
    let error = case.error(case.probabilities().texts("text", ["a"]));
    let expected = "has no `id`, and not `text` either: correct the name";
    assert!(error.contains(expected), "{error}");
    let pairs = [["a", "b"]];
    let error = case.error(case.probabilities().text_pairs(["sentence", "text"], pairs));
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_changed_file_is_not_taken_for_the_old_one() {
    let case = Case::new("soft.csv", "id,bad,good\n0,0.8,0.2\n");
    let path = case.folder.path().join(case.name);
    case.record(case.probabilities()).unwrap();
    case.record(case.probabilities()).unwrap();
    std::fs::write(&path, "id,bad,good\n0,0.7,0.3\n").unwrap();
    let error = case.record(case.probabilities()).unwrap_err().to_string();
    assert!(error.contains("the fact `source`"), "{error}");
    let recording = Recording::new(case.folder.path().join("teacher")).overwrite(true);
    let file = case.probabilities().record(recording).unwrap();
    assert_eq!(numbers(&file, &[0]), logs(&[0.7, 0.3]));
}

/// Rows belong to positions of the data, so that the same texts in another order are other data.
#[test]
fn texts_in_another_order_are_not_taken_for_the_old_ones() {
    let case = Case::new("soft.csv", "a,b,bad,good\nx,1,0.8,0.2\ny,2,0.1,0.9\n");
    let one = |texts: [&'static str; 2]| {
        let scores = case.probabilities().texts("a", texts);
        case.record(scores.ignore_other_columns())
    };
    one(["x", "y"]).unwrap();
    one([" x", "y "]).unwrap();
    let error = one(["y", "x"]).unwrap_err().to_string();
    assert!(error.contains("the fact `source texts`"), "{error}");

    std::fs::remove_dir_all(case.folder.path().join("teacher")).unwrap();
    let two = |pairs: [[&'static str; 2]; 2]| {
        case.record(case.probabilities().text_pairs(["a", "b"], pairs))
    };
    two([["x", "1"], ["y", "2"]]).unwrap();
    two([["x", "1"], ["y", "2"]]).unwrap();
    let error = two([["y", "2"], ["x", "1"]]).unwrap_err().to_string();
    assert!(error.contains("the fact `source texts`"), "{error}");
}

#[test]
fn what_is_wrong_is_told_with_line_and_remedy() {
    let of_probabilities: [(&'static str, &str, &str); 20] = [
        (
            "soft.csv",
            "id,bad\n1,0.5\n",
            "line 1 has no column for the label `good`; its columns are `id`, `bad`",
        ),
        (
            "soft.csv",
            "id,bad,good,bad\n1,0.5,0.5,0\n",
            "line 1 has the column `bad` twice",
        ),
        (
            "soft.csv",
            "id,bad,good,Good\n1,1,0,0\n",
            "line 1 has a column `Good`, which was not asked for",
        ),
        (
            "soft.csv",
            "id,bad,good\n1,0.5\n",
            "line 2 has 2 fields, and the first line has 3",
        ),
        (
            "soft.csv",
            "id,bad,good\n1,NaN,1\n",
            "line 2 has NaN for `bad`",
        ),
        (
            "soft.csv",
            "id,bad,good\n1,1e60,1\n",
            "line 2 has 1e60 for `bad`",
        ),
        (
            "soft.csv",
            "id,bad,good\n1,,1\n",
            "line 2 has `` for `bad`, which is no number",
        ),
        (
            "soft.csv",
            "id,bad,good\n1,-0.5,1.5\n",
            "no probability is negative; if these are logits",
        ),
        (
            "soft.csv",
            "id,bad,good\n1,0.5,0.5\n2,0.5,0.4\n3,1,1\n4,1,2\n",
            "line 3 sums to 0.9, and probabilities to 1; if these are logits",
        ),
        (
            "soft.csv",
            "id,bad,good\n1,0.5,0.4\n3,1,1\n4,1,2\n",
            "(and 2 more lines, with this or something else: 3, 4)",
        ),
        (
            "soft.csv",
            "id,bad,good\nx1,0.5,0.5\n",
            "line 2 has `x1` for `id`, which is no whole number",
        ),
        (
            "soft.csv",
            "id,bad,good\n-1,0.5,0.5\n",
            "line 2 has `-1` for `id`",
        ),
        (
            "soft.csv",
            "id,bad,good\n3,0.5,0.5\n4,1,0\n3,1,0\n",
            "line 4 has the id 3 of line 2 again",
        ),
        (
            "soft.csv",
            "",
            "line 1 has no column for the labels `bad`, `good`; it has no columns at all",
        ),
        ("soft.csv", "id,bad,good\n", "has no rows"),
        (
            "soft.txt",
            "id,bad,good\n1,1,0\n",
            "let it end in `.csv`, `.tsv` or `.jsonl`",
        ),
        (
            "soft.jsonl",
            "{\"id\": 1, \"bad\": NaN}\n",
            "line 1 cannot be read",
        ),
        (
            "soft.jsonl",
            "{\"id\": 1, \"bad\": 1, \"good\": null}\n",
            "line 1 has `null` for `good`",
        ),
        (
            "soft.jsonl",
            "{\"id\": 1, \"bad\": 1, \"good\": 0, \"good\": 0}\n",
            "line 1 has the column `good` twice",
        ),
        (
            "soft.jsonl",
            "\n{\"id\": 1, \"bad\": 1}\n{\"id\": 1, \"bad\": 1}\n",
            "line 2 has no column for the label `good`",
        ),
    ];
    for (name, text, expected) in of_probabilities {
        let case = Case::new(name, text);
        let error = case.error(case.probabilities());
        assert!(error.contains(expected), "{text:?}: {error}");
    }

    let case = Case::new("soft.csv", "id,bad,good\n1,-inf,-inf\n");
    let error = case.error(case.logits());
    assert!(error.contains("no class that is possible"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("soft.csv"), b"id,bad,good\n1,\xff,0\n").unwrap();
    let case = Case {
        folder,
        name: "soft.csv",
    };
    let error = case.error(case.probabilities());
    assert!(error.contains("line 2 is not UTF-8"), "{error}");

    let case = Case::new("soft.csv", "text,bad,good\na,1,0\nc,1,0\nd,1,0\n");
    let error = case.error(case.probabilities().texts("text", ["a", "b", "B"]));
    let expected = "has no row for 2 of 3 texts of the data: 1 (`b`), 2 (`B`); add them";
    assert!(error.contains(expected), "{error}");
    assert!(
        error.contains("2 lines have texts that are not in the data: 3 (`c`), 4 (`d`)"),
        "{error}"
    );

    let case = Case::new("soft.csv", "text,bad,good\na,1,0\nb,1,0\n a,0,1\n");
    let error = case.error(case.probabilities().texts("text", ["a", "b"]));
    assert!(
        error.contains("line 4 has the text of line 2 with other numbers"),
        "{error}"
    );

    let case = Case::new("soft.csv", "bad,good\n1,0\n");
    let error = case.error(case.probabilities().by_position().ids([1, 2]));
    assert!(error.contains("has 1 rows, for 2 ids"), "{error}");
}

/// A file with a probability of 0 teaches: no loss is NaN, and the student comes to say what the file says.
#[test]
fn a_student_learns_from_it() {
    let case = Case::new(
        "soft.csv",
        "id,bad,good\n0,1,0\n1,0.25,0.75\n2,0,1\n3,0.5,0.5\n",
    );
    let file = case.record(case.probabilities()).unwrap();
    type Batch = (Ids, Vec<Tensor>);
    for loss in ["ce", "kl", "forward_kl"] {
        let numbers = Tensor::eye(4, (Kind::Float, Device::Cpu));
        let mut loader = TensorLoader::new(vec![numbers], 4)
            .unwrap()
            .shuffle(1)
            .with_ids();
        let variables = nn::VarStore::new(Device::Cpu);
        let weight = variables.root().zeros("weight", &[4, 2]);
        let student = from_fn(|(_, columns): &Batch, _| Ok(columns[0].f_matmul(&weight)?));
        let teacher = file.teacher(|_: &Batch| Ok(AdaptorOutput::new()));
        let output = case.folder.path().join(loss);
        let kd = format!("{{\"kd_loss_type\": \"{loss}\", \"temperature\": 1}}");
        let mut distiller = GeneralDistiller::builder(teacher, &student, &variables)
            .train_config(
                TrainingConfig::default()
                    .device(Device::Cpu)
                    .output_dir(output),
            )
            .distill_config(DistillationConfig::from_json_str(&kd).unwrap())
            .presets(Presets::default())
            .teacher_adaptor(|_, said| Ok(said.shallow_clone()))
            .student_adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
            .build()
            .unwrap();
        distiller
            .train(&mut loader)
            .epochs(40)
            .optimizer(Sgd::new(8.0))
            .run()
            .unwrap();
        let said = Vec::<f32>::try_from(weight.softmax(-1, Kind::Float).select(1, 1).contiguous());
        for (said, wanted) in said.unwrap().into_iter().zip([0.0, 0.75, 1.0, 0.5]) {
            assert!((said - wanted).abs() < 0.03, "{loss}: {said} {wanted}");
        }
    }
}
