//! Top-k log-probabilities of a language model, as servers write them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::super::column::Form;
use super::super::keep::Keep;
use super::super::{Recording, TeacherFile, wrong};
use super::lines::{Fields, objects};
use super::position::{self, Position, Vocabulary};
use super::problems::Problems;
use super::source;
use crate::adaptor::AdaptorOutput;
use crate::error::{Error, Result, shown};
use crate::logits::TopK;

/// A JSONL file of the most likely tokens at each position, as vLLM and servers with OpenAI's interface
/// write them: one line for each example. [`record`](Self::record) makes a teacher of it.
///
/// These are understood, in the line itself or inside `choices` or `response.body`:
///
/// | from | what | a position |
/// |---|---|---|
/// | vLLM | `prompt_logprobs` | `{"5": {"logprob": -0.1, …}, …}`, by the ids of tokens |
/// | chat completions | `logprobs.content` | `{"token": "a", "top_logprobs": [{"token": "a", "logprob": -0.1}, …]}` |
/// | completions | `logprobs.top_logprobs` | `{"a": -0.1, …}` |
/// | Axolotl | a list, see [`field`](Self::field) | `[{"token": "token_id:5", "logprob": -0.1}, …]` |
///
/// Tokens that are written as text need a vocabulary ([`tokens`](Self::tokens)), unless the server wrote
/// `token_id:5`, as vLLM does with `return_tokens_as_token_ids`. Positions may have different numbers of
/// tokens. What is missing from 1 is the probability of all other tokens; -9999, which stands for a very
/// unlikely token, counts to it.
///
/// The example of a line is the number in its `custom_id`, or else in its `id`. Its positions are those
/// that the line has, without a `null` at the beginning: the logits of a model at position `i` are for the
/// token at `i + 1`, so that `prompt_logprobs` of `n` tokens are the logits of the first `n - 1`. The
/// `logits_mask` of the batches has to keep these.
///
/// ```
/// use textbrewer::Logits;
/// use textbrewer::teacher_file::{Recording, TopKLines};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("answers.jsonl");
/// let line = r#"{"id": 3, "prompt_logprobs": [null, {"7": {"logprob": -0.5}, "2": {"logprob": -1.5}}]}"#;
/// std::fs::write(&path, line)?;
///
/// let file = TopKLines::new(&path, 30_522).record(Recording::new(folder.path().join("teacher")))?;
/// let said = file.read(&[3])?;
/// assert!(matches!(&said.logits[0], Logits::TopK(top) if top.k() == 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct TopKLines {
    path: PathBuf,
    vocabulary: Vocabulary,
    field: Option<String>,
    is_by_position: bool,
    puts_unknown_into_tail: bool,
}

/// Tokens that the vocabulary does not have.
#[derive(Debug, Default)]
struct Unknown {
    count: u64,
    different: HashSet<String>,
    /// Some of them, as they are shown.
    first: Vec<String>,
}

/// How much an example has.
#[derive(Debug)]
struct Size {
    positions: usize,
    tokens: usize,
}

impl Size {
    fn of(positions: &[Position]) -> Self {
        Size {
            positions: positions.len(),
            tokens: positions.iter().map(|position| position.top.len()).sum(),
        }
    }
}

/// All positions are stored with equally many tokens. A file may not have a single position with a
/// thousand of them and a thousand positions with one.
const MOST_FILLERS: usize = 32;

/// How many unknown tokens a message names.
const NAMED: usize = 5;

impl TopKLines {
    /// A file of a model with so many tokens in its vocabulary, which are the classes of its logits.
    pub fn new(path: impl AsRef<Path>, classes: i64) -> Self {
        TopKLines {
            path: path.as_ref().to_path_buf(),
            vocabulary: Vocabulary {
                classes,
                ..Vocabulary::default()
            },
            field: None,
            is_by_position: false,
            puts_unknown_into_tail: false,
        }
    }

    /// Says the ids of tokens that the file has as text. Servers write the text that a token stands for,
    /// such as ` film`, and not the form of the vocabulary's file, such as `Ġfilm`.
    #[must_use]
    pub fn tokens<T: Into<String>>(mut self, tokens: impl IntoIterator<Item = (T, i64)>) -> Self {
        let tokens = tokens.into_iter().map(|(token, id)| (token.into(), id));
        self.vocabulary.tokens = tokens.collect();
        self
    }

    /// Counts tokens that the vocabulary does not have to the tail. Otherwise they are an error.
    #[must_use]
    pub fn unknown_into_tail(mut self) -> Self {
        self.puts_unknown_into_tail = true;
        self
    }

    /// Says in which field of a line the positions are, where it is not one of the usual.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.field = Some(name.into());
        self
    }

    /// Says that the lines are in the order of the examples, whose ids are their positions from 0.
    #[must_use]
    pub fn by_position(mut self) -> Self {
        self.is_by_position = true;
        self
    }

    /// Reads the file, checks all of it, and records it. Unless `recording` keeps something else, this is
    /// [`top_k`](Recording::top_k) with as many tokens as any position has, at a temperature of 1. Of
    /// the file one line at a time is in memory.
    ///
    /// # Errors
    /// When the file cannot be read, a line has no id or one of another line, no positions, or tokens or
    /// numbers that cannot be: with the first such line, and how many others there are. Those of
    /// [`Recording::begin`].
    pub fn record(self, recording: Recording) -> Result<TeacherFile> {
        if !(1..=i64::from(i32::MAX)).contains(&self.vocabulary.classes) {
            let reason = format!("there cannot be {} tokens", self.vocabulary.classes);
            return Err(Error::config("classes", reason));
        }
        let said = recording.said_top_k();
        if let Some((k, temperature)) = said.filter(|(_, temperature)| *temperature != 1.0) {
            let reason = format!(
                "answers of a server are at temperature 1; leave `top_k({k}, {temperature})` out, or take \
                 it at 1"
            );
            return Err(Error::config("temperature", reason));
        }
        let mut lines: HashMap<u64, u64> = HashMap::new();
        let mut ids = Vec::new();
        let (mut problems, mut unknown) = (Problems::default(), Unknown::default());
        let said = said.map(|(k, _)| k.max(1) as usize);
        let (mut k, mut sizes) = (1, Vec::new());
        self.read(&mut |line, read| {
            let (id, positions) = match read {
                Ok(example) => example,
                Err(reason) => {
                    problems.add(line, reason);
                    return Ok(());
                }
            };
            if let Some(other) = lines.insert(id, line) {
                problems.add(line, format!("has the id {id} of line {other} again"));
            }
            ids.push(id);
            sizes.push((line, Size::of(&positions)));
            for position in positions {
                k = k.max(position.top.len());
                unknown.add(position.unknown);
            }
            Ok(())
        })?;
        let k = said.unwrap_or(usize::MAX).min(k);
        for (line, size) in sizes {
            if size.positions.saturating_mul(k) > MOST_FILLERS * (size.positions + size.tokens) {
                problems.add(
                    line,
                    format!(
                        "has {} at {}, and another line {k} at one position; say how many \
                         to keep with `Recording::top_k`",
                        counted(size.tokens, "token"),
                        counted(size.positions, "position")
                    ),
                );
            }
        }
        problems.check(&self.path)?;
        if ids.is_empty() {
            return Err(wrong(&self.path, "has no lines".to_owned()));
        }
        self.check(&unknown)?;
        let form = Form::TopK {
            k: k as i64,
            temperature: 1.0,
        };
        let how = format!("{:?}", (&self.field, &self.vocabulary.tokens));
        let facts = source::facts(&self.path, &ids, &how)?;
        let recording = recording.of_others(Keep::Logits { form, seed: 0 }, facts);
        let mut recorder = recording.classes(self.vocabulary.classes).begin()?;
        self.read(&mut |line, read| {
            let (id, positions) =
                read.map_err(|reason| wrong(&self.path, format!("line {line} {reason}")))?;
            recorder.add(&[id], &output(&positions, k)?)
        })?;
        recorder.finish()
    }

    /// Calls `each` with the number of each line, its id and positions, or what is wrong with it.
    fn read(
        &self,
        each: &mut dyn FnMut(u64, std::result::Result<Example, String>) -> Result<()>,
    ) -> Result<()> {
        let mut count = 0;
        objects(&self.path, |line, fields| {
            let example = self.example(&fields, count);
            count += 1;
            each(line, example)
        })
    }

    fn example(&self, fields: &Fields, place: u64) -> std::result::Result<Example, String> {
        let id = match (
            self.is_by_position,
            fields.get("custom_id").or(fields.get("id")),
        ) {
            (true, _) => place,
            (false, Some(Value::Number(number))) if number.is_u64() => number.as_u64().unwrap_or(0),
            (false, Some(Value::String(text))) => text.trim().parse().map_err(|_| no_id(text))?,
            (false, Some(other)) => return Err(no_id(&other.to_string())),
            (false, None) => {
                return Err("has no `id` and no `custom_id`; add one, or say with \
                            `TopKLines::by_position` that the lines are in the order of the examples"
                    .to_owned());
            }
        };
        let found = position::find(fields, self.field.as_deref())?;
        if found.positions.is_empty() {
            return Err("has no position; leave such examples out".to_owned());
        }
        let positions = found.positions.iter();
        let positions = positions.map(|value| found.read(value, &self.vocabulary));
        Ok((id, positions.collect::<std::result::Result<_, _>>()?))
    }

    fn check(&self, unknown: &Unknown) -> Result<()> {
        if unknown.count == 0 || self.puts_unknown_into_tail {
            return Ok(());
        }
        let different = unknown.different.len();
        let more = match different > unknown.first.len() {
            true => ", …",
            false => "",
        };
        let remedy = match self.vocabulary.tokens.is_empty() {
            true => {
                "give their ids with `TopKLines::tokens`, or let the server write ids (vLLM: \
                     `return_tokens_as_token_ids`)"
            }
            false => {
                "look whether the vocabulary has the text that tokens stand for, or count them to \
                      all other tokens with `TopKLines::unknown_into_tail`"
            }
        };
        let what = match unknown.count {
            1 => "1 token that is not in the vocabulary".to_owned(),
            count if count == different as u64 => {
                format!("{count} tokens that are not in the vocabulary")
            }
            count => {
                format!("{count} tokens that are not in the vocabulary, {different} different ones")
            }
        };
        let reason = format!("has {what}: {}{more}; {remedy}", unknown.first.join(", "));
        Err(wrong(&self.path, reason))
    }
}

type Example = (u64, Vec<Position>);

fn no_id(text: &str) -> String {
    format!(
        "has the id `{}`, which is no whole number from 0; number the requests, or say with \
         `TopKLines::by_position` that the lines are in the order of the examples",
        shown(text)
    )
}

/// "1 token", "2 tokens"
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

impl Unknown {
    fn add(&mut self, tokens: Vec<String>) {
        for token in tokens {
            self.count += 1;
            if self.first.len() < NAMED && !self.different.contains(&token) {
                self.first.push(format!("`{}`", shown(&token)));
            }
            self.different.insert(token);
        }
    }
}

/// The positions of one example, all of which are kept.
fn output(positions: &[Position], k: usize) -> Result<AdaptorOutput> {
    let mut classes = Vec::with_capacity(positions.len() * k);
    let mut logs = Vec::with_capacity(positions.len() * k);
    let mut tails = Vec::with_capacity(positions.len());
    for position in positions {
        let rest = position.top.iter().skip(k).map(|(_, log)| log.exp());
        let rest: f64 = rest.sum();
        tails.push(match rest > 0.0 {
            true => (position.log_tail.exp() + rest).ln() as f32,
            false => position.log_tail as f32,
        });
        let none = std::iter::repeat((0, f64::NEG_INFINITY));
        for (class, log) in position.top.iter().copied().chain(none).take(k) {
            classes.push(class);
            logs.push(log as f32);
        }
    }
    let size = [1, positions.len() as i64, k as i64];
    let positions = [1, positions.len() as i64];
    let top = TopK::new(
        &Tensor::f_from_slice(&classes)?.f_reshape(size)?,
        &Tensor::f_from_slice(&logs)?.f_reshape(size)?,
        &Tensor::f_from_slice(&tails)?.f_reshape(positions)?,
    )?;
    let mask = Tensor::f_ones(positions, (Kind::Int64, Device::Cpu))?;
    Ok(AdaptorOutput::new().logits(top).logits_mask(&mask))
}
