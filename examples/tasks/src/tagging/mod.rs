//! Sequence labelling: a tag for each word, such as the names of CoNLL-2003 and MSRA NER.

mod columns;
mod decode;
mod disguised;
mod features;
mod measure;
mod prediction_file;
mod reader;
mod settings;

use std::path::Path;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use textbrewer::models::{BertInputs, TokenClassification};
use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

pub use columns::{Columns, Separator};
pub use features::{Place, Window};

use crate::metrics::Metrics;
use crate::pieces::{Encoded, Pieces};
use crate::task::{Files, Task};
use crate::{Error, Result, disk};
use settings::Settings;

/// The tag of words outside of entities.
const OUTSIDE: &str = "O";

/// Tags of words, in files with a word in each line.
///
/// A custom data set is described in JSON like this; `document_line` (by default none) and
/// `characters` (by default false) are optional:
///
/// ```json
/// {
///   "train": "train.txt",
///   "dev": "valid.txt",
///   "tags": ["O", "B-PER", "I-PER"],
///   "columns": {"count": 4, "word": 0, "tag": 3, "separator": "blanks"},
///   "document_line": "-DOCSTART-",
///   "characters": false
/// }
/// ```
///
/// Columns count from 0. `separator` is `blanks` or `tab`. With `characters`, each character of a
/// text on the command line is a word; otherwise words are separated by blanks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub struct Tagging {
    files: Files,
    tags: Vec<String>,
    /// The index of [`OUTSIDE`] among them.
    outside: usize,
    columns: Columns,
    document_line: Option<String>,
    characters: bool,
}

/// A sentence of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sentence {
    /// Its words; in Chinese its characters.
    pub words: Vec<String>,
    /// The index of each word's tag; `None` if the file has no tags.
    pub tags: Option<Vec<usize>>,
    /// Whether a document line precedes it.
    pub starts_document: bool,
}

impl Tagging {
    /// CoNLL-2003 in English: four columns, tags as BIO.
    pub fn conll2003() -> Self {
        Tagging {
            files: Files::new("train.txt", "valid.txt"),
            tags: bio(&["PER", "ORG", "LOC", "MISC"]),
            outside: 0,
            columns: Columns::new(4, 0, 3, Separator::Blanks),
            document_line: Some("-DOCSTART-".to_owned()),
            characters: false,
        }
    }

    /// MSRA NER in Chinese: a character and its tag in each line.
    pub fn msra_ner() -> Self {
        Tagging {
            files: Files::new("msra_train_bio.txt", "msra_dev_bio.txt"),
            tags: bio(&["PER", "ORG", "LOC"]),
            outside: 0,
            columns: Columns::new(2, 0, 1, Separator::Tab),
            document_line: None,
            characters: true,
        }
    }

    /// The names of tags.
    fn names(&self, tags: &[usize]) -> Result<Vec<&str>> {
        let name = |tag: &usize| {
            let name = self.tags.get(*tag).map(String::as_str);
            let unknown = || Error::invalid(format!("tag {tag} of {} tags", self.tags.len()));
            name.ok_or_else(unknown)
        };
        tags.iter().map(name).collect()
    }

    /// The number of a tag in a file.
    fn number(&self, file: &Path, line: usize, tag: &str) -> Result<usize> {
        let number = self.tags.iter().position(|known| known == tag);
        number.ok_or_else(|| {
            let known = self.tags.join(", ");
            Error::data(
                file,
                line,
                format!("unknown tag `{tag}`; known are {known}"),
            )
        })
    }

    /// Checks that every sentence has a prediction, and every word a tag.
    fn check_counts(&self, sentences: &[Sentence], predictions: &[Vec<usize>]) -> Result<()> {
        let (expected, found) = (sentences.len(), predictions.len());
        if expected != found {
            let reason = format!("{found} predictions for {expected} sentences");
            return Err(Error::invalid(reason));
        }
        for (number, (sentence, tags)) in sentences.iter().zip(predictions).enumerate() {
            let (expected, found) = (sentence.words.len(), tags.len());
            if expected != found {
                return Err(Error::invalid(format!(
                    "{found} tags for the {expected} words of sentence {}",
                    number + 1
                )));
            }
        }
        Ok(())
    }
}

/// `O`, and the beginning and inside of each type.
fn bio(types: &[&str]) -> Vec<String> {
    let outside = std::iter::once(OUTSIDE.to_owned());
    let of_type = |kind: &&str| [format!("B-{kind}"), format!("I-{kind}")];
    outside.chain(types.iter().flat_map(of_type)).collect()
}

impl Task for Tagging {
    type Record = Sentence;
    type Feature = Window;
    type Head = TokenClassification;
    /// The number of each word's tag.
    type Prediction = Vec<usize>;

    fn files(&self) -> &Files {
        &self.files
    }

    fn labels(&self) -> &[String] {
        &self.tags
    }

    fn read(&self, file: &Path) -> Result<Vec<Sentence>> {
        let text = disk::read(file)?;
        let document_line = self.document_line.as_deref();
        let blocks = reader::blocks(file, &text, &self.columns, document_line, &self.tags)?;
        let sentence = |block: reader::Block<'_>| {
            let number = |word: &reader::Word<'_>| {
                let tag = word.tag.map(|tag| self.number(file, word.line, tag));
                tag.transpose()
            };
            let tags: Vec<Option<usize>> = block.words.iter().map(number).collect::<Result<_>>()?;
            Ok(Sentence {
                words: block
                    .words
                    .iter()
                    .map(|word| word.text.to_owned())
                    .collect(),
                tags: tags.into_iter().collect(),
                starts_document: block.starts_document,
            })
        };
        blocks.into_iter().map(sentence).collect()
    }

    fn record_of(&self, _: usize, text: &str) -> Result<Sentence> {
        let words: Vec<String> = if self.characters {
            let characters = text.chars().filter(|c| !c.is_whitespace());
            characters.map(String::from).collect()
        } else {
            text.split_whitespace().map(str::to_owned).collect()
        };
        if words.is_empty() {
            return Err(Error::invalid("no word in the text; give a sentence"));
        }
        Ok(Sentence {
            words,
            tags: None,
            starts_document: false,
        })
    }

    fn has_truth(&self, record: &Sentence) -> bool {
        record.tags.is_some()
    }

    fn truth(&self) -> String {
        self.columns.described()
    }

    /// Windows overlap by at most half of their pieces.
    fn truncation(&self, max_length: usize, stride: usize) -> TruncationParams {
        // Two positions are for the special tokens.
        let half = max_length.saturating_sub(2) / 2;
        TruncationParams {
            direction: TruncationDirection::Right,
            strategy: TruncationStrategy::LongestFirst,
            max_length,
            stride: stride.min(half),
        }
    }

    fn settings(&self) -> String {
        self.columns.described()
    }

    /// Empty for a sentence whose words have no pieces.
    fn features(&self, pieces: &Pieces, record: &Sentence) -> Result<Vec<Window>> {
        features::windows(pieces, record)
    }

    fn encoded<'a>(&self, feature: &'a Window) -> &'a Encoded {
        &feature.encoded
    }

    fn is_labelled(&self, feature: &Window) -> bool {
        feature.tags.is_some()
    }

    fn targets(
        &self,
        features: &[&Window],
        length: usize,
        inputs: BertInputs,
    ) -> textbrewer::Result<BertInputs> {
        Ok(match features::labels(features, length)? {
            Some(labels) => inputs.labels(labels),
            None => inputs,
        })
    }

    fn predict(&self, record: &Sentence, parts: &[(&Window, &Array2<f32>)]) -> Result<Vec<usize>> {
        decode::decode(record, parts, self.tags.len(), self.outside)
    }

    /// `F1`, `precision` and `recall` of entities, `accuracy` of words, and the F1 of each type,
    /// all in percent.
    fn measure(&self, records: &[Sentence], predictions: &[Vec<usize>]) -> Result<Metrics> {
        measure::measure(self, records, predictions)
    }

    fn write(&self, records: &[Sentence], predictions: &[Vec<usize>]) -> Result<String> {
        prediction_file::write(self, records, predictions)
    }

    fn read_predictions(&self, file: &Path, records: &[Sentence]) -> Result<Vec<Vec<usize>>> {
        prediction_file::read(self, file, records)
    }

    /// The sentence, with each entity and its type in brackets.
    fn show(&self, record: &Sentence, prediction: &Vec<usize>) -> String {
        measure::show(self, record, prediction)
    }
}
