//! What the files beside a tokenizer's vocabulary say of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::token::{Role, Special, Token};
use crate::{Error, Result, disk};

pub(super) const CONFIG: &str = "tokenizer_config.json";

/// Classes of `transformers` whose tokenizer is that of BERT, without the `Fast` at the end.
const CLASSES: [&str; 5] = [
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "MobileBertTokenizer",
    "ConvBertTokenizer",
];

/// `tokenizer_config.json`, and what `special_tokens_map.json` and `added_tokens.json` add to it.
///
/// A key that is absent is what it is by default in `transformers`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    tokenizer_class: Option<String>,
    word_tokenizer_type: Option<String>,
    subword_tokenizer_type: Option<String>,
    pub(super) do_lower_case: Option<bool>,
    pub(super) strip_accents: Option<bool>,
    pub(super) tokenize_chinese_chars: Option<bool>,
    do_basic_tokenize: Option<bool>,
    never_split: Option<Vec<String>>,
    padding_side: Option<String>,
    truncation_side: Option<String>,
    added_tokens_decoder: Option<BTreeMap<u32, Token>>,
    #[serde(skip)]
    special: Special,
    /// Of `added_tokens.json`.
    #[serde(skip)]
    added: BTreeMap<String, u32>,
    /// The class in `config.json`, where older folders have it.
    #[serde(skip)]
    model_class: Option<String>,
    #[serde(skip)]
    folder: PathBuf,
}

impl Settings {
    /// Reads them from a folder; files that are not there say nothing.
    ///
    /// # Errors
    /// When one of the files is not in its format.
    pub(super) fn of_folder(folder: &Path) -> Result<Self> {
        #[derive(Default, Deserialize)]
        struct Model {
            tokenizer_class: Option<String>,
        }
        let mut settings: Settings = json(&folder.join(CONFIG))?.unwrap_or_default();
        // Read by itself: in one structure errors would lose their place.
        settings.special = json(&folder.join(CONFIG))?.unwrap_or_default();
        settings.folder = folder.to_path_buf();
        // Some folders have it without a token in it.
        settings
            .added_tokens_decoder
            .take_if(|tokens| tokens.is_empty());
        if settings.tokenizer_class.is_none() {
            let model: Option<Model> = json(&folder.join("config.json"))?;
            settings.model_class = model.unwrap_or_default().tokenizer_class;
        }
        // Newer folders have all tokens in one file; then `transformers` reads no other.
        if settings.added_tokens_decoder.is_none() {
            let map: Option<Special> = json(&folder.join("special_tokens_map.json"))?;
            settings.special.take(map.unwrap_or_default());
            settings.added = json(&folder.join("added_tokens.json"))?.unwrap_or_default();
        }
        Ok(settings)
    }

    /// Whether they are those of BERT's tokenizer, which they also are if they name no class.
    pub(super) fn are_of_bert(&self) -> bool {
        let class = self.tokenizer_class.as_ref().or(self.model_class.as_ref());
        class.is_none_or(|class| is_of_bert(class))
    }

    /// Refuses those of another tokenizer than BERT's, which has a `vocab.txt` too.
    ///
    /// # Errors
    /// With the key and its value.
    pub(super) fn check_is_bert(&self) -> Result<()> {
        let is_other = |class: &&String| !is_of_bert(class);
        let class = |class: &'_ Option<String>| class.as_ref().filter(is_other).cloned();
        let kind = |kind: &Option<String>, known: &str| {
            let kind = kind.as_ref();
            kind.filter(|kind| *kind != known).cloned()
        };
        let (words, parts) = (&self.word_tokenizer_type, &self.subword_tokenizer_type);
        let classes = CLASSES.join(", ");
        let refused = [
            (
                CONFIG,
                "tokenizer_class",
                class(&self.tokenizer_class),
                classes.as_str(),
            ),
            (
                "config.json",
                "tokenizer_class",
                class(&self.model_class),
                classes.as_str(),
            ),
            (CONFIG, "word_tokenizer_type", kind(words, "basic"), "basic"),
            (
                CONFIG,
                "subword_tokenizer_type",
                kind(parts, "wordpiece"),
                "wordpiece",
            ),
        ];
        for (file, key, value, known) in refused {
            let Some(value) = value else { continue };
            return Err(Error::file(
                self.folder.join(file),
                format!(
                    "{key} is `{value}`, and with vocab.txt alone only {known} can be read; give a \
                     folder with the tokenizer.json of this tokenizer"
                ),
            ));
        }
        Ok(())
    }

    /// `tokenizer_config.json` with the class that only the model's `config.json` names, which does
    /// not come with the tokenizer.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn with_class(&self) -> Result<Option<Vec<u8>>> {
        let Some(class) = &self.model_class else {
            return Ok(None);
        };
        let file: Option<Map<String, Value>> = json(&self.folder.join(CONFIG))?;
        let mut settings = file.unwrap_or_default();
        settings.insert("tokenizer_class".to_owned(), class.as_str().into());
        Ok(Some(
            format!("{:#}\n", Value::Object(settings)).into_bytes(),
        ))
    }

    /// Warns of settings that are not followed.
    pub(super) fn warn(&self) {
        let side = |side: &Option<String>| side.as_deref() == Some("left");
        let added = self.added();
        let is_added = |token: &String| {
            self.special.has(token) || added.iter().any(|(_, known)| known.content == *token)
        };
        let never_split = self.never_split.iter().flatten();
        let ignored = [
            ("do_basic_tokenize", self.do_basic_tokenize == Some(false)),
            ("never_split", { never_split }.any(|token| !is_added(token))),
            ("padding_side", side(&self.padding_side)),
            ("truncation_side", side(&self.truncation_side)),
        ];
        for (key, _) in ignored.iter().filter(|(_, is_set)| *is_set) {
            let path = self.folder.join(CONFIG);
            let path = path.display();
            log::warn!(
                "{path}: `{key}` is not followed here; tokens may be other ones than in Python"
            );
        }
    }

    /// What a special token is called.
    pub(super) fn name(&self, role: Role) -> &str {
        self.special.name(role)
    }

    /// The names that padding may have, the likeliest first.
    pub(super) fn paddings(&self) -> [&str; 3] {
        [self.name(Role::Padding), "[PAD]", "<pad>"]
    }

    /// BERT's five special tokens.
    pub(super) fn specials(&self) -> impl Iterator<Item = AddedToken> + '_ {
        self.special.five()
    }

    /// Tokens beside the vocabulary, or in it and not to be split, with the ids that they are to
    /// have, in the order of these; those without an id come last.
    pub(super) fn added(&self) -> Vec<(Option<u32>, AddedToken)> {
        let more = self.special.more();
        let mut added: Vec<_> = match &self.added_tokens_decoder {
            Some(decoder) => {
                let tokens = decoder.iter();
                tokens
                    .map(|(id, token)| (Some(*id), token.added(false)))
                    .collect()
            }
            None => {
                let mut added: Vec<_> = self.added.iter().collect();
                added.sort_by_key(|(_, id)| **id);
                let token = |name: &String| match more.iter().find(|token| token.content() == name)
                {
                    Some(token) => token.added(true),
                    None => AddedToken::from(name, self.special.has(name)),
                };
                let tokens = added.into_iter();
                tokens.map(|(name, id)| (Some(*id), token(name))).collect()
            }
        };
        for token in more {
            if !added
                .iter()
                .any(|(_, known)| known.content == token.content())
            {
                added.push((None, token.added(true)));
            }
        }
        added
    }

    /// The file that says which ids added tokens have.
    pub(super) fn file_of_added(&self) -> PathBuf {
        self.folder.join(match self.added_tokens_decoder {
            Some(_) => CONFIG,
            None => "added_tokens.json",
        })
    }
}

fn is_of_bert(class: &str) -> bool {
    CLASSES.contains(&class.strip_suffix("Fast").unwrap_or(class))
}

/// The content of a file, if it is there.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = disk::read(path)?;
    let reader = &mut serde_json::Deserializer::from_str(&text);
    let read = serde_path_to_error::deserialize(reader);
    read.map(Some)
        .map_err(|error| Error::file(path, error.to_string()))
}
