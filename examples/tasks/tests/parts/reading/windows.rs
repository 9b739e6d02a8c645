//! Windows over long contexts.

use tasks::Task;
use tasks::reading::{Answer, Question, Reading, Window};
use tch::Tensor;
use textbrewer::models::BertInputs;

use super::{Folder, part, question};

/// Single letters, each of which is one piece, and some words of three.
fn long_context(words: usize) -> String {
    let word = |index: usize| match index % 7 {
        3 => "unbelievable".to_owned(),
        other => char::from(b'a' + (other + index / 7 % 20) as u8).to_string(),
    };
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

/// The text of a window's answer.
fn found(record: &Question, window: &Window) -> Option<String> {
    let (first, last) = window.answer.unwrap();
    if first == 0 {
        assert_eq!(last, 0);
        return None;
    }
    let mut span = window.span((first - window.first) as usize).unwrap();
    span.end = window.span((last - window.first) as usize).unwrap().end;
    Some(part(&record.context, span))
}

#[test]
fn a_short_context_is_one_window() {
    let (folder, task) = (Folder::new(), Reading::squad());
    let pieces = folder.pieces(&task, 32, 8);
    let record = question("who?", "É unbelievable, 🦀 river", "unbelievable");
    let windows = task.features(&pieces, &record).unwrap();
    let [window] = &windows[..] else {
        panic!("{windows:?}")
    };
    // [CLS] who ? [SEP] e un ##believ ##able , [UNK] river [SEP]
    assert_eq!(window.encoded.ids.len(), 12);
    assert_eq!(window.encoded.types, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!((window.first, window.len()), (4, 7));
    let characters = [0, 1, 2, 4, 4, 10, 10, 14, 14, 15, 16, 17, 18, 23];
    assert_eq!(window.characters, characters);
    assert_eq!(window.answer, Some((5, 7)));
    assert_eq!(window.begin, 0);
    assert_eq!(window.span(7), None);
}

#[test]
fn every_piece_is_in_some_window_and_every_answer_is_found_in_each_that_has_it() {
    let (folder, task) = (Folder::new(), Reading::squad());
    let context = long_context(90);
    let whole = task.features(
        &folder.pieces(&task, 1000, 8),
        &question("who", &context, "a"),
    );
    let whole = &whole.unwrap()[0].characters;
    for (max_length, stride) in [(24, 8), (24, 0), (17, 11), (40, 1)] {
        let pieces = folder.pieces(&task, max_length, stride);
        let answers = [("a b c", 3), ("unbelievable e", 4), ("d e", 2), ("f", 1)];
        for (answer, length) in answers {
            let record = question("who", &context, answer);
            let truth = record.answers[0].span.unwrap();
            let windows = task.features(&pieces, &record).unwrap();
            let mut seen: Vec<u32> = Vec::new();
            let mut times = 0;
            for (index, window) in windows.iter().enumerate() {
                let is_last = index + 1 == windows.len();
                assert!(window.encoded.ids.len() == max_length || is_last);
                // Two numbers for each piece that was in the window before.
                let again = if index == 0 { 0 } else { 2 * stride };
                assert_eq!(seen[seen.len() - again..], window.characters[..again]);
                assert_eq!(window.begin as usize, (seen.len() - again) / 2);
                seen.extend(&window.characters[again..]);
                let from = window.span(0).unwrap().start;
                let to = window.span(window.len() - 1).unwrap().end;
                let expected = (from <= truth.start && truth.end <= to).then(|| answer.to_owned());
                assert_eq!(found(&record, window), expected, "{window:?}");
                times += usize::from(expected.is_some());
            }
            assert_eq!(&seen, whole);
            // What is longer than the stride may be cut by every window.
            assert!(times > 0 || length > stride + 1, "{answer} {stride}");
        }
    }
}

/// The tokenizer drops control characters, also where an answer begins or ends.
#[test]
fn an_answer_may_begin_with_what_has_no_piece() {
    let (folder, task) = (Folder::new(), Reading::squad());
    let record = question("who", "a b \u{200b}c d\u{200b} e", "\u{200b}c d\u{200b}");
    let windows = task
        .features(&folder.pieces(&task, 32, 8), &record)
        .unwrap();
    // [CLS] who [SEP] a b c d e [SEP]
    assert_eq!(windows[0].answer, Some((5, 6)));
    let record = question("who", "\u{200b}c d\u{200b}", "\u{200b}c d\u{200b}");
    let windows = task
        .features(&folder.pieces(&task, 32, 8), &record)
        .unwrap();
    assert_eq!(windows[0].answer, Some((3, 4)));
}

#[test]
fn the_first_answer_that_is_found_counts() {
    let (folder, task) = (Folder::new(), Reading::squad());
    let pieces = folder.pieces(&task, 32, 8);
    let mut record = question("who", "a b c", "b");
    let nowhere = Answer {
        text: "x".to_owned(),
        span: None,
    };
    let answer = |record: &Question| task.features(&pieces, record).unwrap()[0].answer;
    record.answers.insert(0, nowhere);
    assert_eq!(answer(&record), Some((4, 4)));
    record.answers.truncate(1);
    // There is nothing to learn from it.
    assert_eq!(answer(&record), None);
    record.answers.clear();
    assert_eq!(answer(&record), None);
}

#[test]
fn long_questions_are_cut_between_words() {
    let (folder, mut task) = (Folder::new(), Reading::squad());
    let pieces = folder.pieces(&task, 24, 4);
    let ids = |text: &str| pieces.encode(("", text)).unwrap().get_ids()[2..].to_vec();
    // `longest` pieces are allowed, `kept` is what is left.
    for (longest, kept) in [
        (9, "who a unbelievable b"),
        (5, "who a unbelievable"),
        (4, "who a"),
    ] {
        task.max_query_length = longest;
        let record = question("who a unbelievable b", "x y", "y");
        let windows = task.features(&pieces, &record).unwrap();
        let first = windows[0].first as usize;
        assert_eq!(windows[0].encoded.ids[1..first], ids(kept), "{longest}");
        assert_eq!(found(&record, &windows[0]).unwrap(), "y");
    }
    // A question of one long word is cut in it.
    task.max_query_length = 2;
    let record = question("unbelievable", "x y", "y");
    let windows = task.features(&pieces, &record).unwrap();
    assert_eq!(windows[0].encoded.ids[1..4], ids("unbeliev"));
    // A question that is longer than a window, and one that is blank.
    task.max_query_length = 8;
    let record = question(&"a ".repeat(500), "x y", "y");
    assert_eq!(task.features(&pieces, &record).unwrap()[0].first, 10);
    let record = question("", "x y", "y");
    assert_eq!(task.features(&pieces, &record).unwrap()[0].first, 2);
}

#[test]
fn windows_without_room_are_refused() {
    let (folder, mut task) = (Folder::new(), Reading::squad());
    let record = question("a b c d e f", "x y", "y");
    let refused = |task: &Reading, max_length, stride| {
        let pieces = folder.pieces(task, max_length, stride);
        task.features(&pieces, &record).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&task, 16, 7),
        "max_length 16 has no room for the context of question `q` beside its 6 pieces and a \
         stride of 7; raise max_length, or lower stride or max_query_length"
    );
    assert!(refused(&task, 9, 0).starts_with("max_length 9 has no room"));
    assert!(refused(&task, 11, 8).contains("beside its 0 pieces and a stride of 8"));
    assert!(refused(&task, 3, 0).contains("beside its 0 pieces and a stride of 0"));
    task.max_query_length = 5;
    let pieces = folder.pieces(&task, 16, 7);
    assert_eq!(task.features(&pieces, &record).unwrap().len(), 1);
    task.max_query_length = 0;
    assert_eq!(
        refused(&task, 32, 8),
        "max_query_length is 0; it is at least 1"
    );
}

#[test]
fn the_truth_goes_to_the_batch() {
    let (folder, task) = (Folder::new(), Reading::squad());
    let pieces = folder.pieces(&task, 32, 8);
    let first = task
        .features(&pieces, &question("who", "a b c", "b c"))
        .unwrap();
    let second = task.features(&pieces, &question("who", "a", "a")).unwrap();
    let batch = [&first[0], &second[0]];
    let encoded: Vec<_> = batch.iter().map(|window| task.encoded(window)).collect();
    let inputs = || pieces.batch(&encoded).unwrap();
    let with_truth = task.targets(&batch, 7, inputs()).unwrap();
    let numbers = |positions: &Option<Tensor>| -> Vec<i64> {
        Vec::try_from(positions.as_ref().unwrap()).unwrap()
    };
    assert_eq!(numbers(&with_truth.start_positions), [4, 3]);
    assert_eq!(numbers(&with_truth.end_positions), [5, 3]);

    let mut unknown = second[0].clone();
    unknown.answer = None;
    let without: BertInputs = task.targets(&[&first[0], &unknown], 7, inputs()).unwrap();
    assert!(without.start_positions.is_none() && without.end_positions.is_none());
}

/// Features are kept on disk, tens of thousands of them.
#[test]
fn windows_are_short_as_json() {
    let (folder, task) = (Folder::new(), Reading::squad());
    let record = question("who", &long_context(200), "b");
    let windows = task
        .features(&folder.pieces(&task, 384, 128), &record)
        .unwrap();
    let text = serde_json::to_string(&windows[0]).unwrap();
    let length = windows[0].encoded.ids.len();
    assert!(
        text.len() < 20 * length,
        "{} bytes of {length} pieces",
        text.len()
    );
    assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), windows[0]);
}
