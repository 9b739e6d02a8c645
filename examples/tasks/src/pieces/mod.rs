//! Tokenization into word pieces, and batches of pieces.

mod settings;
mod token;
mod word_pieces;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Tensor;
use textbrewer::data::pad_to_longest;
use textbrewer::models::BertInputs;
use tokenizers::{EncodeInput, Encoding, PreTokenizerWrapper, Tokenizer, TruncationParams};

use crate::{Error, Result, disk};
use settings::Settings;

/// Files that belong to a tokenizer; they are copied to the folders of saved models.
pub const FILES: [&str; 10] = [
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
];

/// Word pieces, the input of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoded {
    /// Their ids in the vocabulary.
    pub ids: Vec<u32>,
    /// The segment of each: 0 for the first text, 1 for the second.
    pub types: Vec<u32>,
}

impl From<&Encoding> for Encoded {
    fn from(encoding: &Encoding) -> Self {
        Encoded {
            ids: encoding.get_ids().to_vec(),
            types: encoding.get_type_ids().to_vec(),
        }
    }
}

/// A model's tokenizer with a maximum length.
#[derive(Debug)]
pub struct Pieces {
    tokenizer: Tokenizer,
    folder: PathBuf,
    padding: u32,
    /// `tokenizer_config.json`, where the one of the folder cannot be taken as it is.
    config: Option<Vec<u8>>,
}

impl Pieces {
    /// Reads `tokenizer.json` or, if there is none, `vocab.txt` from a folder, with what
    /// `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` say beside it.
    ///
    /// # Errors
    /// When there is neither, or it is not a tokenizer with a padding token, or not one that can
    /// be read.
    pub fn from_folder(folder: &Path, truncation: TruncationParams) -> Result<Self> {
        let (json, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
        if !folder.is_dir() {
            return Err(Error::file(folder, "no such folder"));
        }
        let settings = Settings::of_folder(folder)?;
        let mut tokenizer = if json.exists() {
            let read = Tokenizer::from_bytes(disk::read(&json)?);
            let mut tokenizer = read.map_err(|error| Error::file(&json, error.to_string()))?;
            word_pieces::follow(&mut tokenizer, &settings);
            word_pieces::add(&mut tokenizer, &settings, false)?;
            tokenizer
        } else if vocabulary.exists() {
            let mut tokenizer = word_pieces::from_vocabulary(&vocabulary, &settings)?;
            word_pieces::add(&mut tokenizer, &settings, true)?;
            tokenizer
        } else {
            return Err(Error::file(folder, neither(folder)));
        };
        settings.warn();
        // Lengths in the file were meant for another use: here each batch has its own length.
        tokenizer.with_padding(None);
        let (max_length, stride) = (truncation.max_length, truncation.stride);
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| {
                let error = error.to_string();
                let error = error.trim_end_matches([',', ' ']);
                let what = format!("max_length {max_length} and stride {stride}");
                Error::invalid(format!("{what} do not go together, set --stride: {error}"))
            })?;
        let padding = settings
            .paddings()
            .iter()
            .find_map(|token| tokenizer.token_to_id(token))
            .ok_or_else(|| {
                Error::file(
                    folder,
                    "its tokenizer has neither `[PAD]` nor `<pad>`; use one of a BERT or RoBERTa",
                )
            })?;
        Ok(Pieces {
            tokenizer,
            folder: folder.to_path_buf(),
            padding,
            config: settings.with_class()?,
        })
    }

    /// The folder that the tokenizer was read from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The number of ids: the model must have an embedding for each.
    pub fn vocabulary(&self) -> usize {
        // The largest id decides, since ids may have gaps.
        let ids = self.tokenizer.get_vocab(true).into_values();
        ids.max().map_or(0, |last| last as usize + 1)
    }

    /// Whether two tokenizers have the same pieces with the same ids.
    pub fn has_vocabulary_of(&self, other: &Pieces) -> bool {
        self.tokenizer.get_vocab(true) == other.tokenizer.get_vocab(true)
    }

    /// Whether a word on its own is split into other pieces than inside a text, as with byte-level
    /// tokenizers without `add_prefix_space`, where it loses the blank before it.
    pub fn loses_blanks(&self) -> bool {
        let pre_tokenizer = self.tokenizer.get_pre_tokenizer();
        matches!(pre_tokenizer, Some(PreTokenizerWrapper::ByteLevel(bytes)) if !bytes.add_prefix_space)
    }

    /// The underlying tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Splits a text, a pair of texts, or words into pieces with special tokens. What exceeds the
    /// maximum length is in the overflow of the encoding.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode<'s>(&self, input: impl Into<EncodeInput<'s>>) -> Result<Encoding> {
        let failed = |error: tokenizers::Error| Error::file(&self.folder, error.to_string());
        self.tokenizer
            .encode_char_offsets(input, true)
            .map_err(failed)
    }

    /// Makes a batch of pieces, padded to the longest.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn batch(&self, encoded: &[&Encoded]) -> textbrewer::Result<BertInputs> {
        let ids: Vec<_> = encoded.iter().map(|encoded| &encoded.ids).collect();
        let types: Vec<_> = encoded.iter().map(|encoded| &encoded.types).collect();
        let (ids, mask) = pad_to_longest(&ids, self.padding, None)?;
        let mut inputs = BertInputs::new(ids).attention_mask(mask);
        // Models without segments do not accept token types.
        if types.iter().copied().flatten().any(|segment| *segment != 0) {
            let (types, _) = pad_to_longest(&types, 0, None)?;
            inputs = inputs.token_type_ids(types);
        }
        Ok(inputs)
    }

    /// A batch with padding up to a length, and nothing but the pieces.
    ///
    /// # Errors
    /// When it is longer, or libtorch fails.
    pub fn pad(&self, inputs: &BertInputs, length: usize) -> textbrewer::Result<BertInputs> {
        let (_, own) = inputs.input_ids.size2()?;
        let missing = length as i64 - own;
        if missing < 0 {
            let reason = format!("a batch of {own} pieces each, longer than {length}");
            return Err(textbrewer::Error::other(reason));
        }
        let pad =
            |tensor: &Tensor, value: u32| tensor.f_pad([0, missing], "constant", f64::from(value));
        let mut padded = BertInputs::new(pad(&inputs.input_ids, self.padding)?);
        if let Some(mask) = &inputs.attention_mask {
            padded = padded.attention_mask(pad(mask, 0)?);
        }
        if let Some(types) = &inputs.token_type_ids {
            padded = padded.token_type_ids(pad(types, 0)?);
        }
        Ok(padded)
    }

    /// A hash of the whole tokenizer, wherever it cuts texts.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn hash(&self) -> Result<String> {
        let failed = |error: tokenizers::Error| Error::file(&self.folder, error.to_string());
        let mut tokenizer = self.tokenizer.clone();
        tokenizer.with_truncation(None).map_err(failed)?;
        let text = tokenizer.to_string(false).map_err(failed)?;
        Ok(crate::disk::hex(&Sha256::digest(text)))
    }

    /// Copies the tokenizer to the folder of a model, which completes it. Files of another
    /// tokenizer, which might be read instead, are removed.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        for name in FILES {
            let (source, target) = (self.folder.join(name), folder.join(name));
            if let (settings::CONFIG, Some(config)) = (name, &self.config) {
                crate::disk::write(&target, config)?;
                continue;
            }
            if !source.exists() {
                crate::disk::remove(&target)?;
                continue;
            }
            let bytes = std::fs::read(&source).map_err(|error| Error::io(&source, error))?;
            crate::disk::write(&target, &bytes)?;
        }
        Ok(())
    }

    /// The files that define the pieces.
    pub fn sources(&self) -> impl Iterator<Item = PathBuf> + '_ {
        FILES.iter().map(|name| self.folder.join(name))
    }
}

/// Why there is no tokenizer in a folder, and what is there of one.
fn neither(folder: &Path) -> String {
    let there = FILES.iter().filter(|name| folder.join(name).exists());
    let there: Vec<_> = there.map(|name| format!("`{name}`")).collect();
    match there.join(", ") {
        there if there.is_empty() => "neither tokenizer.json nor vocab.txt in it".to_owned(),
        there => format!(
            "neither tokenizer.json nor vocab.txt in it, only {there}, of which no tokenizer can be \
             made here; in Python `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` \
             writes tokenizer.json"
        ),
    }
}
