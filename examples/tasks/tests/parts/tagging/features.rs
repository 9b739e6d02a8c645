//! Words to word pieces, windows and labels.

use tasks::features::{Cache, features};
use tasks::tagging::{Sentence, Window};
use tasks::{Tagging, Task};

use super::{CONLL, MASKED, VOCABULARY, file, perfect, read, tokenizer, tokens, vocabulary};

/// The positions of a window's words, and the words.
fn places(window: &Window) -> Vec<(usize, usize)> {
    let words = window.words.iter();
    words.map(|place| (place.position, place.word)).collect()
}

fn labels(task: &Tagging, pieces: &tasks::pieces::Pieces, windows: &[&Window]) -> Vec<Vec<i64>> {
    let encoded: Vec<_> = windows.iter().map(|w| task.encoded(w)).collect();
    let length = encoded.iter().map(|e| e.ids.len()).max().unwrap();
    let inputs = pieces.batch(&encoded).unwrap();
    let labels = task.targets(windows, length, inputs).unwrap().labels;
    Vec::try_from(labels.unwrap()).unwrap()
}

/// A sentence of these words, all with the tag `O`.
fn sentence(words: &[&str]) -> Sentence {
    let lines: String = words.iter().map(|word| format!("{word} X X O\n")).collect();
    read(&Tagging::conll2003(), lines).unwrap().remove(0)
}

#[test]
fn a_word_has_its_label_at_its_first_piece() {
    let task = Tagging::conll2003();
    let pieces = tokenizer(&task, 128, 0);
    let sentences = read(&task, CONLL).unwrap();
    let windows = task.features(&pieces, &sentences[1]).unwrap();
    assert_eq!(windows.len(), 1);
    let expected = ["[CLS]", "george", "wash", "##ing", "##ton", "[SEP]"];
    assert_eq!(tokens(&windows[0]), expected);
    assert_eq!(places(&windows[0]), [(1, 0), (2, 1)]);
    assert_eq!(windows[0].encoded.types, [0; 6]);
    // B-PER is tag 1, I-PER is tag 2.
    let expected = [[MASKED, 1, 2, MASKED, MASKED, MASKED]];
    assert_eq!(labels(&task, &pieces, &[&windows[0]]), expected);
}

#[test]
fn a_batch_is_padded_with_labels_that_say_nothing() {
    let task = Tagging::conll2003();
    let pieces = tokenizer(&task, 128, 0);
    let sentences = read(&task, CONLL).unwrap();
    let of = |index: usize| task.features(&pieces, &sentences[index]).unwrap().remove(0);
    let (first, last) = (of(0), of(2));
    let expected = [
        vec![MASKED, 3, 0, 7, 0, 0, MASKED],
        vec![MASKED, 0, MASKED, MASKED, MASKED, MASKED, MASKED],
    ];
    assert_eq!(labels(&task, &pieces, &[&first, &last]), expected);
}

#[test]
fn a_batch_without_truth_has_no_labels() {
    let task = Tagging::conll2003();
    let pieces = tokenizer(&task, 128, 0);
    let record = task.record_of(1, "EU rejects lamb").unwrap();
    let window = task.features(&pieces, &record).unwrap().remove(0);
    assert_eq!(places(&window), [(1, 0), (2, 1), (3, 2)]);
    let inputs = pieces.batch(&[&window.encoded]).unwrap();
    let inputs = task.targets(&[&window], 5, inputs).unwrap();
    assert!(inputs.labels.is_none());
}

#[test]
fn a_batch_that_is_too_short_for_its_words_is_an_error() {
    let task = Tagging::conll2003();
    let pieces = tokenizer(&task, 128, 0);
    let window = task
        .features(&pieces, &sentence(&["EU", "lamb"]))
        .unwrap()
        .remove(0);
    let inputs = pieces.batch(&[&window.encoded]).unwrap();
    let error = task.targets(&[&window], 2, inputs).unwrap_err().to_string();
    assert!(error.contains("a word at position 2 of 2"), "{error}");
}

#[test]
fn a_chinese_word_has_a_piece_for_each_character() {
    let conll = Tagging::conll2003();
    let pieces = tokenizer(&conll, 128, 0);
    let window = conll
        .features(&pieces, &sentence(&["北京", "你好"]))
        .unwrap()
        .remove(0);
    assert_eq!(tokens(&window), ["[CLS]", "北", "京", "你", "好", "[SEP]"]);
    assert_eq!(places(&window), [(1, 0), (3, 1)]);

    let msra = Tagging::msra_ner();
    let sentences = read(&msra, "北\tB-LOC\n京\tI-LOC\n \tO\n丂\tO\n").unwrap();
    let windows = msra.features(&pieces, &sentences[0]).unwrap();
    // The space has no piece; the other is not in the vocabulary.
    assert_eq!(tokens(&windows[0]), ["[CLS]", "北", "京", "[UNK]", "[SEP]"]);
    assert_eq!(places(&windows[0]), [(1, 0), (2, 1), (3, 3)]);
    assert_eq!(windows[0].tags, Some(vec![5, 6, 0]));
}

#[test]
fn words_without_pieces_keep_their_place_and_are_outside() {
    let task = Tagging::conll2003();
    let pieces = tokenizer(&task, 128, 0);
    let content = "\u{200b} X X B-PER\nGeorge X X B-PER\n\u{1} X X O\nWashington X X I-PER\n";
    let sentences = read(&task, content).unwrap();
    let windows = task.features(&pieces, &sentences[0]).unwrap();
    assert_eq!(places(&windows[0]), [(1, 1), (2, 3)]);
    assert_eq!(windows[0].tags, Some(vec![1, 2]));
    assert_eq!(perfect(&task, &pieces, &sentences[0]), [0, 1, 0, 2]);
}

#[test]
fn a_sentence_without_pieces_has_nothing_to_learn_from_and_is_outside() {
    let task = Tagging::conll2003();
    let pieces = tokenizer(&task, 128, 0);
    let record = sentence(&["\u{200b}", "\u{ad}"]);
    assert_eq!(task.features(&pieces, &record).unwrap(), []);
    assert_eq!(task.predict(&record, &[]).unwrap(), [0, 0]);
}

#[test]
fn every_word_of_a_long_sentence_is_predicted_once_at_its_first_piece() {
    let task = Tagging::conll2003();
    let dashes = "wash-wash-wash-wash";
    let texts = [
        &["Washington"; 9][..],
        &[
            "EU",
            "Washington",
            "\u{200b}",
            "lamb",
            "George",
            "sleeps",
            "Washington",
            ".",
        ],
        &["EU", dashes, dashes, "lamb", dashes],
        &["EU", "rejects", "German", "lamb", "."],
    ];
    for max_length in 3..=10 {
        for stride in 0..=max_length {
            let pieces = tokenizer(&task, max_length, stride);
            for words in texts {
                let windows = task.features(&pieces, &sentence(words)).unwrap();
                let mut seen = vec![0; words.len()];
                for window in &windows {
                    assert!(window.encoded.ids.len() <= max_length);
                    assert!(!window.words.is_empty());
                    for place in &window.words {
                        seen[place.word] += 1;
                        let alone = pieces.encode(words[place.word]).unwrap();
                        let first = VOCABULARY[alone.get_ids()[1] as usize];
                        assert_eq!(tokens(window)[place.position], first);
                    }
                }
                let expected: Vec<i32> = words
                    .iter()
                    .map(|word| i32::from(*word != "\u{200b}"))
                    .collect();
                assert_eq!(seen, expected, "{max_length} {stride} {words:?}");
            }
        }
    }
}

#[test]
fn windows_without_overlap_are_cut_where_they_are_full() {
    let task = Tagging::conll2003();
    let pieces = tokenizer(&task, 5, 0);
    let record = sentence(&["EU", "Washington", "Washington", "lamb"]);
    let windows = task.features(&pieces, &record).unwrap();
    let shown: Vec<_> = windows
        .iter()
        .map(|w| (tokens(w).join(" "), places(w)))
        .collect();
    let expected = [
        ("[CLS] eu wash ##ing [SEP]".to_owned(), vec![(1, 0), (2, 1)]),
        // It begins in the middle of a word, whose tag is taken from the first.
        ("[CLS] ##ton wash ##ing [SEP]".to_owned(), vec![(2, 2)]),
        ("[CLS] ##ton lamb [SEP]".to_owned(), vec![(2, 3)]),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn where_windows_overlap_a_word_is_taken_from_where_it_has_more_around_it() {
    let task = Tagging::conll2003();
    let pieces = tokenizer(&task, 7, 2);
    let words = ["EU", "rejects", "German", "lamb", ".", "George", "a", "-"];
    let windows = task.features(&pieces, &sentence(&words)).unwrap();
    let shown: Vec<_> = windows
        .iter()
        .map(|w| (tokens(w).join(" "), places(w)))
        .collect();
    let expected = [
        (
            "[CLS] eu rejects german lamb . [SEP]".to_owned(),
            vec![(1, 0), (2, 1), (3, 2), (4, 3)],
        ),
        (
            "[CLS] lamb . george a - [SEP]".to_owned(),
            // The full stop is last in the first window and second here.
            vec![(2, 4), (3, 5), (4, 6), (5, 7)],
        ),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn windows_without_a_first_piece_are_left_out() {
    let task = Tagging::conll2003();
    let pieces = tokenizer(&task, 4, 0);
    let windows = task
        .features(&pieces, &sentence(&["wash-wash-wash", "lamb"]))
        .unwrap();
    let shown: Vec<_> = windows.iter().map(|w| tokens(w).join(" ")).collect();
    assert_eq!(shown, ["[CLS] wash - [SEP]", "[CLS] wash lamb [SEP]"]);
}

#[test]
fn windows_overlap_by_half_at_most() {
    let task = Tagging::conll2003();
    assert_eq!(task.truncation(128, 64).stride, 63);
    assert_eq!(task.truncation(128, 32).stride, 32);
    assert_eq!(task.truncation(3, 64).stride, 0);
    assert_eq!(task.truncation(128, 64).max_length, 128);
}

#[test]
fn features_that_were_kept_are_the_same() {
    let task = Tagging::conll2003();
    let (folder, data) = file(CONLL);
    vocabulary(folder.path());
    let pieces = tasks::pieces::Pieces::from_folder(folder.path(), task.truncation(5, 1)).unwrap();
    let records = task.read(&data).unwrap();
    let cache = Cache::new(&folder.path().join("cache"), &data, &pieces, "5 1").unwrap();
    assert_eq!(cache.load::<Window>(records.len()).unwrap(), None);
    let made = features(&task, &records, &pieces, Some(&cache)).unwrap();
    assert!(made.features.len() > records.len());
    assert_eq!(cache.load(records.len()).unwrap(), Some(made.clone()));
    let again = features(&task, &records, &pieces, Some(&cache)).unwrap();
    assert_eq!(again, made);
}
