//! Files in the format of SQuAD 1.1.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Language;
use super::answers::{Answer, Finder, Found};
use crate::{Error, Result, disk};

/// A question about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its id in the file.
    pub id: String,
    /// The question.
    pub question: String,
    /// The text that has the answer; questions about the same text share it.
    pub context: Arc<str>,
    /// The true answers; empty in a file without answers.
    pub answers: Vec<Answer>,
}

/// The answers of a file that are not at the given positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repairs {
    /// All answers.
    pub answers: usize,
    /// Questions with an answer elsewhere in the context; one entry for each answer.
    pub moved: Vec<String>,
    /// Questions with an answer that is not in the context; one entry for each answer.
    pub nowhere: Vec<String>,
    /// Questions without an answer in the context, which cannot be trained on.
    pub unanswered: Vec<String>,
}

impl Repairs {
    /// Logs warnings for the user.
    pub(super) fn warn(&self, file: &Path) {
        let (file, all) = (file.display(), self.answers);
        if !self.moved.is_empty() {
            let (count, ids) = (self.moved.len(), first(&self.moved));
            log::warn!(
                "{file}: {count} of {all} answers are not at their `answer_start`; \
                 the nearest place is taken ({ids})"
            );
        }
        if !self.nowhere.is_empty() {
            let (count, ids) = (self.nowhere.len(), first(&self.nowhere));
            log::warn!(
                "{file}: {count} of {all} answers are nowhere in their context; \
                 they are measured with and not trained on ({ids})"
            );
        }
        if !self.unanswered.is_empty() {
            let (count, ids) = (self.unanswered.len(), first(&self.unanswered));
            log::warn!(
                "{file}: {count} questions have no other answer; a training on labels leaves them \
                 out ({ids})"
            );
        }
    }
}

fn first(ids: &[String]) -> String {
    let shown = ids.iter().take(3).map(String::as_str);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if ids.len() > 3 {
        text.push_str(", …");
    }
    text
}

/// Reads a file as JSON.
///
/// # Errors
/// When it cannot be read or is not JSON; then the error names the line.
pub(super) fn json(file: &Path) -> Result<Value> {
    let text = disk::read(file)?;
    serde_json::from_str(&text).map_err(|error| {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let reason = message.strip_suffix(&place).unwrap_or(&message);
        let reason = format!("not JSON: {reason} (column {})", error.column());
        Error::data(file, error.line().max(1), reason)
    })
}

/// Reads a file of questions.
///
/// # Errors
/// When it is not in SQuAD 1.1's format; the error names the place.
pub(super) fn read(file: &Path, language: Language) -> Result<(Vec<Question>, Repairs)> {
    let value = json(file)?;
    let mut reader = Reader {
        file,
        language,
        questions: Vec::new(),
        repairs: Repairs::default(),
        places: HashMap::new(),
    };
    let top = Place(String::new());
    let articles = reader.list(reader.object(&value, &top)?, "data", &top)?;
    for (index, article) in articles.iter().enumerate() {
        let place = Place(format!("data[{index}]"));
        let article = reader.object(article, &place)?;
        let paragraphs = reader.list(article, "paragraphs", &place)?;
        for (index, paragraph) in paragraphs.iter().enumerate() {
            reader.paragraph(paragraph, &place.inside(&format!("paragraphs[{index}]")))?;
        }
    }
    if reader.questions.is_empty() {
        return Err(Error::file(file, "no question in it"));
    }
    Ok((reader.questions, reader.repairs))
}

/// The path of a value in the file, such as `data[3].paragraphs[0]`.
struct Place(String);

impl Place {
    fn inside(&self, name: &str) -> Place {
        if self.0.is_empty() {
            Place(name.to_owned())
        } else {
            Place(format!("{}.{name}", self.0))
        }
    }
}

struct Reader<'a> {
    file: &'a Path,
    language: Language,
    questions: Vec<Question>,
    repairs: Repairs,
    /// The place of each id so far.
    places: HashMap<String, String>,
}

impl Reader<'_> {
    fn paragraph(&mut self, value: &Value, place: &Place) -> Result<()> {
        let paragraph = self.object(value, place)?;
        let context: Arc<str> = Arc::from(self.text(paragraph, "context", place)?);
        if context.trim().is_empty() {
            return Err(self.bad(&place.inside("context"), "empty"));
        }
        let chars: Vec<char> = context.chars().collect();
        if u32::try_from(chars.len()).is_err() {
            return Err(self.bad(&place.inside("context"), "too long"));
        }
        let mut finder = Finder::new(&chars, self.language);
        for (index, qa) in self.list(paragraph, "qas", place)?.iter().enumerate() {
            let place = place.inside(&format!("qas[{index}]"));
            let qa = self.object(qa, &place)?;
            let id = self.id(qa, &place)?;
            // Real files have blank questions.
            let question = self.text(qa, "question", &place)?.to_owned();
            self.possible(qa, &id, &place)?;
            let answers = self.answers(qa, &id, &mut finder, &place)?;
            self.questions.push(Question {
                id,
                question,
                context: Arc::clone(&context),
                answers,
            });
        }
        Ok(())
    }

    fn id(&mut self, qa: &Map<String, Value>, place: &Place) -> Result<String> {
        let at = place.inside("id");
        let id = match qa.get("id") {
            Some(Value::String(id)) if id.is_empty() => {
                return Err(self.bad(&at, "empty; give each question its own"));
            }
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            Some(_) => return Err(self.bad(&at, "neither a text nor a number")),
            None => return Err(self.missing(&at)),
        };
        if let Some(before) = self.places.insert(id.clone(), at.0.clone()) {
            let reason = format!("`{id}` is also the id of {before}; give each question its own");
            return Err(self.bad(&at, &reason));
        }
        Ok(id)
    }

    /// Unanswerable questions, as in SQuAD 2.0, are not supported.
    fn possible(&self, qa: &Map<String, Value>, id: &str, place: &Place) -> Result<()> {
        match qa.get("is_impossible") {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(Value::Bool(true)) => {
                let reason = format!(
                    "question `{id}` has no answer in its context (as in SQuAD 2.0), \
                     but here every question has one; remove it"
                );
                Err(self.bad(&place.inside("is_impossible"), &reason))
            }
            Some(_) => Err(self.bad(&place.inside("is_impossible"), "neither true nor false")),
        }
    }

    fn answers(
        &mut self,
        qa: &Map<String, Value>,
        id: &str,
        finder: &mut Finder<'_>,
        place: &Place,
    ) -> Result<Vec<Answer>> {
        // Files with secret answers leave them out, or empty.
        if matches!(qa.get("answers"), None | Some(Value::Null)) {
            return Ok(Vec::new());
        }
        let mut answers = Vec::new();
        for (index, value) in self.list(qa, "answers", place)?.iter().enumerate() {
            let place = place.inside(&format!("answers[{index}]"));
            let answer = self.object(value, &place)?;
            let text = self.text(answer, "text", &place)?.to_owned();
            let at = place.inside("answer_start");
            let start = match answer.get("answer_start") {
                Some(Value::Number(start)) if !start.is_f64() => start.as_i64().unwrap_or(i64::MAX),
                Some(_) => return Err(self.bad(&at, "not a whole number")),
                None => return Err(self.missing(&at)),
            };
            self.repairs.answers += 1;
            let span = match finder.find(&text, start) {
                Found::There(span) => Some(span),
                Found::Elsewhere(span) => {
                    self.repairs.moved.push(id.to_owned());
                    Some(span)
                }
                Found::Nowhere => {
                    self.repairs.nowhere.push(id.to_owned());
                    None
                }
            };
            answers.push(Answer { text, span });
        }
        if !answers.is_empty() && answers.iter().all(|answer| answer.span.is_none()) {
            self.repairs.unanswered.push(id.to_owned());
        }
        Ok(answers)
    }

    fn object<'v>(&self, value: &'v Value, place: &Place) -> Result<&'v Map<String, Value>> {
        value
            .as_object()
            .ok_or_else(|| self.bad(place, "not an object `{…}`"))
    }

    fn list<'v>(
        &self,
        object: &'v Map<String, Value>,
        name: &str,
        place: &Place,
    ) -> Result<&'v [Value]> {
        let at = place.inside(name);
        match object.get(name) {
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.bad(&at, "not a list `[…]`")),
            None => Err(self.missing(&at)),
        }
    }

    fn text<'v>(
        &self,
        object: &'v Map<String, Value>,
        name: &str,
        place: &Place,
    ) -> Result<&'v str> {
        let at = place.inside(name);
        match object.get(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.bad(&at, "not a text")),
            None => Err(self.missing(&at)),
        }
    }

    fn bad(&self, place: &Place, reason: &str) -> Error {
        if place.0.is_empty() {
            return Error::file(self.file, format!("{reason}; it should be as SQuAD 1.1"));
        }
        Error::file(self.file, format!("{}: {reason}", place.0))
    }

    fn missing(&self, place: &Place) -> Error {
        self.bad(place, "missing; files are to be as those of SQuAD 1.1")
    }
}
