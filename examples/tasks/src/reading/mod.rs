//! Reading comprehension: the answer to a question is a part of a text.

mod answers;
mod decode;
mod language;
mod predictions;
mod reader;
mod settings;
mod windows;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use textbrewer::models::{BertInputs, QuestionAnswering};
use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

pub use answers::{Answer, Span};
pub use decode::{Candidate, Prediction};
pub use language::Language;
pub use reader::{Question, Repairs};
pub use windows::Window;

use crate::metrics::Metrics;
use crate::metrics::cmrc::Cmrc;
use crate::metrics::squad::Squad;
use crate::pieces::{Encoded, Pieces};
use crate::task::{Files, Task};
use crate::{Error, Result};
use settings::Settings;

/// Questions about texts, in the format of SQuAD 1.1.
///
/// A custom data set is described in JSON like this. The last three keys are optional and have
/// these values by default. `language` is `english` or `chinese`; it decides the metric and what a
/// word is.
///
/// ```json
/// {
///   "train": "train-v1.1.json",
///   "dev": "dev-v1.1.json",
///   "language": "english",
///   "max_query_length": 64,
///   "max_answer_length": 30,
///   "n_best": 20
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub struct Reading {
    /// The names of the files.
    pub files: Files,
    /// Decides the metric and what a word is.
    pub language: Language,
    /// The most pieces of a question; longer ones are cut.
    pub max_query_length: usize,
    /// The most pieces of an answer.
    pub max_answer_length: usize,
    /// How many answers are kept for each question.
    pub n_best: usize,
}

impl Reading {
    /// SQuAD 1.1, in English (Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine
    /// Comprehension of Text", 2016).
    pub fn squad() -> Self {
        Reading {
            files: Files::new("train-v1.1.json", "dev-v1.1.json"),
            language: Language::English,
            max_query_length: settings::max_query_length(),
            max_answer_length: settings::max_answer_length(),
            n_best: settings::n_best(),
        }
    }

    /// CMRC 2018, in Chinese (Cui et al., "A Span-Extraction Dataset for Chinese Machine Reading
    /// Comprehension", 2019). DRCD has the same files in traditional characters.
    pub fn cmrc2018() -> Self {
        Reading {
            files: Files::new("cmrc2018_train.json", "cmrc2018_dev.json"),
            language: Language::Chinese,
            // Answers in CMRC are often whole sentences.
            max_answer_length: 50,
            ..Reading::squad()
        }
    }

    /// Reads a file, and reports answers that are not at the given positions.
    ///
    /// # Errors
    /// When it is not in SQuAD 1.1's format; the error names the place.
    pub fn read_with_repairs(&self, file: &Path) -> Result<(Vec<Question>, Repairs)> {
        reader::read(file, self.language)
    }

    /// Refuses settings with which all answers would be empty.
    fn check(&self) -> Result<()> {
        let settings = [
            ("max_query_length", self.max_query_length),
            ("max_answer_length", self.max_answer_length),
            ("n_best", self.n_best),
        ];
        match settings.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(Error::invalid(format!("{name} is 0; it is at least 1"))),
            None => Ok(()),
        }
    }
}

impl Task for Reading {
    type Record = Question;
    type Feature = Window;
    type Head = QuestionAnswering;
    type Prediction = Prediction;

    fn files(&self) -> &Files {
        &self.files
    }

    fn labels(&self) -> &[String] {
        &[]
    }

    /// A start and an end.
    fn outputs(&self) -> usize {
        2
    }

    fn read(&self, file: &Path) -> Result<Vec<Question>> {
        let (questions, repairs) = self.read_with_repairs(file)?;
        repairs.warn(file);
        Ok(questions)
    }

    /// The question, a tab, and the context.
    fn record_of(&self, number: usize, text: &str) -> Result<Question> {
        let (question, context) = text.split_once('\t').unwrap_or((text, ""));
        if question.trim().is_empty() || context.trim().is_empty() {
            let reason = "a question and a context are needed, with a tab between them";
            return Err(Error::invalid(reason));
        }
        Ok(Question {
            id: number.to_string(),
            question: question.to_owned(),
            context: Arc::from(context),
            answers: Vec::new(),
        })
    }

    fn has_truth(&self, record: &Question) -> bool {
        !record.answers.is_empty()
    }

    fn truth(&self) -> String {
        "`answers` of every question".to_owned()
    }

    fn truncation(&self, max_length: usize, stride: usize) -> TruncationParams {
        TruncationParams {
            direction: TruncationDirection::Right,
            max_length,
            strategy: TruncationStrategy::OnlySecond,
            stride,
        }
    }

    fn scores_places(&self) -> bool {
        true
    }

    fn settings(&self) -> String {
        format!("questions of at most {} pieces", self.max_query_length)
    }

    fn features(&self, pieces: &Pieces, record: &Question) -> Result<Vec<Window>> {
        self.check()?;
        windows::windows(pieces, record, self.max_query_length)
    }

    fn encoded<'a>(&self, feature: &'a Window) -> &'a Encoded {
        &feature.encoded
    }

    fn is_labelled(&self, feature: &Window) -> bool {
        feature.answer.is_some()
    }

    fn targets(
        &self,
        features: &[&Window],
        _length: usize,
        inputs: BertInputs,
    ) -> textbrewer::Result<BertInputs> {
        let answers = features.iter().map(|window| window.answer);
        let Some(answers) = answers.collect::<Option<Vec<_>>>() else {
            return Ok(inputs);
        };
        let (starts, ends): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .map(|(start, end)| (i64::from(start), i64::from(end)))
            .unzip();
        Ok(inputs.answers(Tensor::f_from_slice(&starts)?, Tensor::f_from_slice(&ends)?))
    }

    fn predict(&self, record: &Question, parts: &[(&Window, &Array2<f32>)]) -> Result<Prediction> {
        self.check()?;
        let choice = decode::Choice {
            longest: self.max_answer_length,
            kept: self.n_best,
        };
        choice.predict(record, parts)
    }

    /// In English F1 and exact match (EM) of SQuAD's script; in Chinese their mean, F1 and EM of
    /// CMRC's. A prediction without candidates counts as 0.
    fn measure(&self, records: &[Question], predictions: &[Prediction]) -> Result<Metrics> {
        predictions::check_lengths(records, predictions)?;
        let mut truth = Vec::with_capacity(records.len());
        for record in records {
            if record.answers.is_empty() {
                let reason = format!(
                    "question `{}` has no answers; a file with answers is needed to measure",
                    record.id
                );
                return Err(Error::invalid(reason));
            }
            let texts = record.answers.iter().map(|answer| answer.text.clone());
            truth.push(texts.collect::<Vec<_>>());
        }
        let questions = || {
            let ids = records.iter().map(|record| record.id.as_str());
            ids.zip(truth.iter().map(Vec::as_slice))
        };
        let answered = records.iter().zip(predictions);
        let answered: BTreeMap<String, String> = answered
            .filter(|(_, prediction)| !prediction.candidates.is_empty())
            .map(|(record, prediction)| (record.id.clone(), prediction.text().to_owned()))
            .collect();
        match self.language {
            Language::English => {
                let scores = Squad::new()?.evaluate(questions(), &answered)?;
                Ok(Metrics::new("F1", scores.f1).and("EM", scores.exact_match))
            }
            Language::Chinese => {
                let scores = Cmrc::new()?.evaluate(questions(), &answered)?;
                Ok(Metrics::new("average", scores.average())
                    .and("F1", scores.f1)
                    .and("EM", scores.exact_match))
            }
        }
    }

    /// The answers by the ids of their questions, the format of the evaluation scripts of SQuAD and
    /// CMRC.
    fn write(&self, records: &[Question], predictions: &[Prediction]) -> Result<String> {
        predictions::write(records, predictions)
    }

    fn has_candidates(&self) -> bool {
        true
    }

    fn write_candidates(&self, records: &[Question], predictions: &[Prediction]) -> Result<String> {
        predictions::n_best(records, predictions)
    }

    /// A question that the file leaves out counts as 0.
    fn read_predictions(&self, file: &Path, records: &[Question]) -> Result<Vec<Prediction>> {
        predictions::read(file, records)
    }

    /// The question, and the best answers with their probabilities.
    fn show(&self, record: &Question, prediction: &Prediction) -> String {
        let mut text = record.question.clone();
        for candidate in prediction.candidates.iter().take(3) {
            text.push_str(&format!(
                "\n  {:6.2} %  {}",
                100.0 * candidate.probability,
                candidate.text
            ));
        }
        if prediction.candidates.is_empty() {
            text.push_str("\n  no answer");
        }
        text
    }
}
