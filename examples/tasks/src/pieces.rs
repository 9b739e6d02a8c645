//! Tokenization into word pieces, and batches of pieces.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use textbrewer::data::pad_to_longest;
use textbrewer::models::BertInputs;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{
    AddedToken, EncodeInput, Encoding, PreTokenizerWrapper, Tokenizer, TruncationParams,
};

use crate::{Error, Result};

/// Files that belong to a tokenizer; they are copied to the folders of saved models.
pub const FILES: [&str; 4] = [
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
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
}

impl Pieces {
    /// Reads `tokenizer.json` or, if there is none, `vocab.txt` from a folder.
    ///
    /// # Errors
    /// When there is neither, or it is not a tokenizer with a padding token.
    pub fn from_folder(folder: &Path, truncation: TruncationParams) -> Result<Self> {
        let (json, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
        if !folder.is_dir() {
            return Err(Error::file(folder, "no such folder"));
        }
        let mut tokenizer = if json.exists() {
            Tokenizer::from_file(&json).map_err(|error| Error::file(&json, error.to_string()))?
        } else if vocabulary.exists() {
            word_pieces(folder, &vocabulary)?
        } else {
            let reason = "neither tokenizer.json nor vocab.txt in it";
            return Err(Error::file(folder, reason));
        };
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
        let padding = ["[PAD]", "<pad>"]
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
        })
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

    /// Copies the tokenizer to the folder of a model, which completes it. Files of another
    /// tokenizer, which might be read instead, are removed.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        for name in FILES {
            let (source, target) = (self.folder.join(name), folder.join(name));
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

/// BERT's tokenizer from its list of word pieces.
fn word_pieces(folder: &Path, vocabulary: &Path) -> Result<Tokenizer> {
    let failed = |error: tokenizers::Error| Error::file(vocabulary, error.to_string());
    let model = WordPiece::from_file(&vocabulary.to_string_lossy());
    let mut tokenizer = Tokenizer::new(model.build().map_err(failed)?);
    let id = |token: &str| {
        let id = tokenizer.token_to_id(token);
        id.ok_or_else(|| {
            Error::file(
                vocabulary,
                format!("no line `{token}`: not a BERT vocabulary"),
            )
        })
    };
    id("[UNK]")?;
    let (separator, class) = (id("[SEP]")?, id("[CLS]")?);
    let known = ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"];
    let known = known.into_iter().filter(|token| id(token).is_ok());
    let special: Vec<_> = known.map(|token| AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(&special);
    let lower = lower_case(folder)?;
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, lower)));
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(
        ("[SEP]".to_owned(), separator),
        ("[CLS]".to_owned(), class),
    )));
    Ok(tokenizer)
}

/// Whether text is lowercased: `do_lower_case` in `tokenizer_config.json`, by default true.
fn lower_case(folder: &Path) -> Result<bool> {
    #[derive(Deserialize)]
    struct Config {
        do_lower_case: Option<bool>,
    }
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(true);
    }
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
    let config: Config =
        serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
    Ok(config.do_lower_case.unwrap_or(true))
}
