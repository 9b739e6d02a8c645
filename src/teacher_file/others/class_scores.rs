//! Probabilities or scores of classes that somebody else made.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::super::column::{Form, Stored};
use super::super::keep::Keep;
use super::super::numbers::LOG_OF_ZERO;
use super::super::{Recording, TeacherFile, wrong};
use super::problems::Problems;
use super::source;
use super::table::{Field, Table};
use super::texts::{Found, Row, Texts};
use crate::adaptor::AdaptorOutput;
use crate::error::{Error, Result, shown};
use crate::logging::warn;

/// A file with one row for each example and one column for each class, such as the probabilities that a
/// large language model gave: CSV, TSV (without quotes) or JSONL, as its name ends. [`record`](Self::record)
/// makes a teacher of it.
///
/// The columns of the classes have the names of the labels, in any order. A row belongs to the example
/// that its column `id` names; without this column to those whose text it has ([`texts`](Self::texts));
/// or to the one of its position, if this is said ([`by_position`](Self::by_position)).
///
/// ```
/// use textbrewer::teacher_file::{ClassScores, Recording};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("soft.csv");
/// std::fs::write(&path, "text,positive,negative\na fine film,0.9,0.1\n\"dull, long\",0.2,0.8\n")?;
///
/// let file = ClassScores::probabilities(&path, ["negative", "positive"])
///     .texts("text", ["dull, long", "a fine film"])
///     .record(Recording::new(folder.path().join("teacher")))?;
/// let said = file.read(&[0, 1])?.logits[0].whole()?.f_exp()?;
/// assert!((said.double_value(&[0, 0]) - 0.8).abs() < 1e-6);
/// assert!((said.double_value(&[1, 1]) - 0.9).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClassScores {
    path: PathBuf,
    labels: Vec<String>,
    are_probabilities: bool,
    id_column: String,
    texts: Option<Texts>,
    ids: Option<Vec<u64>>,
    is_by_position: bool,
    ignores_others: bool,
}

/// The rows of such a file, each with the example it belongs to.
#[derive(Debug, Default)]
struct Rows {
    ids: Vec<u64>,
    /// Which row each of them has.
    rows: Vec<usize>,
    /// All rows, one after the other.
    numbers: Vec<f64>,
    /// Whether they were found by texts.
    are_by_text: bool,
}

/// How far the sum of rounded probabilities may be from 1.
pub(super) const TOLERANCE: f64 = 0.02;
/// About how many numbers are recorded at a time.
const AT_ONCE: usize = 1 << 18;

impl ClassScores {
    fn new<L: Into<String>>(
        path: impl AsRef<Path>,
        labels: impl IntoIterator<Item = L>,
        are_probabilities: bool,
    ) -> Self {
        ClassScores {
            path: path.as_ref().to_path_buf(),
            labels: labels.into_iter().map(Into::into).collect(),
            are_probabilities,
            id_column: "id".to_owned(),
            texts: None,
            ids: None,
            is_by_position: false,
            ignores_others: false,
        }
    }

    /// A file of probabilities, with the labels in the order of the student's classes. A row that sums
    /// to 1 within 0.02 is divided by its sum, another one is an error. A probability of 0 is allowed.
    pub fn probabilities<L: Into<String>>(
        path: impl AsRef<Path>,
        labels: impl IntoIterator<Item = L>,
    ) -> Self {
        Self::new(path, labels, true)
    }

    /// A file of logits, or of scores whose softmax is to be learnt, such as log-probabilities. One
    /// of −∞ is kept as −10³⁰, with which no loss is NaN. If all rows look like probabilities, there is a
    /// warning.
    pub fn logits<L: Into<String>>(
        path: impl AsRef<Path>,
        labels: impl IntoIterator<Item = L>,
    ) -> Self {
        Self::new(path, labels, false)
    }

    /// Sets which column has the ids, `id` by default.
    #[must_use]
    pub fn id_column(mut self, name: impl Into<String>) -> Self {
        self.id_column = name.into();
        self
    }

    /// Gives the texts of the data in the order of the examples, by which rows are found where the file
    /// has no ids, and the column that has them. White space at the ends of texts does not count.
    ///
    /// Examples with the same text have the same row. Two rows for one text have to be equal. Rows of
    /// other texts are left out, with a warning.
    #[must_use]
    pub fn texts<T: Into<String>>(
        mut self,
        column: impl Into<String>,
        texts: impl IntoIterator<Item = T>,
    ) -> Self {
        self.texts = Some(Texts {
            columns: vec![column.into()],
            of_each: texts.into_iter().map(|text| vec![text.into()]).collect(),
        });
        self
    }

    /// As [`texts`](Self::texts), for examples of two texts each, in two columns.
    #[must_use]
    pub fn text_pairs<T: Into<String>>(
        mut self,
        columns: [&str; 2],
        pairs: impl IntoIterator<Item = [T; 2]>,
    ) -> Self {
        self.texts = Some(Texts {
            columns: columns.map(str::to_owned).to_vec(),
            of_each: pairs
                .into_iter()
                .map(|pair| pair.map(Into::into).to_vec())
                .collect(),
        });
        self
    }

    /// Says the ids of the examples in their order, where they are not their positions from 0: of the
    /// texts, or of the rows [by position](Self::by_position).
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = u64>) -> Self {
        self.ids = Some(ids.into_iter().collect());
        self
    }

    /// Says that the rows are in the order of the examples, even if the file has the column of the ids or
    /// those of [`texts`](Self::texts). Any other column is an error here too, unless
    /// [`ignore_other_columns`](Self::ignore_other_columns) is called.
    #[must_use]
    pub fn by_position(mut self) -> Self {
        self.is_by_position = true;
        self
    }

    /// Allows columns that nothing is known of. Otherwise they are an error, for one may be a class
    /// whose name is not quite that of a label.
    #[must_use]
    pub fn ignore_other_columns(mut self) -> Self {
        self.ignores_others = true;
        self
    }

    /// Reads the file and records it. Unless `recording` keeps something else, these are
    /// [`probabilities`](Recording::probabilities) or [`logits`](Recording::logits) in float32; the
    /// labels are those of the file. A hash of the file is the fact `source`; where rows are found by
    /// texts, one of the texts in their order is the fact `source texts`.
    ///
    /// # Errors
    /// When the file cannot be read, a column is missing, unknown or there twice, a number is none or
    /// impossible, an id is no number or comes twice, or a text has no row: all with the file, the first
    /// such line, and how many others there are. Those of [`Recording::begin`].
    pub fn record(self, recording: Recording) -> Result<TeacherFile> {
        let rows = self.read()?;
        self.warn_of_probabilities(&rows);
        let stored = Stored::Float32;
        let form = match self.are_probabilities {
            true => Form::Probabilities { stored },
            false => Form::Numbers { stored },
        };
        let mut facts = source::facts(&self.path, &rows.ids, "")?;
        if let (true, Some(texts)) = (rows.are_by_text, &self.texts) {
            facts.push(source::fact_of_texts(texts));
        }
        let recording = recording.of_others(Keep::Logits { form, seed: 0 }, facts);
        let mut recorder = recording.labels(self.labels.clone()).begin()?;
        let classes = self.labels.len();
        let at_once = (AT_ONCE / classes).max(1);
        for (ids, of_ids) in rows.ids.chunks(at_once).zip(rows.rows.chunks(at_once)) {
            let mut logits = Vec::with_capacity(ids.len() * classes);
            for row in of_ids {
                let numbers = rows.numbers.get(row * classes..(row + 1) * classes);
                logits.extend(numbers.unwrap_or_default().iter().map(|number| {
                    match self.are_probabilities {
                        true => number.ln(),
                        false => number.max(LOG_OF_ZERO),
                    }
                }));
            }
            let logits = Tensor::f_from_slice(&logits)?;
            let logits = logits.f_reshape([ids.len() as i64, classes as i64])?;
            recorder.add(ids, &AdaptorOutput::new().logits(logits))?;
        }
        recorder.finish()
    }

    /// Probabilities that are read as logits teach that all classes are nearly as likely.
    fn warn_of_probabilities(&self, rows: &Rows) {
        let classes = self.labels.len();
        let mut each = rows.numbers.chunks(classes);
        let are_probabilities = |row: &[f64]| {
            let sum: f64 = row.iter().sum();
            row.iter().all(|number| *number >= 0.0) && (sum - 1.0).abs() <= TOLERANCE
        };
        if !self.are_probabilities && classes > 1 && each.all(are_probabilities) {
            warn(format_args!(
                "`{}`: each row sums to 1, as probabilities do, and is read as logits; if these are \
                 probabilities, read them with `ClassScores::probabilities`",
                self.path.display()
            ));
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |reason: String| Err(Error::config("labels", reason));
        if self.labels.is_empty() {
            return wrong(
                "there are none; give the names of the classes, in their order".to_owned(),
            );
        }
        let mut known: Vec<&str> = vec![&self.id_column];
        known.extend(
            self.texts
                .iter()
                .flat_map(|texts| &texts.columns)
                .map(String::as_str),
        );
        for label in &self.labels {
            if known.contains(&label.as_str()) {
                let label = shown(label);
                return wrong(format!("`{label}` is the name of two columns"));
            }
            known.push(label);
        }
        let (Some(texts), Some(ids)) = (&self.texts, &self.ids) else {
            return Ok(());
        };
        match texts.of_each.len() == ids.len() {
            true => Ok(()),
            false => Err(Error::config(
                "ids",
                format!("there are {} for {} texts", ids.len(), texts.of_each.len()),
            )),
        }
    }

    fn read(&self) -> Result<Rows> {
        self.check()?;
        let mut columns: Vec<&str> = vec![&self.id_column];
        columns.extend(
            self.texts
                .iter()
                .flat_map(|texts| &texts.columns)
                .map(String::as_str),
        );
        let required = columns.len();
        columns.extend(self.labels.iter().map(String::as_str));
        let table = Table {
            path: &self.path,
            columns,
            required,
            needs_key: !self.is_by_position,
            ignores_others: self.ignores_others,
        };
        let mut rows = Rows::default();
        let mut lines_of_ids: HashMap<u64, u64> = HashMap::new();
        let mut found = self.texts.as_ref().map(Texts::search);
        let mut count = 0;
        let mut problems = Problems::default();
        table.read(&mut problems, |problems, line, fields| {
            let number = count;
            count += 1;
            let (keys, numbers) = fields.split_at_checked(required).unwrap_or_default();
            match self.numbers(numbers) {
                Ok(numbers) => rows.numbers.extend(numbers),
                Err(reason) => {
                    rows.numbers.resize(count * self.labels.len(), 0.0);
                    problems.add(line, reason);
                    return Ok(());
                }
            }
            let key = match self.key(keys) {
                Ok(key) => key,
                Err(reason) => {
                    problems.add(line, reason);
                    return Ok(());
                }
            };
            match key {
                Key::Position => rows.rows.push(number),
                Key::Id(id) => {
                    if let Some(other) = lines_of_ids.insert(id, line) {
                        problems.add(line, format!("has the id {id} of line {other} again"));
                    }
                    rows.ids.push(id);
                    rows.rows.push(number);
                }
                Key::Text => {
                    rows.are_by_text = true;
                    let same = |other: usize| rows.row(other, self) == rows.row(number, self);
                    if let Some(reason) = by_text(found.as_mut(), keys, Row { line, number }, same)
                    {
                        problems.add(line, reason);
                    }
                }
            }
            Ok(())
        })?;
        problems.check(&self.path)?;
        if count == 0 {
            return Err(wrong(&self.path, "has no rows".to_owned()));
        }
        if let (true, Some(texts), Some(found)) = (rows.are_by_text, &self.texts, &found) {
            rows.rows = found.rows(texts, &self.path)?;
        }
        if rows.ids.is_empty() {
            rows.ids = match &self.ids {
                Some(ids) => ids.clone(),
                None => (0..rows.rows.len() as u64).collect(),
            };
        }
        match rows.ids.len() == rows.rows.len() {
            true => Ok(rows),
            false => {
                let reason = format!(
                    "has {} rows, for {} ids; by position each example needs one",
                    rows.rows.len(),
                    rows.ids.len()
                );
                Err(wrong(&self.path, reason))
            }
        }
    }

    /// The numbers of a row, or what is wrong with them.
    fn numbers(&self, fields: &[Field<'_>]) -> std::result::Result<Vec<f64>, String> {
        let mut numbers = Vec::with_capacity(fields.len());
        for (field, label) in fields.iter().zip(&self.labels) {
            let text = field.as_deref().unwrap_or_default().trim();
            let label = shown(label);
            let Ok(number) = text.parse::<f64>() else {
                return Err(format!(
                    "has `{}` for `{label}`, which is no number",
                    shown(text)
                ));
            };
            let is_zero = number == f64::NEG_INFINITY && !self.are_probabilities;
            if !(number as f32).is_finite() && !is_zero {
                return Err(format!(
                    "has {text} for `{label}`; take this row out of the file"
                ));
            }
            if self.are_probabilities && number < 0.0 {
                return Err(format!(
                    "has {number} for `{label}`, and no probability is negative; {NOT_PROBABILITIES}"
                ));
            }
            numbers.push(number);
        }
        let sum: f64 = numbers.iter().sum();
        if self.are_probabilities && (sum - 1.0).abs() > TOLERANCE {
            let sum = (sum * 1e4).round() / 1e4;
            return Err(format!(
                "sums to {sum}, and probabilities to 1; {NOT_PROBABILITIES}"
            ));
        }
        match numbers.iter().all(|number| *number == f64::NEG_INFINITY) {
            true => Err("has no class that is possible at all".to_owned()),
            false => Ok(numbers),
        }
    }

    /// What a row is found by, or what is wrong with that.
    fn key(&self, keys: &[Field<'_>]) -> std::result::Result<Key, String> {
        if self.is_by_position {
            return Ok(Key::Position);
        }
        let (id, texts) = keys.split_first().unwrap_or((&None, &[]));
        let column = shown(&self.id_column);
        if let Some(id) = id {
            return match id.trim().parse() {
                Ok(id) => Ok(Key::Id(id)),
                Err(_) => Err(format!(
                    "has `{}` for `{column}`, which is no whole number from 0; number the examples",
                    shown(id)
                )),
            };
        }
        if !texts.is_empty() && texts.iter().all(Option::is_some) {
            return Ok(Key::Text);
        }
        Err("has nothing that says whose row it is".to_owned())
    }
}

const NOT_PROBABILITIES: &str = "if these are logits, scores or log-probabilities, read them with \
                                 `ClassScores::logits`";

enum Key {
    Position,
    Id(u64),
    Text,
}

/// Notes the row of a text; what is wrong, if the text has another one.
fn by_text(
    found: Option<&mut Found>,
    keys: &[Field<'_>],
    row: Row,
    same: impl FnOnce(usize) -> bool,
) -> Option<String> {
    let texts = keys.iter().skip(1).flatten().map(AsRef::as_ref);
    let other = found?.note(texts, row)?;
    match same(other.number) {
        true => None,
        false => Some(format!(
            "has the text of line {} with other numbers; take one of them out, or tell the examples apart \
             by ids",
            other.line
        )),
    }
}

impl Rows {
    fn row(&self, number: usize, scores: &ClassScores) -> Option<&[f64]> {
        let classes = scores.labels.len();
        self.numbers.get(number * classes..(number + 1) * classes)
    }
}
