//! Answers that are where the file says, elsewhere, or nowhere.

use serde_json::json;
use tasks::reading::{Question, Reading, Repairs};

use super::{Folder, part, squad};

/// Reads a file with these answers to one question.
fn read(task: &Reading, context: &str, answers: &[(&str, i64)]) -> (Question, Repairs) {
    let answers: Vec<_> = answers
        .iter()
        .map(|(text, start)| json!({"text": text, "answer_start": start}))
        .collect();
    let qas = json!([{"id": "q7", "question": "?", "answers": answers}]);
    let path = Folder::new();
    let file = path.write("train.json", squad(context, qas));
    let (mut records, repairs) = task.read_with_repairs(&file).unwrap();
    (records.remove(0), repairs)
}

/// Where one answer begins, and whether that is not where the file says.
fn place(task: &Reading, context: &str, text: &str, start: i64) -> Option<(usize, bool)> {
    let (record, repairs) = read(task, context, &[(text, start)]);
    let span = record.answers[0].span?;
    Some((span.start, repairs.moved == ["q7"]))
}

#[test]
fn places_are_in_characters() {
    let task = Reading::squad();
    // Of 1, 2, 3 and 4 bytes.
    let context = "aé€😀 Zoë said “no”";
    assert_eq!(place(&task, context, "Zoë", 5), Some((5, false)));
    assert_eq!(place(&task, context, "no", 15), Some((15, false)));
    assert_eq!(place(&task, context, "😀", 3), Some((3, false)));
    // As a count of bytes would have it.
    assert_eq!(place(&task, context, "Zoë", 11), Some((5, true)));
    let context = "范廷颂是何时被任为主教的？1963年。";
    let place = place(&Reading::cmrc2018(), context, "1963年", 13);
    assert_eq!(place, Some((13, false)));
}

#[test]
fn the_nearest_place_is_taken() {
    let task = Reading::squad();
    let context = "red, blue, red, blue, red";
    for (said, found) in [
        (1, 0),
        (5, 0),
        (6, 11),
        (12, 11),
        (19, 22),
        (-3, 0),
        (999, 22),
    ] {
        assert_eq!(
            place(&task, context, "red", said),
            Some((found, true)),
            "{said}"
        );
    }
    assert_eq!(place(&task, context, "red", i64::MAX), Some((22, true)));
    assert_eq!(place(&task, context, "red", i64::MIN), Some((0, true)));
    // Of two that are equally near the first.
    assert_eq!(place(&task, "a-a", "a", 1), Some((0, true)));
}

#[test]
fn a_whole_word_is_better_than_a_nearer_part() {
    let task = Reading::squad();
    assert_eq!(place(&task, "xart of art", "art", 2), Some((8, true)));
    // There is no whole one.
    assert_eq!(place(&task, "xart of artx", "art", 2), Some((1, true)));
    // Every Chinese character is a word, but digits and letters are not cut.
    let task = Reading::cmrc2018();
    assert_eq!(place(&task, "主教的年，教", "教", 2), Some((1, true)));
    assert_eq!(place(&task, "1990年或90年", "90年", 3), Some((6, true)));
}

#[test]
fn white_space_does_not_matter() {
    let task = Reading::squad();
    let (record, repairs) = read(
        &task,
        "he went to  New\n York  City",
        &[("New York City", 4)],
    );
    let span = record.answers[0].span.unwrap();
    assert_eq!(part(&record.context, span), "New\n York  City");
    assert_eq!((repairs.moved.len(), repairs.nowhere.len()), (1, 0));
    // Words stay words.
    let (record, _) = read(&task, "an other", &[("another", 0)]);
    assert_eq!(record.answers[0].span, None);

    let task = Reading::cmrc2018();
    let (record, _) = read(&task, "《 范 廷颂 》是主教", &[("范廷颂", 1)]);
    assert_eq!(
        part(&record.context, record.answers[0].span.unwrap()),
        "范 廷颂"
    );
    let (record, _) = read(&task, "《范廷颂》是主教", &[("范 廷 颂", 4)]);
    assert_eq!(
        part(&record.context, record.answers[0].span.unwrap()),
        "范廷颂"
    );

    // White space around an answer is not part of it.
    let (record, repairs) = read(&Reading::squad(), "in  May 1990 or", &[(" May ", 3)]);
    assert_eq!(
        part(&record.context, record.answers[0].span.unwrap()),
        "May"
    );
    assert_eq!(
        (repairs.moved.len(), &*record.answers[0].text),
        (0, " May ")
    );
}

#[test]
fn what_is_nowhere_is_counted() {
    let answers = [("39648.0", 1), ("be", 0), ("b", 3), (" ", 1)];
    let (record, repairs) = read(&Reading::squad(), "a b c", &answers);
    let found: Vec<_> = record
        .answers
        .iter()
        .map(|answer| answer.span.is_some())
        .collect();
    assert_eq!(found, [false, false, true, false]);
    let expected = Repairs {
        answers: 4,
        moved: vec!["q7".to_owned()],
        nowhere: vec!["q7".to_owned(); 3],
        unanswered: Vec::new(),
    };
    assert_eq!(repairs, expected);
    let (_, repairs) = read(&Reading::squad(), "a b c", &[("d", 0), ("e", 0)]);
    assert_eq!(repairs.unanswered, ["q7"]);
}
