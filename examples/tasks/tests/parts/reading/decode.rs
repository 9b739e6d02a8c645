//! Answers from scores made by hand.

use std::sync::Arc;

use ndarray::Array2;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tasks::Task;
use tasks::pieces::Encoded;
use tasks::reading::{Prediction, Question, Reading, Window};

const LOW: f32 = -10.0;

/// Pieces of a window and their scores.
type Given<'a> = &'a [(usize, f32)];

/// A question about a context of one-letter words.
fn record(context: &str) -> Question {
    Question {
        id: "q7".to_owned(),
        question: "?".to_owned(),
        context: Arc::from(context),
        answers: Vec::new(),
    }
}

/// A window of the context pieces `from..to`, each a character with a blank after it: `[CLS]`, one
/// piece of the question and `[SEP]` before them, `[SEP]` after.
fn window(from: u32, to: u32) -> Window {
    let length = (to - from + 4) as usize;
    Window {
        encoded: Encoded {
            ids: vec![1; length],
            types: vec![0; length],
        },
        first: 3,
        characters: (from..to)
            .flat_map(|piece| [2 * piece, 2 * piece + 1])
            .collect(),
        begin: from,
        answer: None,
    }
}

/// Scores of a window: those of context pieces that are given, low ones elsewhere.
fn scores(window: &Window, starts: Given<'_>, ends: Given<'_>) -> Array2<f32> {
    let mut scores = Array2::from_elem((window.encoded.ids.len(), 2), LOW);
    for (column, given) in [starts, ends].into_iter().enumerate() {
        for (piece, score) in given {
            scores[(3 + piece, column)] = *score;
        }
    }
    scores
}

fn texts(prediction: &Prediction) -> Vec<&str> {
    let candidates = prediction.candidates.iter();
    candidates
        .map(|candidate| candidate.text.as_str())
        .collect()
}

#[test]
fn the_best_of_all_windows() {
    let record = record("a b c d e f g h");
    let (first, second) = (window(0, 5), window(3, 8));
    let low = scores(&first, &[(1, 2.0)], &[(2, 3.0)]);
    let high = scores(&second, &[(2, 4.0)], &[(4, 3.5)]);
    let parts = [(&first, &low), (&second, &high)];
    let prediction = Reading::squad().predict(&record, &parts).unwrap();
    assert_eq!(texts(&prediction)[..2], ["f g h", "b c"]);
    assert_eq!(prediction.text(), "f g h");
    let best = &prediction.candidates[0];
    assert_eq!((best.start, best.end), (4.0, 3.5));
    // All others are far below, but in closed form: weights exp(7.5), exp(5), and what has one or
    // two low scores.
    let ratio = best.probability / prediction.candidates[1].probability;
    assert!((ratio - 2.5f64.exp()).abs() < 1e-9);
    let sum: f64 = prediction.candidates.iter().map(|c| c.probability).sum();
    assert!((sum - 1.0).abs() < 1e-12);
}

#[test]
fn an_end_is_not_before_its_start_nor_too_far() {
    let record = record("a b c d e f");
    let window = window(0, 6);
    let mut task = Reading::squad();
    let best = |task: &Reading, starts: Given<'_>, ends: Given<'_>| {
        let scores = scores(&window, starts, ends);
        let prediction = task.predict(&record, &[(&window, &scores)]).unwrap();
        prediction.text().to_owned()
    };
    let starts = [(3, 9.0), (1, 5.0)];
    let ends = [(1, 9.0), (4, 4.0)];
    assert_eq!(best(&task, &starts, &ends), "b");
    assert_eq!(best(&task, &starts, &[(2, 9.0), (4, 4.0)]), "b c");
    assert_eq!(best(&task, &[(3, 9.0)], &[(2, 9.0), (4, 4.0)]), "d e");
    // Four pieces are allowed, or three.
    let (starts, ends) = ([(0, 9.0), (1, 1.0)], [(3, 9.0)]);
    task.max_answer_length = 4;
    assert_eq!(best(&task, &starts, &ends), "a b c d");
    task.max_answer_length = 3;
    assert_eq!(best(&task, &starts, &ends), "b c d");
    task.max_answer_length = usize::MAX;
    assert_eq!(best(&task, &starts, &ends), "a b c d");
}

#[test]
fn the_question_and_special_tokens_are_no_answers() {
    let record = record("a b");
    let window = window(0, 2);
    let mut scores = Array2::from_elem((6, 2), 50.0);
    for (row, column, score) in [(3, 0, 1.0), (3, 1, 2.0), (4, 0, 3.0), (4, 1, 1.0)] {
        scores[(row, column)] = score;
    }
    let prediction = Reading::squad()
        .predict(&record, &[(&window, &scores)])
        .unwrap();
    assert_eq!(texts(&prediction), ["b", "a", "a b"]);
}

#[test]
fn an_answer_counts_where_its_window_shows_most_around_it() {
    let record = record("a b c d e f");
    let (first, second) = (window(0, 4), window(2, 6));
    let best = |of_first: (Given<'_>, Given<'_>), of_second| {
        let of_first = scores(&first, of_first.0, of_first.1);
        let (starts, ends): (Given<'_>, Given<'_>) = of_second;
        let of_second = scores(&second, starts, ends);
        let parts = [(&first, &of_first), (&second, &of_second)];
        Reading::squad().predict(&record, &parts).unwrap()
    };
    // The first window ends with `d`; the second has more on both sides of it, and thinks less.
    let prediction = best((&[(3, 9.0)], &[(3, 9.0)]), (&[(1, 1.0)], &[(1, 1.0)]));
    let candidates = &prediction.candidates;
    assert_eq!(candidates[0].text, "d");
    assert_eq!((candidates[0].start, candidates[0].end), (1.0, 1.0));
    // `c` is the other way round.
    let prediction = best((&[(2, 1.0)], &[(2, 1.0)]), (&[(0, 9.0)], &[(0, 9.0)]));
    let candidates = &prediction.candidates;
    assert_eq!(
        (candidates[0].text.as_str(), candidates[0].start),
        ("c", 1.0)
    );
    // Both end where `c d` does, one on each side: the first of equals.
    let prediction = best((&[(2, 1.0)], &[(3, 1.0)]), (&[(0, 9.0)], &[(1, 9.0)]));
    let known = prediction
        .candidates
        .iter()
        .find(|known| known.text == "c d");
    assert_eq!(known.unwrap().start, 1.0);
    // `c` has more around it in the first window, which does not have all of `c d e`.
    let prediction = best((&[(2, 9.0)], &[]), (&[(0, 5.0)], &[(2, 5.0)]));
    assert_eq!(prediction.text(), "c d e");
}

/// As `_check_is_max_context` of BERT's `run_squad.py` has it, for answers of one piece.
#[test]
fn one_piece_counts_in_the_window_of_its_max_context() {
    let record = record(&"a ".repeat(40));
    let mut task = Reading::squad();
    task.max_answer_length = 1;
    for (length, stride) in [(20, 8), (13, 11), (30, 15), (10, 0)] {
        let mut windows = Vec::new();
        let mut begin = 0;
        while windows
            .last()
            .is_none_or(|last: &Window| last.begin + last.len() as u32 != 40)
        {
            windows.push(window(begin, (begin + length).min(40)));
            begin += length - stride;
        }
        for piece in 0..40u32 {
            let mut best: Option<(f64, usize)> = None;
            for (index, window) in windows.iter().enumerate() {
                let end = window.begin + window.len() as u32 - 1;
                if piece < window.begin || piece > end {
                    continue;
                }
                let context = f64::from((piece - window.begin).min(end - piece));
                let score = context + 0.01 * window.len() as f64;
                if best.is_none_or(|(known, _)| score > known) {
                    best = Some((score, index));
                }
            }
            // Each window would answer with this piece; its number as the score says which did.
            let given: Vec<_> = windows
                .iter()
                .enumerate()
                .map(|(index, window)| {
                    let place = piece.checked_sub(window.begin).map(|place| place as usize);
                    let score = [(place.unwrap_or(0), 100.0 + index as f32)];
                    match place.filter(|place| *place < window.len()) {
                        Some(_) => scores(window, &score, &[]),
                        None => scores(window, &[], &[]),
                    }
                })
                .collect();
            let parts: Vec<_> = windows.iter().zip(&given).collect();
            let prediction = task.predict(&record, &parts).unwrap();
            let answered = prediction.candidates[0].start - 100.0;
            assert_eq!(
                answered as usize,
                best.unwrap().1,
                "{length} {stride} {piece}"
            );
        }
    }
}

#[test]
fn of_equals_the_first_and_shortest() {
    let record = record("a b c d e f");
    let (first, second) = (window(0, 3), window(3, 6));
    let same = Array2::zeros((7, 2));
    let parts = [(&first, &same), (&second, &same)];
    let mut task = Reading::squad();
    task.n_best = 8;
    let prediction = task.predict(&record, &parts).unwrap();
    let expected = ["a", "a b", "a b c", "b", "b c", "c", "d", "d e"];
    assert_eq!(texts(&prediction), expected);
    for candidate in &prediction.candidates {
        assert!((candidate.probability - 0.125).abs() < 1e-12);
    }
}

#[test]
fn a_text_is_kept_once() {
    let record = record("a b a c");
    let window = window(0, 4);
    let scores = scores(&window, &[(0, 3.0), (2, 5.0)], &[(0, 3.0), (2, 5.0)]);
    let prediction = Reading::squad()
        .predict(&record, &[(&window, &scores)])
        .unwrap();
    assert_eq!(prediction.text(), "a");
    assert_eq!(prediction.candidates[0].start, 5.0);
    let again = texts(&prediction)
        .iter()
        .filter(|text| **text == "a")
        .count();
    assert_eq!(again, 1);
}

/// All spans, sorted: what is kept must be their head.
#[test]
fn as_trying_and_sorting_all() {
    let mut random = StdRng::seed_from_u64(5);
    let words = ["x", "y", "z"];
    for round in 0..200 {
        let context: Vec<_> = (0..20).map(|_| words[random.random_range(0..3)]).collect();
        let context = context.join(" ");
        let record = record(&context);
        let windows = [window(0, 9), window(5, 14), window(10, 20)];
        let mut task = Reading::squad();
        task.max_answer_length = 1 + round % 6;
        task.n_best = 1 + round % 9;
        // Few different scores, so that there are ties.
        let scores: Vec<Array2<f32>> = windows
            .iter()
            .map(|window| {
                let rows = window.encoded.ids.len();
                Array2::from_shape_simple_fn((rows, 2), || random.random_range(0..6) as f32)
            })
            .collect();
        let mut all: Vec<(f32, String)> = Vec::new();
        for (index, (window, scores)) in windows.iter().zip(&scores).enumerate() {
            let (from, to) = (window.begin, window.begin + window.len() as u32);
            for first in from..to {
                for last in first..to.min(first + task.max_answer_length as u32) {
                    let margin = |window: &Window| {
                        let end = window.begin + window.len() as u32;
                        let has = window.begin <= first && last < end;
                        let least = || (first - window.begin).min(end - 1 - last);
                        has.then(|| f64::from(least()) + 0.01 * window.len() as f64)
                    };
                    // The last of the greatest in the other direction is the first of them.
                    let best = windows.iter().enumerate().rev();
                    let best = best.filter_map(|(index, window)| Some((index, margin(window)?)));
                    let best = best.max_by(|one, other| one.1.total_cmp(&other.1));
                    if best.unwrap().0 != index {
                        continue;
                    }
                    let row = |piece: u32| (3 + piece - from) as usize;
                    let score = scores[(row(first), 0)] + scores[(row(last), 1)];
                    let text = &context[2 * first as usize..2 * last as usize + 1];
                    all.push((score, text.to_owned()));
                }
            }
        }
        // A stable sort keeps the order of equals.
        all.sort_by(|one, other| other.0.total_cmp(&one.0));
        let mut expected: Vec<(f32, String)> = Vec::new();
        for (score, text) in all {
            if expected.len() < task.n_best && expected.iter().all(|(_, known)| *known != text) {
                expected.push((score, text));
            }
        }
        let parts: Vec<_> = windows.iter().zip(&scores).collect();
        let prediction = task.predict(&record, &parts).unwrap();
        let found: Vec<_> = prediction
            .candidates
            .iter()
            .map(|candidate| {
                (
                    (candidate.start + candidate.end) as f32,
                    candidate.text.clone(),
                )
            })
            .collect();
        assert_eq!(found, expected, "round {round}");
    }
}

#[test]
fn scores_that_are_no_numbers() {
    let record = record("a b");
    let window = window(0, 2);
    let task = Reading::squad();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let scores = Array2::from_elem((6, 2), value);
        let error = task.predict(&record, &[(&window, &scores)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "question `q7`: no score of its windows is a number; the model is damaged, or its \
             training diverged"
        );
    }
    let mut scores = Array2::from_elem((6, 2), f32::NAN);
    scores[(4, 0)] = 1.0;
    scores[(4, 1)] = -200.0;
    let prediction = task.predict(&record, &[(&window, &scores)]).unwrap();
    assert_eq!(texts(&prediction), ["b"]);
    assert_eq!(prediction.candidates[0].probability, 1.0);
}

#[test]
fn scores_of_other_windows_are_refused() {
    let record = record("a b");
    let window = window(0, 2);
    for shape in [(5, 2), (6, 3), (6, 1), (0, 2)] {
        let scores = Array2::zeros(shape);
        let error = Reading::squad().predict(&record, &[(&window, &scores)]);
        let expected = format!(
            "question `q7`: scores of {} × {}, but a window of 6 pieces needs 6 × 2",
            shape.0, shape.1
        );
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
}

#[test]
fn nothing_to_choose_from() {
    let prediction = Reading::squad().predict(&record("a b"), &[]).unwrap();
    assert_eq!((prediction.candidates.len(), prediction.text()), (0, ""));
    let empty = window(0, 0);
    let scores = Array2::from_elem((4, 2), f32::NAN);
    let prediction = Reading::squad().predict(&record("a b"), &[(&empty, &scores)]);
    assert!(prediction.unwrap().candidates.is_empty());
    let mut task = Reading::squad();
    task.n_best = 0;
    let error = task.predict(&record("a b"), &[]).unwrap_err();
    assert_eq!(error.to_string(), "n_best is 0; it is at least 1");
}

/// A file of features that was changed by hand must not stop the program.
#[test]
fn windows_that_lie() {
    let record = record("a b");
    let mut window = window(0, 2);
    window.first = u32::MAX;
    window.characters = vec![7, 3, 0, 900, 5];
    let scores = Array2::zeros((6, 2));
    assert!(
        Reading::squad()
            .predict(&record, &[(&window, &scores)])
            .is_err()
    );
    window.first = 3;
    let prediction = Reading::squad()
        .predict(&record, &[(&window, &scores)])
        .unwrap();
    assert_eq!(prediction.text(), "");
}
