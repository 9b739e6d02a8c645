//! Scores to tags, their files, and how good they are.

use ndarray::{Array2, arr2};
use tasks::{Tagging, Task};

use super::{CONLL, file, perfect, read, tokenizer};

/// The predictions of a file for the sentences of [`CONLL`]; a refusal without the folder.
fn read_back(content: &str) -> Result<Vec<Vec<usize>>, String> {
    let task = Tagging::conll2003();
    let sentences = read(&task, CONLL).unwrap();
    let (folder, path) = file(content);
    let folder = format!("{}/", folder.path().display());
    let predictions = task.read_predictions(&path, &sentences);
    predictions.map_err(|error| error.to_string().strip_prefix(&folder).unwrap().to_owned())
}

const WRITTEN: &str = "\
-DOCSTART-\tO

EU\tB-ORG
rejects\tO
German\tB-MISC
lamb\tO
.\tO

-DOCSTART-\tO

George\tB-PER
Washington\tI-PER

Sleeps\tO

";

#[test]
fn the_highest_score_at_the_first_piece_decides() {
    let task = Tagging::msra_ner();
    let pieces = tokenizer(&task, 128, 0);
    let record = task.record_of(1, "北 a").unwrap();
    let windows = task.features(&pieces, &record).unwrap();
    // [CLS], two words, [SEP]; of equal scores the first wins.
    let scores = arr2(&[
        [9., 0., 0., 0., 0., 0., 0.],
        [0., 0., 0., -1., 0.5, 0.4, 0.],
        [-3., -2., -2., -4., -5., -6., -7.],
        [0., 0., 0., 0., 0., 0., 9.],
    ]);
    assert_eq!(
        task.predict(&record, &[(&windows[0], &scores)]).unwrap(),
        [4, 1]
    );
}

#[test]
fn scores_that_are_not_of_the_window_are_refused() {
    let task = Tagging::msra_ner();
    let pieces = tokenizer(&task, 128, 0);
    let record = task.record_of(1, "北京").unwrap();
    let windows = task.features(&pieces, &record).unwrap();
    let refused = |record, scores: Array2<f32>| {
        let error = task.predict(record, &[(&windows[0], &scores)]);
        error.unwrap_err().to_string()
    };
    for shape in [(3, 7), (5, 7), (4, 6)] {
        let error = refused(&record, Array2::zeros(shape));
        assert!(
            error.starts_with("scores of [4, 7] (pieces, tags) expected"),
            "{error}"
        );
    }
    let error = refused(&record, Array2::from_elem((4, 7), f32::NAN));
    assert!(error.contains("are no numbers"), "{error}");
    let other = task.record_of(1, "北").unwrap();
    let error = refused(&other, Array2::zeros((4, 7)));
    assert!(
        error.contains("not of this sentence, which has 1 words"),
        "{error}"
    );
}

#[test]
fn a_perfect_prediction_has_100_percent() {
    let task = Tagging::conll2003();
    let sentences = read(&task, CONLL).unwrap();
    // Cut into windows and whole.
    for max_length in [5, 128] {
        let pieces = tokenizer(&task, max_length, 1);
        let predictions: Vec<_> = sentences
            .iter()
            .map(|s| perfect(&task, &pieces, s))
            .collect();
        let metrics = task.measure(&sentences, &predictions).unwrap();
        let all: Vec<_> = metrics.iter().collect();
        let names = [
            "F1",
            "precision",
            "recall",
            "accuracy",
            "F1 MISC",
            "F1 ORG",
            "F1 PER",
        ];
        assert_eq!(all, names.map(|name| (name, 100.0)));
        assert_eq!(metrics.main(), 100.0);
    }
}

#[test]
fn an_empty_prediction_has_0_percent() {
    let task = Tagging::conll2003();
    let sentences = read(&task, CONLL).unwrap();
    let predictions: Vec<_> = sentences.iter().map(|s| vec![0; s.words.len()]).collect();
    let metrics = task.measure(&sentences, &predictions).unwrap();
    for name in ["F1", "precision", "recall", "F1 MISC", "F1 ORG", "F1 PER"] {
        assert_eq!(metrics.get(name), Some(0.0), "{name}");
    }
    // Four of eight words are of no entity.
    assert_eq!(metrics.get("accuracy"), Some(50.0));
}

#[test]
fn an_entity_counts_when_all_of_it_is_right() {
    let task = Tagging::conll2003();
    let sentences = read(&task, CONLL).unwrap();
    // ORG right, MISC missed, PER only in part, a LOC too many.
    let predictions = vec![vec![3, 0, 0, 0, 0], vec![1, 0], vec![5]];
    let metrics = task.measure(&sentences, &predictions).unwrap();
    let close = |name: &str, expected: f64| {
        let found = metrics.get(name).unwrap();
        assert!((found - expected).abs() < 1e-9, "{name} {found}");
    };
    close("F1", 100.0 / 3.0);
    close("precision", 100.0 / 3.0);
    close("recall", 100.0 / 3.0);
    close("accuracy", 100.0 * 5.0 / 8.0);
    close("F1 ORG", 100.0);
    for kind in ["LOC", "MISC", "PER"] {
        close(&format!("F1 {kind}"), 0.0);
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let task = Tagging::conll2003();
    let sentences = read(&task, CONLL).unwrap();
    let refused = |sentences: &[_], predictions: &[Vec<usize>]| {
        task.measure(sentences, predictions)
            .unwrap_err()
            .to_string()
    };
    let error = refused(&sentences, &[vec![0; 5]]);
    assert_eq!(error, "1 predictions for 3 sentences");
    let error = refused(&sentences, &[vec![0; 5], vec![0], vec![0]]);
    assert_eq!(error, "1 tags for the 2 words of sentence 2");
    let error = refused(&sentences, &[vec![0; 5], vec![0, 9], vec![0]]);
    assert_eq!(error, "tag 9 of 9 tags");
    let untagged = [task.record_of(1, "EU").unwrap()];
    let error = refused(&untagged, &[vec![0]]);
    assert!(
        error.starts_with("sentence 1 has no tags to compare with"),
        "{error}"
    );
}

#[test]
fn a_file_of_predictions_has_the_lines_of_its_source() {
    let task = Tagging::conll2003();
    let sentences = read(&task, CONLL).unwrap();
    let truth: Vec<_> = sentences.iter().map(|s| s.tags.clone().unwrap()).collect();
    let text = task.write(&sentences, &truth).unwrap();
    assert_eq!(text, WRITTEN);
    let first = |line: &str| line.split([' ', '\t']).next().map(str::to_owned);
    let (written, source): (Vec<_>, Vec<_>) = text
        .lines()
        .zip(CONLL.lines())
        .map(|(a, b)| (first(a), first(b)))
        .unzip();
    assert_eq!(written, source);
    assert_eq!(read_back(&text), Ok(truth));
}

#[test]
fn chinese_predictions_come_back() {
    let task = Tagging::msra_ner();
    let sentences = read(&task, "北\tB-LOC\n京\tI-LOC\n \tO\n\n你\tO\n").unwrap();
    let truth: Vec<_> = sentences.iter().map(|s| s.tags.clone().unwrap()).collect();
    let text = task.write(&sentences, &truth).unwrap();
    assert_eq!(text, "北\tB-LOC\n京\tI-LOC\n \tO\n\n你\tO\n\n");
    let (_folder, path) = file(text);
    assert_eq!(task.read_predictions(&path, &sentences).unwrap(), truth);
}

#[test]
fn documents_may_be_left_out_of_predictions() {
    let without = WRITTEN.replace("-DOCSTART-\tO\n\n", "");
    assert_eq!(read_back(&without), read_back(WRITTEN));
    assert!(read_back(&without).is_ok());
    assert_eq!(
        read_back(&WRITTEN.replace('\n', "\r\n")),
        read_back(WRITTEN)
    );
}

#[test]
fn predictions_for_other_words_are_refused() {
    for (from, to, expected) in [
        (
            "German\t",
            "french\t",
            "data.txt:5: `french`, where sentence 1 of the data has `German` as word 3",
        ),
        (
            "lamb\tO\n.\tO\n",
            "lamb\tO\n",
            "data.txt:3: this sentence has 4 words, where sentence 1 of the data has 5",
        ),
        (
            "Washington\tI-PER\n",
            "Washington\tI-PER\nwas\tO\n",
            "data.txt:13: sentence 2 of the data has only 2 words",
        ),
        (
            "Sleeps\tO\n",
            "Sleeps\tO\n\nEU\tO\n",
            "data.txt:16: more sentences than the 3 of the data",
        ),
        (
            "\nSleeps\tO\n",
            "",
            "data.txt: 2 sentences, where the data has 3; predict them all",
        ),
        (
            "rejects\tO",
            "rejects\tX",
            "data.txt:4: unknown tag `X`; known are O, B-PER, I-PER, B-ORG, I-ORG, B-LOC, I-LOC, \
             B-MISC, I-MISC",
        ),
        (
            "rejects\tO",
            "rejects",
            "data.txt:4: no tag, where line 3 has one; either all words have a tag or none has",
        ),
    ] {
        assert!(WRITTEN.contains(from));
        assert_eq!(
            read_back(&WRITTEN.replace(from, to)),
            Err(expected.to_owned())
        );
    }
    let words_alone = WRITTEN
        .replace("\tO", "")
        .replace("\tB-ORG", "")
        .replace("\tB-MISC", "");
    let words_alone = words_alone.replace("\tB-PER", "").replace("\tI-PER", "");
    let expected = "data.txt:3: no tag; expected `word<TAB>tag`";
    assert_eq!(read_back(&words_alone), Err(expected.to_owned()));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let task = Tagging::conll2003();
    let sentences = read(&task, CONLL).unwrap();
    let error = task
        .write(&sentences, &[vec![0; 5]])
        .unwrap_err()
        .to_string();
    assert_eq!(error, "1 predictions for 3 sentences");
    let mut sentence = task.record_of(1, "EU").unwrap();
    sentence.words[0] = "E\nU".to_owned();
    let error = task.write(&[sentence], &[vec![0]]).unwrap_err().to_string();
    assert!(
        error.contains(r#"the word "E\nU" cannot be written"#),
        "{error}"
    );
}

#[test]
fn people_see_entities_in_brackets() {
    let task = Tagging::conll2003();
    let record = task
        .record_of(1, "  George Washington rejects\tEU ")
        .unwrap();
    assert_eq!(record.words, ["George", "Washington", "rejects", "EU"]);
    let shown = task.show(&record, &vec![1, 2, 0, 3]);
    assert_eq!(shown, "[George Washington PER] rejects [EU ORG]");
    let task = Tagging::msra_ner();
    let record = task.record_of(1, "你好 北京").unwrap();
    assert_eq!(record.words, ["你", "好", "北", "京"]);
    assert_eq!(task.show(&record, &vec![0, 0, 5, 6]), "你好[北京 LOC]");
    for task in [task, Tagging::conll2003()] {
        let error = task.record_of(1, " \t").unwrap_err().to_string();
        assert!(error.starts_with("no word in the text"), "{error}");
    }
}

/// Readers take a mark of byte order away; the second here is of the word.
#[test]
fn a_word_may_begin_with_a_mark() {
    let task = Tagging::conll2003();
    let sentences = read(&task, "\u{feff}\u{feff}EU NNP B-NP B-ORG\n").unwrap();
    assert_eq!(sentences[0].words, ["\u{feff}EU"]);
    let predictions = [vec![3]];
    let text = task.write(&sentences, &predictions).unwrap();
    let (_folder, path) = file(&text);
    assert_eq!(
        task.read_predictions(&path, &sentences).unwrap(),
        predictions
    );
}
