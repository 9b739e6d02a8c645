//! Folders that have no tokenizer that can be read.

use serde_json::json;

use super::{WORDS, refused, with};

#[test]
fn another_tokenizer_is_not_taken_for_that_of_bert() {
    let vocabulary = WORDS.replace(' ', "\n");
    for (file, settings, expected) in [
        (
            "tokenizer_config.json",
            json!({"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}),
            "tokenizer_class is `BertJapaneseTokenizer`, and with vocab.txt alone only BertTokenizer, ",
        ),
        (
            "tokenizer_config.json",
            json!({"tokenizer_class": "RoFormerTokenizer"}),
            "tokenizer_class is `RoFormerTokenizer`",
        ),
        (
            "config.json",
            json!({"tokenizer_class": "BertJapaneseTokenizer"}),
            "tokenizer_class is `BertJapaneseTokenizer`",
        ),
        (
            "tokenizer_config.json",
            json!({"word_tokenizer_type": "mecab"}),
            "word_tokenizer_type is `mecab`, and with vocab.txt alone only basic can be read",
        ),
        (
            "tokenizer_config.json",
            json!({"subword_tokenizer_type": "character"}),
            "subword_tokenizer_type is `character`, and with vocab.txt alone only wordpiece can",
        ),
    ] {
        let settings = settings.to_string();
        let message = refused(&[("vocab.txt", &vocabulary), (file, &settings)]);
        let expected = format!("@/{file}: {expected}");
        assert!(message.starts_with(&expected), "{message}\n{expected}");
        assert!(message.ends_with("give a folder with the tokenizer.json of this tokenizer"));
    }
    for class in [
        "BertTokenizer",
        "BertTokenizerFast",
        "DistilBertTokenizer",
        "ElectraTokenizerFast",
    ] {
        assert_eq!(
            with(json!({"tokenizer_class": class}), "film"),
            "[CLS] film [SEP]"
        );
    }
}

#[test]
fn folders_without_a_readable_tokenizer_say_what_is_there() {
    let nothing = "@: neither tokenizer.json nor vocab.txt in it";
    assert_eq!(refused(&[("config.json", "{}")]), nothing);
    for (files, expected) in [
        (
            &[("vocab.json", "{}"), ("merges.txt", "")][..],
            "only `vocab.json`, `merges.txt`, of which",
        ),
        (&[("spiece.model", "")], "only `spiece.model`, of which"),
        (
            &[("sentencepiece.bpe.model", "")],
            "only `sentencepiece.bpe.model`, of which",
        ),
    ] {
        let message = refused(files);
        assert!(
            message.starts_with(&format!("{nothing}, {expected}")),
            "{message}"
        );
        assert!(
            message.contains("save_pretrained(folder)` writes tokenizer.json"),
            "{message}"
        );
    }
}

#[test]
fn files_that_are_something_else_are_called_what_they_are() {
    let vocabulary = WORDS.replace(' ', "\n");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4b3c\nsize 231508\n";
    let page = "<!DOCTYPE html>\n<html></html>\n";
    for name in [
        "vocab.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "added_tokens.json",
    ] {
        for (content, expected) in [
            (
                pointer,
                "is a pointer of Git LFS and not the file itself; `git lfs pull`",
            ),
            (
                page,
                "is text (a web page) and not the file itself: it begins `<!DOCTYPE html>`; download",
            ),
        ] {
            let message = refused(&[("vocab.txt", vocabulary.as_str()), (name, content)]);
            let expected = format!("@/{name}: {expected}");
            assert!(message.starts_with(&expected), "{message}");
        }
    }
}

#[test]
fn a_bad_setting_is_named_with_its_line() {
    let vocabulary = WORDS.replace(' ', "\n");
    let settings = "{\n\"do_lower_case\": true,\n\"unk_token\": 3,\n\"x\": 1\n}\n";
    let message = refused(&[
        ("vocab.txt", &vocabulary),
        ("tokenizer_config.json", settings),
    ]);
    assert!(
        message.starts_with(
            "@/tokenizer_config.json: unk_token: expected a text, or an object with its `content` \
             at line 3"
        ),
        "{message}"
    );
}
