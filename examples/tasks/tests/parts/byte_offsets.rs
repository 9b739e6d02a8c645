//! Tokens of byte-level tokenizers and their places in the text: `byte_offsets` in the golden
//! file `modern_losses.json`. The crate itself has no tokenizer.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use textbrewer::losses::byte_offsets;
use tokenizers::Tokenizer;

#[test]
fn tokens_of_a_tokenizer_are_found_in_the_text() {
    let folder = match std::env::var_os("TEXTBREWER_GOLDEN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden"),
    };
    let path = folder.join("modern_losses.json");
    let Ok(file) = std::fs::read(&path) else {
        // A folder with other vectors only.
        return println!("no {}", path.display());
    };
    let cases: Vec<Value> = serde_json::from_slice(&file).unwrap();
    let mut texts = 0;
    for case in cases.iter().filter(|case| case["loss"] == "byte_offsets") {
        let tokenizer = case["data"]["tokenizer"].to_string();
        let tokenizer = Tokenizer::from_bytes(tokenizer).unwrap();
        for expected in case["expected"].as_array().unwrap() {
            let text = expected["text"].as_str().unwrap();
            let encoding = tokenizer.encode(text, false).unwrap();
            let offsets = byte_offsets(text, encoding.get_tokens()).unwrap();
            let found = json!({
                "text": text,
                "ids": encoding.get_ids(),
                "tokens": encoding.get_tokens(),
                "byte_offsets": offsets,
            });
            assert_eq!(found, *expected, "{}", case["name"]);
            texts += 1;
        }
    }
    assert!(texts > 0 || std::env::var_os("TEXTBREWER_GOLDEN_DIR").is_some());
}
