//! Tokenizers of folders that have a `vocab.txt`, and what the files beside it say. What is right
//! is what `transformers` 4.57 makes of the same folder.

mod beside_json;
mod refusals;

use std::path::Path;

use serde_json::{Value, json};
use tasks::Task;
use tasks::classification::Classification;
use tasks::pieces::Pieces;
use tempfile::TempDir;

const WORDS: &str = "[PAD] [UNK] [CLS] [SEP] [MASK] der film war schön schon müll mull great the \
                     was 東 京 大 学 東京 大学 Film";

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn read(folder: &Path) -> tasks::Result<Pieces> {
    Pieces::from_folder(folder, Classification::sst2().truncation(32, 0))
}

fn pieces(folder: &TempDir, text: &str) -> String {
    let pieces = read(folder.path()).unwrap();
    pieces.encode(text).unwrap().get_tokens().join(" ")
}

/// The pieces of a text with these settings.
fn with(settings: Value, text: &str) -> String {
    let (vocabulary, settings) = (WORDS.replace(' ', "\n"), settings.to_string());
    let files = [
        ("vocab.txt", vocabulary.as_str()),
        ("tokenizer_config.json", &settings),
    ];
    pieces(&folder(&files), text)
}

/// Why a folder is refused: the message without its path.
fn refused(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let error = read(folder.path()).unwrap_err().to_string();
    error.replace(&folder.path().display().to_string(), "@")
}

#[test]
fn accents_go_with_lower_case_unless_a_setting_says_otherwise() {
    let text = "Der Film war schön Müll";
    for (settings, expected) in [
        (json!({}), "der film war schon mull"),
        (json!({"strip_accents": null}), "der film war schon mull"),
        (json!({"strip_accents": false}), "der film war schön müll"),
        (
            json!({"do_lower_case": false}),
            "[UNK] Film war schön [UNK]",
        ),
        (
            json!({"do_lower_case": false, "strip_accents": true}),
            "[UNK] Film war schon [UNK]",
        ),
    ] {
        let expected = format!("[CLS] {expected} [SEP]");
        assert_eq!(with(settings.clone(), text), expected, "{settings}");
    }
}

#[test]
fn chinese_characters_are_words_unless_a_setting_says_otherwise() {
    assert_eq!(with(json!({}), "東京 大学"), "[CLS] 東 京 大 学 [SEP]");
    let settings = json!({"tokenize_chinese_chars": false});
    assert_eq!(with(settings, "東京 大学"), "[CLS] 東京 大学 [SEP]");
}

#[test]
fn special_tokens_have_the_names_that_the_files_give_them() {
    let vocabulary = "<pad>\n<unk>\n<s>\n</s>\n[MASK]\nfilm";
    let config = json!({"unk_token": "<unk>", "cls_token": {"content": "<s>"}, "sep_token": "no"});
    let map = json!({"sep_token": "</s>", "pad_token": "<pad>"}).to_string();
    let config = config.to_string();
    let files = [
        ("vocab.txt", vocabulary),
        ("tokenizer_config.json", config.as_str()),
        ("special_tokens_map.json", map.as_str()),
    ];
    let folder = folder(&files);
    assert_eq!(pieces(&folder, "film x </s>"), "<s> film <unk> </s> </s>");
    let pieces = read(folder.path()).unwrap();
    assert_eq!(pieces.encode("film").unwrap().get_ids(), [2, 5, 3]);
    let batch = |texts: &[&str]| {
        let encoded: Vec<_> = texts
            .iter()
            .map(|text| tasks::pieces::Encoded::from(&pieces.encode(*text).unwrap()))
            .collect();
        pieces.batch(&encoded.iter().collect::<Vec<_>>()).unwrap()
    };
    let ids = batch(&["film", "film film"]).input_ids;
    assert_eq!(Vec::<i64>::try_from(ids.get(0)).unwrap(), [2, 5, 3, 0]);
    assert_eq!(
        refused(&files[..2]),
        "@/vocab.txt: no line `no`: not a BERT vocabulary"
    );
}

/// Each of the two files alone says it, as older and newer folders do.
#[test]
fn added_tokens_are_not_cut() {
    let vocabulary = WORDS.replace(' ', "\n");
    let count = WORDS.split(' ').count();
    let token = |content: &str, special: bool| {
        json!({"content": content, "lstrip": false, "rstrip": false, "single_word": false,
               "normalized": !special, "special": special})
    };
    let decoder = json!({"added_tokens_decoder": {
        "0": token("[PAD]", true),
        (count).to_string(): token("[E1]", true),
        (count + 1).to_string(): token("[/E1]", true),
        (count + 2).to_string(): token("kubernetes", false),
    }});
    let decoder = decoder.to_string();
    let added = json!({"[/E1]": count + 1, "kubernetes": count + 2, "[E1]": count}).to_string();
    let map = json!({"additional_special_tokens": [{"content": "[E1]"}, "[/E1]"]}).to_string();
    let vocabulary = ("vocab.txt", vocabulary.as_str());
    for beside in [
        vec![("tokenizer_config.json", decoder.as_str())],
        vec![
            ("added_tokens.json", added.as_str()),
            ("special_tokens_map.json", map.as_str()),
        ],
        vec![("added_tokens.json", added.as_str())],
        vec![
            ("tokenizer_config.json", r#"{"added_tokens_decoder": {}}"#),
            ("added_tokens.json", added.as_str()),
        ],
    ] {
        let files: Vec<_> = std::iter::once(vocabulary).chain(beside).collect();
        let folder = folder(&files);
        let expected = "[cls] [e1] the film [/e1] kubernetes was great [sep]";
        let text = "[E1] the film [/E1] Kubernetes was great";
        // A token that is not special is shown in small letters.
        assert_eq!(pieces(&folder, text).to_lowercase(), expected);
        let pieces = read(folder.path()).unwrap();
        let ids = pieces.encode("[E1] [/E1] kubernetes").unwrap();
        let first = count as u32;
        assert_eq!(ids.get_ids(), [2, first, first + 1, first + 2, 3]);
        assert_eq!(pieces.vocabulary(), count + 3);
        // They stay with what is trained.
        let saved = tempfile::tempdir().unwrap();
        std::fs::write(saved.path().join("added_tokens.json"), "{}").unwrap();
        pieces.copy_to(saved.path()).unwrap();
        assert!(read(saved.path()).unwrap().has_vocabulary_of(&pieces));
    }
}

#[test]
fn added_tokens_that_would_get_other_ids_are_refused() {
    let vocabulary = WORDS.replace(' ', "\n");
    let count = WORDS.split(' ').count();
    let added = json!({"[E1]": count + 1}).to_string();
    let files = [
        ("vocab.txt", vocabulary.as_str()),
        ("added_tokens.json", added.as_str()),
    ];
    let message = refused(&files);
    let expected = format!(
        "@/added_tokens.json: `[E1]` is to have the id {} and gets {count}: ids of added tokens",
        count + 1
    );
    assert!(message.starts_with(&expected), "{message}");
}

#[test]
fn blank_lines_at_the_end_of_a_vocabulary_are_no_pieces() {
    let plain = WORDS.replace(' ', "\n");
    let count = WORDS.split(' ').count();
    let windows = plain.replace('\n', "\r\n");
    for vocabulary in [
        plain.clone(),
        format!("{plain}\n"),
        format!("{plain}\n\n\n"),
        format!("{plain}\n \n\t\n"),
        format!("\u{feff}{windows}\r\n\r\n\r\n"),
        format!("{}\r\r", plain.replace('\n', "\r")),
    ] {
        let folder = folder(&[("vocab.txt", &vocabulary)]);
        let pieces = read(folder.path()).unwrap();
        assert_eq!(pieces.vocabulary(), count, "{vocabulary:?}");
        let ids = pieces.encode("der film").unwrap();
        assert_eq!(ids.get_ids(), [2, 5, 6, 3], "{vocabulary:?}");
    }
    // In the middle they count: the number of a piece is its line.
    let folder = folder(&[("vocab.txt", &plain.replace("film", "\nfilm"))]);
    let pieces = read(folder.path()).unwrap();
    assert_eq!(pieces.encode("der film").unwrap().get_ids(), [2, 5, 7, 3]);
}
