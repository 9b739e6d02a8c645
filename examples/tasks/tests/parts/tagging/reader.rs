//! Files with a word in each line.

use tasks::tagging::{Columns, Sentence, Separator};
use tasks::{Tagging, Task};

use super::{CONLL, read, refused};

fn words(sentences: &[Sentence]) -> Vec<Vec<&str>> {
    sentences
        .iter()
        .map(|sentence| sentence.words.iter().map(String::as_str).collect())
        .collect()
}

fn tags<'t>(task: &'t Tagging, sentences: &[Sentence]) -> Vec<Vec<&'t str>> {
    let name = |tag: &usize| task.labels()[*tag].as_str();
    sentences
        .iter()
        .map(|sentence| sentence.tags.as_ref().unwrap().iter().map(name).collect())
        .collect()
}

#[test]
fn four_columns_with_documents() {
    let task = Tagging::conll2003();
    let sentences = read(&task, CONLL).unwrap();
    let expected = [
        &["EU", "rejects", "German", "lamb", "."][..],
        &["George", "Washington"],
        &["Sleeps"],
    ];
    assert_eq!(words(&sentences), expected);
    let expected = [
        &["B-ORG", "O", "B-MISC", "O", "O"][..],
        &["B-PER", "I-PER"],
        &["O"],
    ];
    assert_eq!(tags(&task, &sentences), expected);
    let starts: Vec<_> = sentences.iter().map(|s| s.starts_document).collect();
    assert_eq!(starts, [true, true, false]);
}

#[test]
fn two_columns_in_which_a_space_is_a_word() {
    let task = Tagging::msra_ner();
    let sentences = read(&task, "北\tB-LOC\n京\tI-LOC\n \tO\n\u{3000}\tO\n\n你\tO\n").unwrap();
    assert_eq!(
        words(&sentences),
        [&["北", "京", " ", "\u{3000}"][..], &["你"]]
    );
    let expected = [&["B-LOC", "I-LOC", "O", "O"][..], &["O"]];
    assert_eq!(tags(&task, &sentences), expected);
}

#[test]
fn windows_line_ends_a_byte_order_mark_and_a_missing_last_line_change_nothing() {
    for (task, content) in [
        (Tagging::conll2003(), CONLL),
        (Tagging::msra_ner(), "北\tB-LOC\n京\tI-LOC\n\n你\tO\n\n"),
    ] {
        let expected = read(&task, content).unwrap();
        let windows = format!("\u{feff}{}", content.replace('\n', "\r\n"));
        assert_eq!(read(&task, windows).unwrap(), expected);
        assert_eq!(read(&task, content.trim_end()).unwrap(), expected);
        let spaced = content.replace("\n\n", "\n\n \n\t\n");
        assert_eq!(read(&task, spaced).unwrap(), expected);
    }
}

#[test]
fn blanks_are_spaces_and_tabs_but_no_other_white_space() {
    let task = Tagging::conll2003();
    let sentences = read(&task, "1\u{a0}000  CD\tB-NP O \n").unwrap();
    assert_eq!(words(&sentences), [["1\u{a0}000"]]);
}

#[test]
fn a_document_begins_a_sentence_even_without_an_empty_line() {
    let task = Tagging::conll2003();
    let sentences = read(&task, "a X X O\n-DOCSTART- -X- O O\nb X X O\n").unwrap();
    assert_eq!(words(&sentences), [["a"], ["b"]]);
    assert!(!sentences[0].starts_document && sentences[1].starts_document);
}

#[test]
fn files_without_tags_can_be_read() {
    let task = Tagging::conll2003();
    for content in [
        "EU\nrejects\n\nlamb\n",
        "EU NNP B-NP\nrejects VBZ B-VP\n\nlamb NN I-NP\n",
    ] {
        let sentences = read(&task, content).unwrap();
        assert_eq!(words(&sentences), [&["EU", "rejects"][..], &["lamb"]]);
        assert!(sentences.iter().all(|sentence| sentence.tags.is_none()));
    }
    let sentences = read(&Tagging::msra_ner(), "北\n京\n").unwrap();
    assert_eq!(words(&sentences), [["北", "京"]]);
    assert_eq!(sentences[0].tags, None);
}

#[test]
fn a_bad_line_is_named() {
    let (conll, msra) = (Tagging::conll2003(), Tagging::msra_ner());
    let layout = "expected 4 columns with blanks between them, of which column 1 is the word and \
                  column 4 the tag";
    let known = "known are O, B-PER, I-PER, B-ORG, I-ORG, B-LOC, I-LOC, B-MISC, I-MISC";
    for (content, line, reason) in [
        ("a X X O\nb X\n", 2, format!("2 columns; {layout}")),
        ("a X X O\n\nb X X O O\n", 3, format!("5 columns; {layout}")),
        (
            "a X X O\nb X X B-GPE\n",
            2,
            format!("unknown tag `B-GPE`; {known}"),
        ),
        (
            "a X X O\nb\n",
            2,
            "no tag, where line 1 has one; either all words have a tag or none has".to_owned(),
        ),
        (
            "\na X X\nb X X O\n",
            3,
            "a tag, where line 2 has none; either all words have a tag or none has".to_owned(),
        ),
    ] {
        assert_eq!(
            refused(&conll, content),
            format!("data.txt:{line}: {reason}")
        );
    }
    for (content, line, reason) in [
        ("北\tB-LOC\n京 I-LOC\n", 2, "no tag, where line 1 has one"),
        (
            "北\tB-LOC\n京\tI-LOC\tO\n",
            2,
            "3 columns; expected 2 columns with a tab",
        ),
        (
            "北\tB-LOC\r\n\r\n京\tI-loc\r\n",
            3,
            "unknown tag `I-loc`; known are O, B-PER,",
        ),
        ("北\tB-LOC\n\tO\n", 2, "the word is empty"),
        ("北\tB-LOC\n京\t\n", 2, "unknown tag ``"),
    ] {
        let message = refused(&msra, content);
        let expected = format!("data.txt:{line}: {reason}");
        assert!(message.starts_with(&expected), "{message}\n{expected}");
    }
}

/// Columns that are parted by something else are not words without tags.
#[test]
fn tags_that_are_not_found_are_named() {
    let (conll, msra) = (Tagging::conll2003(), Tagging::msra_ner());
    for (task, content, expected) in [
        (
            &msra,
            "北 B-LOC\n京 I-LOC\n在 O\n\n李 B-PER\n",
            "1: no tag is found here, and the line ends in the tag `B-LOC`",
        ),
        (
            &msra,
            "在 O\n去 O\n\n了 O\n",
            "1: no tag is found here, and the line ends in the tag `O`",
        ),
        (
            &msra,
            "在\u{3000}O\n\n北\u{3000}B-LOC\n",
            "1: no tag is found here",
        ),
        (&msra, "在/O\n", "1: no tag is found here"),
        (
            &msra,
            "在\n北 B-LOC\n",
            "2: no tag is found here, and the line ends in the tag `B-LOC`",
        ),
        (
            &conll,
            "EU,NNP,B-NP,B-ORG\nrejects,VBZ,B-VP,O\n",
            "1: no tag is found here, and the line ends in the tag `B-ORG`",
        ),
        // Three columns, the last of which is no chunk.
        (
            &conll,
            "rejects VBZ O\nEU NNP B-ORG\n",
            "1: no tag is found here, and the line ends in the tag `O`",
        ),
    ] {
        let message = refused(task, content);
        assert!(
            message.starts_with(&format!("data.txt:{expected}")),
            "{message}\n{expected}"
        );
    }
    let message = refused(&msra, "北 B-LOC\n");
    let layout = "expected 2 columns with a tab between them, of which column 1 is the word and \
                  column 2 the tag";
    assert!(message.ends_with(layout), "{message}");
    // Real files without tags: words and chunks that look a little like tags.
    for (task, content) in [
        (&msra, "O\nB-LOC\n"),
        (&msra, "W O\n北\n"),
        (&msra, " \n北\n"),
        (&conll, "J.O\nfilm\n"),
        (&conll, "EU NNP B-NP\n. . O\n"),
        (&conll, "B-PER\n"),
        (&conll, "xB-PER\n"),
    ] {
        let sentences = read(task, content).unwrap();
        assert!(
            sentences.iter().all(|sentence| sentence.tags.is_none()),
            "{content}"
        );
    }
}

#[test]
fn bytes_that_are_no_text_are_named_by_their_line() {
    let message = refused(&Tagging::msra_ner(), b"\xe5\x8c\x97\tO\n\xb1\xb1\tO\n");
    assert_eq!(message, "data.txt:2: not UTF-8; convert the file");
}

#[test]
fn a_file_without_a_word_is_refused() {
    for content in ["", "\n\n", "-DOCSTART- -X- -X- O\n\n"] {
        let message = refused(&Tagging::conll2003(), content);
        assert!(
            message.starts_with("data.txt: no word in it; expected"),
            "{message}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let error = Tagging::conll2003().read(&folder.path().join("train.txt"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("train.txt: "), "{error}");
}

#[test]
fn another_order_of_columns() {
    let json = serde_json::json!({
        "train": "train.tsv", "dev": "dev.tsv", "tags": ["B-X", "O"],
        "columns": Columns::new(3, 2, 0, Separator::Tab),
    });
    let task: Tagging = serde_json::from_value(json).unwrap();
    let sentences = read(&task, "B-X\t1\ta\nO\t2\tb\n").unwrap();
    assert_eq!(words(&sentences), [["a", "b"]]);
    assert_eq!(tags(&task, &sentences), [["B-X", "O"]]);
    // The tag is not the last column: two columns cannot be a line that lacks only it.
    assert!(refused(&task, "1\ta\n").starts_with("data.txt:1: 2 columns; expected 3 columns"));
    // No beginning of a document is said, so this is a word.
    let sentences = read(&task, "O\t1\t-DOCSTART-\n").unwrap();
    assert_eq!(words(&sentences), [["-DOCSTART-"]]);
}
