//! Answers to questions, against the official scripts of SQuAD v1.1 and CMRC 2018.

use std::collections::BTreeMap;

use tasks::metrics::cmrc::Cmrc;
use tasks::metrics::squad::Squad;

use crate::metrics_reference::{Cmrc as Case, reference, same};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// The cases as one data set, every seventh without a prediction.
struct DataSet {
    questions: Vec<(String, Vec<String>)>,
    predictions: BTreeMap<String, String>,
}

impl DataSet {
    fn new(cases: impl Iterator<Item = (String, Vec<String>)>) -> Self {
        let (mut questions, mut predictions) = (Vec::new(), BTreeMap::new());
        for (i, (prediction, answers)) in cases.enumerate() {
            questions.push((i.to_string(), answers));
            if i % 7 != 3 {
                predictions.insert(i.to_string(), prediction);
            }
        }
        // For no question: ignored.
        predictions.insert("nobody asked".to_owned(), "北京".to_owned());
        DataSet {
            questions,
            predictions,
        }
    }

    fn questions(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.questions
            .iter()
            .map(|(id, a)| (id.as_str(), a.as_slice()))
    }
}

#[test]
fn squad_answers() {
    let squad = Squad::new().unwrap();
    let cases = reference().squad;
    assert_eq!(cases.len(), 160);
    for (prediction, answers, exact_match, f1) in cases {
        let what = format!("{prediction:?} for {answers:?}");
        let ours = squad.score(&prediction, &answers).unwrap();
        assert_eq!(ours.0, exact_match == 1.0, "{what}");
        same(&what, ours.1, f1);
    }
}

#[test]
fn squad_data_set() {
    let reference = reference();
    let cases = reference.squad.into_iter().map(|case| (case.0, case.1));
    let data = DataSet::new(cases);
    let ours = Squad::new()
        .unwrap()
        .evaluate(data.questions(), &data.predictions);
    let ours = ours.unwrap();
    same("exact match", ours.exact_match, reference.squad_total.0);
    same("F1", ours.f1, reference.squad_total.1);
    // 3, 10, 17, … below 160.
    assert_eq!((ours.total, ours.missing), (160, 23));
}

#[test]
fn squad_normalises() {
    let squad = Squad::new().unwrap();
    let normal = squad
        .normalize(" The_Broncos' —  a\tTEAM (of the U.S.)\n")
        .unwrap();
    assert_eq!(normal, "thebroncos — team of us");
}

/// What the documentation of the module says of where NLTK's sentences matter.
fn may_end_a_sentence(text: &str) -> bool {
    let ends = text.match_indices(['.', '?', '!']);
    ends.map(|(at, _)| &text[at + 1..]).any(|rest| {
        rest.starts_with([
            ')', '"', ';', '}', ']', '*', ':', '@', '\'', '(', '{', '[', '!', '?',
        ]) || rest.starts_with(char::is_whitespace) && !rest.trim().is_empty()
    })
}

#[test]
fn cmrc_answers() {
    let cmrc = Cmrc::new().unwrap();
    let cases = reference().cmrc;
    assert_eq!(cases.len(), 230);
    let (mut in_words, mut in_f1) = (0, 0);
    for case in cases {
        let (prediction, answers, exact_match, f1, segments) = match case {
            Case::Same(prediction, answers, exact_match, f1, segments) => {
                (prediction, answers, exact_match, f1, segments)
            }
            Case::Sentences(prediction, answers, exact_match, official, segments, f1) => {
                let may_differ = may_end_a_sentence(&prediction)
                    || answers.iter().any(|answer| may_end_a_sentence(answer));
                assert!(may_differ, "{prediction:?} for {answers:?}");
                in_words += 1;
                in_f1 += usize::from(official != f1);
                (prediction, answers, exact_match, f1, segments)
            }
        };
        let what = format!("{prediction:?} for {answers:?}");
        let ours = cmrc.segments(&prediction).unwrap().join(" ");
        assert_eq!(ours, segments, "{what}");
        let ours = cmrc.score(&prediction, &answers).unwrap();
        assert_eq!(ours.0, exact_match == 1.0, "{what}");
        same(&what, ours.1, f1);
    }
    // The official script differs in these, and in no other case.
    assert_eq!((in_words, in_f1), (6, 5));
}

#[test]
fn cmrc_data_set() {
    let reference = reference();
    let cases = reference.cmrc.into_iter().map(|case| match case {
        Case::Same(prediction, answers, ..) => (prediction, answers),
        Case::Sentences(prediction, answers, ..) => (prediction, answers),
    });
    let data = DataSet::new(cases);
    let ours = Cmrc::new()
        .unwrap()
        .evaluate(data.questions(), &data.predictions);
    let ours = ours.unwrap();
    let (exact_match, f1, total, missing, average) = reference.cmrc_total;
    same("exact match", ours.exact_match, exact_match);
    same("F1", ours.f1, f1);
    same("average", ours.average(), average);
    assert_eq!((ours.total, ours.missing), (total, missing));
}

#[test]
fn perfect_and_missing_predictions() {
    let answers = texts(&["北京 in 1990"]);
    let questions = || [("q1", answers.as_slice()), ("q2", answers.as_slice())];
    let all = ["q1", "q2"].map(|id| (id.to_owned(), answers[0].clone()));
    let (all, none) = (BTreeMap::from(all), BTreeMap::new());
    let (squad, cmrc) = (Squad::new().unwrap(), Cmrc::new().unwrap());
    for (predictions, expected, missing) in [(&all, 100.0, 0), (&none, 0.0, 2)] {
        for scores in [
            squad.evaluate(questions(), predictions).unwrap(),
            cmrc.evaluate(questions(), predictions).unwrap(),
        ] {
            assert_eq!((scores.exact_match, scores.f1), (expected, expected));
            assert_eq!(scores.average(), expected);
            assert_eq!((scores.total, scores.missing), (2, missing));
        }
    }
}

#[test]
fn errors_name_the_question() {
    let (squad, cmrc) = (Squad::new().unwrap(), Cmrc::new().unwrap());
    let predictions = BTreeMap::from(["q1", "q2"].map(|id| (id.to_owned(), "x".to_owned())));
    let answers = texts(&["x"]);
    let questions = || [("q1", answers.as_slice()), ("q2", &[])];
    for error in [
        squad.evaluate(questions(), &predictions).unwrap_err(),
        cmrc.evaluate(questions(), &predictions).unwrap_err(),
    ] {
        let message = error.to_string();
        let start = "question 2 (counted from 1), id `q2`: has no answers";
        assert!(message.starts_with(start), "{message}");
    }
    assert!(squad.evaluate([], &predictions).is_err());
    assert!(cmrc.evaluate([], &predictions).is_err());
}

#[test]
fn long_and_hostile_texts_are_scored_or_refused() {
    let (squad, cmrc) = (Squad::new().unwrap(), Cmrc::new().unwrap());
    let parts = [
        "a ",
        "'a",
        ".)",
        "'' ",
        "\"",
        "cannot ",
        "中a",
        "\u{301}a\u{301}",
        ". ",
    ];
    for part in parts {
        let text = part.repeat(1 << 8);
        let (_, f1) = squad.score(&text, std::slice::from_ref(&text)).unwrap();
        assert!((0.0..=1.0).contains(&f1), "{part}: {f1}");
        let (same, f1) = cmrc.score(&text, std::slice::from_ref(&text)).unwrap();
        assert!(same && f1 == 1.0, "{part}: {f1}");
    }
    // The engine gives up on texts that nobody answers with.
    let text = ". ".repeat(1 << 18);
    let message = squad.normalize(&text).unwrap_err().to_string();
    assert!(message.starts_with("an answer of "), "{message}");
    assert!(message.contains("too long or too odd"), "{message}");
}
