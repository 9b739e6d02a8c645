//! Text to word pieces, and word pieces to batches.

use std::error::Error;
use std::path::Path;

use tch::Tensor;
use textbrewer::data::pad_to_longest;
use textbrewer::models::BertInputs;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer, TruncationParams};

use crate::dataset::Sentence;

/// What a folder may say about its tokenizer; saved models get copies of these.
const FILES: [&str; 4] = [
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// A sentence as the model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    pub ids: Vec<i64>,
    pub label: i64,
}

/// A model's tokenizer, cutting at a length.
pub struct Pieces {
    tokenizer: Tokenizer,
    pad: i64,
}

impl Pieces {
    /// Reads `tokenizer.json`, or else `vocab.txt`, from a folder.
    pub fn from_folder(folder: &Path, max_length: usize) -> Result<Self, Box<dyn Error>> {
        let (json, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
        let mut tokenizer = if json.exists() {
            Tokenizer::from_file(&json).map_err(|error| format!("{}: {error}", json.display()))?
        } else if vocabulary.exists() {
            uncased(&vocabulary).map_err(|error| format!("{}: {error}", vocabulary.display()))?
        } else {
            let folder = folder.display();
            return Err(format!("{folder}: neither tokenizer.json nor vocab.txt in it").into());
        };
        // What the file says about lengths was right for another use: here each batch has
        // its own length.
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            max_length,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| format!("--max-length: {error}"))?;
        let pad = tokenizer.token_to_id("[PAD]").ok_or_else(|| {
            let folder = folder.display();
            format!("{folder}: its tokenizer has no `[PAD]`; use that of a BERT")
        })?;
        Ok(Pieces {
            tokenizer,
            pad: i64::from(pad),
        })
    }

    /// How many ids there are: the model must have an embedding for each.
    pub fn len(&self) -> i64 {
        self.tokenizer.get_vocab_size(true) as i64
    }

    /// Cuts texts to ids, with the special tokens around them.
    pub fn ids(&self, texts: &[&str]) -> Result<Vec<Vec<i64>>, Box<dyn Error>> {
        let encodings = self
            .tokenizer
            .encode_batch_fast(texts.to_vec(), true)
            .map_err(|error| format!("tokenizer: {error}"))?;
        let ids = |ids: &[u32]| ids.iter().map(|id| i64::from(*id)).collect();
        Ok(encodings.iter().map(|e| ids(e.get_ids())).collect())
    }

    /// Cuts sentences to examples.
    pub fn examples(&self, sentences: &[Sentence]) -> Result<Vec<Example>, Box<dyn Error>> {
        let texts: Vec<&str> = sentences.iter().map(|s| s.text.as_str()).collect();
        let examples = self.ids(&texts)?.into_iter().zip(sentences);
        Ok(examples
            .map(|(ids, sentence)| Example {
                ids,
                label: sentence.label,
            })
            .collect())
    }

    /// Puts examples in a batch, padded to the longest.
    pub fn batch(&self, examples: &[&Example]) -> textbrewer::Result<BertInputs> {
        let ids: Vec<&[i64]> = examples.iter().map(|e| e.ids.as_slice()).collect();
        let labels: Vec<i64> = examples.iter().map(|e| e.label).collect();
        let (input_ids, attention_mask) = pad_to_longest(&ids, self.pad, None)?;
        Ok(BertInputs::new(input_ids)
            .attention_mask(attention_mask)
            .labels(Tensor::f_from_slice(&labels)?))
    }
}

/// BERT's tokenizer for text without case, from its list of word pieces.
fn uncased(vocabulary: &Path) -> Result<Tokenizer, Box<dyn Error + Send + Sync>> {
    let model = WordPiece::from_file(&vocabulary.to_string_lossy()).build()?;
    let mut tokenizer = Tokenizer::new(model);
    let id = |token: &str| {
        let id = tokenizer.token_to_id(token);
        id.ok_or_else(|| format!("no line `{token}`: not a BERT vocabulary"))
    };
    id("[UNK]")?;
    let (separator, class) = (id("[SEP]")?, id("[CLS]")?);
    let known = ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"];
    let known = known.into_iter().filter(|token| id(token).is_ok());
    let special: Vec<_> = known.map(|token| AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(&special);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, true)));
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(
        ("[SEP]".to_owned(), separator),
        ("[CLS]".to_owned(), class),
    )));
    Ok(tokenizer)
}

/// Copies a folder's tokenizer to the folder of a model, which is then complete.
pub fn copy_files(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    for name in FILES {
        let (source, target) = (from.join(name), to.join(name));
        // Copying a file onto itself empties it.
        if source.exists() && from.canonicalize()? != to.canonicalize()? {
            std::fs::copy(&source, &target)
                .map_err(|error| format!("{}: {error}", target.display()))?;
        }
    }
    Ok(())
}
