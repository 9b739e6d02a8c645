//! The most likely tokens of a position, as servers of language models write them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::lines::Fields;
use crate::error::shown;

/// What a list of positions is in a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'v> {
    pub(super) positions: &'v [Value],
    /// Whether maps have the ids of tokens, and not tokens, for names.
    names_are_ids: bool,
}

/// The numbers of tokens that are written as text.
#[derive(Debug, Clone, Default)]
pub(super) struct Vocabulary {
    pub(super) tokens: BTreeMap<String, i64>,
    /// How many tokens there are.
    pub(super) classes: i64,
}

/// What a server says of a position.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// Token and logarithm of its probability.
    pub(super) top: Vec<(i64, f64)>,
    /// Tokens that the vocabulary does not have.
    pub(super) unknown: Vec<String>,
    pub(super) log_tail: f64,
}

/// What servers write for a token that is too unlikely to have a number.
const NONE: f64 = -9999.0;
/// How far above 1 rounded probabilities may sum.
const TOLERANCE: f64 = 0.01;
/// How vLLM writes tokens with `return_tokens_as_token_ids`.
const TOKEN_ID: &str = "token_id:";

/// Finds the positions of a line: in `field`, or where servers put them.
pub(super) fn find<'v>(
    line: &'v Fields,
    field: Option<&str>,
) -> std::result::Result<Found<'v>, String> {
    if let Some(field) = field {
        let value = line.get(field).filter(|value| !value.is_null());
        let value = value.ok_or_else(|| format!("has no `{}`", shown(field)))?;
        return list(value, field);
    }
    if let Some(reason) = failed(line) {
        return Err(reason);
    }
    // A line of a batch's results has the answer of the server inside.
    let body = line
        .get("response")
        .and_then(|response| response.get("body"));
    let of_body = |name: &str| match body {
        Some(body) => body.get(name),
        None => line.get(name),
    };
    let choice = match of_body("choices") {
        Some(Value::Array(choices)) => match choices.as_slice() {
            [one] => Some(one),
            several => {
                return Err(format!(
                    "has {} `choices`, and an example has one; ask for one with `n`",
                    several.len()
                ));
            }
        },
        _ => None,
    };
    let of_choice = |name: &str| choice.and_then(|choice| choice.get(name));
    let (mut found, mut is_null) = (None, None);
    for name in ["prompt_logprobs", "logprobs", "top_logprobs"] {
        for value in [of_choice(name), of_body(name)].into_iter().flatten() {
            if value.is_null() {
                // Of what was not asked for, vLLM writes that it is null.
                is_null = Some(name)
                    .filter(|_| is_null != Some("logprobs"))
                    .or(is_null);
                continue;
            }
            if let Some((other, _)) = found {
                return Err(format!(
                    "has `{other}` and `{name}`; say which is meant with `TopKLines::field`, or take one out"
                ));
            }
            found = Some((name, value));
        }
    }
    match (found, is_null) {
        (Some((name, value)), _) => list(value, name),
        (None, Some("prompt_logprobs")) => Err(
            "has `prompt_logprobs` that is null: ask the server for `prompt_logprobs`, or for `logprobs` \
             and `top_logprobs`"
                .to_owned(),
        ),
        (None, Some(name)) => Err(format!(
            "has `{name}` that is null: ask the server for `logprobs` and `top_logprobs`"
        )),
        (None, None) => Err(
            "has no `prompt_logprobs`, `logprobs` or `top_logprobs`; if they have another name, \
                     say it with `TopKLines::field`"
                .to_owned(),
        ),
    }
}

/// What a server says instead of an answer, if it failed.
fn failed(line: &Fields) -> Option<String> {
    let response = line.get("response");
    let status = response.and_then(|response| response.get("status_code")?.as_u64());
    let status = status.filter(|status| !(200..300).contains(status));
    let body = response.and_then(|response| response.get("body"));
    let error = line.get("error").filter(|error| !error.is_null());
    let of_body = body.and_then(|body| body.get("error").filter(|error| !error.is_null()));
    if status.is_none() && error.is_none() && of_body.is_none() {
        return None;
    }
    // Older servers write the message into the body itself.
    let told = of_body.or(error).or(body).and_then(|error| {
        let inside = ["message", "code"]
            .into_iter()
            .find_map(|name| error.get(name)?.as_str());
        inside.or(error.as_str())
    });
    let told = told.map_or_else(String::new, |told| format!(" (`{}`)", shown(told)));
    let what = match status {
        Some(status) => format!("is an answer with status {status}"),
        None => "is an answer with an error".to_owned(),
    };
    Some(format!("{what}{told}: ask again, or remove the line"))
}

fn list<'v>(value: &'v Value, name: &str) -> std::result::Result<Found<'v>, String> {
    let inside = ["content", "top_logprobs"]
        .into_iter()
        .find_map(|name| value.get(name)?.as_array());
    match value.as_array().or(inside) {
        Some(positions) => Ok(Found {
            // Before the first token there is nothing that it could follow from.
            positions: match positions.split_first() {
                Some((Value::Null, others)) => others,
                _ => positions,
            },
            names_are_ids: name == "prompt_logprobs",
        }),
        None => Err(format!("has no list of positions in `{}`", shown(name))),
    }
}

impl Found<'_> {
    /// Reads a position, or tells what is wrong with it.
    pub(super) fn read(
        &self,
        value: &Value,
        vocabulary: &Vocabulary,
    ) -> std::result::Result<Position, String> {
        let mut position = Position::default();
        match value {
            Value::Array(entries) => position.entries(entries, vocabulary)?,
            Value::Object(fields) => match (fields.get("token"), fields.get("top_logprobs")) {
                (Some(Value::String(_)), Some(Value::Array(entries))) if !entries.is_empty() => {
                    position.entries(entries, vocabulary)?;
                }
                (Some(Value::String(_)), _) => position.entry(fields, vocabulary)?,
                _ => position.map(fields, self.names_are_ids, vocabulary)?,
            },
            _ => return Err("has a position that is no list and no object".to_owned()),
        }
        position.sort()?;
        position.log_tail = position.tail()?;
        Ok(position)
    }
}

impl Position {
    fn entries(
        &mut self,
        entries: &[Value],
        vocabulary: &Vocabulary,
    ) -> std::result::Result<(), String> {
        for entry in entries {
            let fields = entry.as_object();
            self.entry(fields.ok_or("has a token that is no object")?, vocabulary)?;
        }
        Ok(())
    }

    /// `{"token": …, "logprob": …}`
    fn entry(
        &mut self,
        fields: &Map<String, Value>,
        vocabulary: &Vocabulary,
    ) -> std::result::Result<(), String> {
        let log = fields.get("logprob").and_then(Value::as_f64);
        let log = log.ok_or("has a token without a number `logprob`")?;
        match (fields.get("token_id"), fields.get("token")) {
            (Some(id), _) | (None, Some(id @ Value::Number(_))) => {
                let id = id
                    .as_i64()
                    .ok_or("has a `token_id` that is no whole number")?;
                self.push(id, log, vocabulary)
            }
            (None, Some(Value::String(token))) => self.token(token, log, vocabulary),
            _ => Err("has an entry without a `token`".to_owned()),
        }
    }

    /// `{"token": -0.5}`, or of vLLM's `{"5": {"logprob": -0.5}}`
    fn map(
        &mut self,
        fields: &Map<String, Value>,
        names_are_ids: bool,
        vocabulary: &Vocabulary,
    ) -> std::result::Result<(), String> {
        for (name, value) in fields {
            let inside = value.get("logprob");
            let log = inside.unwrap_or(value).as_f64();
            let log =
                log.ok_or_else(|| format!("has no number for the token `{}`", shown(name)))?;
            match names_are_ids || inside.is_some() {
                true => match name.parse() {
                    Ok(id) => self.push(id, log, vocabulary)?,
                    Err(_) => return Err(format!("has `{}` for the id of a token", shown(name))),
                },
                false => self.token(name, log, vocabulary)?,
            }
        }
        Ok(())
    }

    fn token(
        &mut self,
        token: &str,
        log: f64,
        vocabulary: &Vocabulary,
    ) -> std::result::Result<(), String> {
        let written = token
            .strip_prefix(TOKEN_ID)
            .and_then(|id| id.trim().parse().ok());
        match written.or_else(|| vocabulary.tokens.get(token).copied()) {
            Some(id) => self.push(id, log, vocabulary),
            None => {
                self.unknown.push(token.to_owned());
                Ok(())
            }
        }
    }

    fn push(
        &mut self,
        id: i64,
        log: f64,
        vocabulary: &Vocabulary,
    ) -> std::result::Result<(), String> {
        if !(0..vocabulary.classes).contains(&id) {
            let last = vocabulary.classes - 1;
            return Err(format!(
                "has the token {id}, and the vocabulary has 0 to {last}"
            ));
        }
        if log > TOLERANCE {
            return Err(format!(
                "has {log} for token {id}, and no `logprob` is above 0"
            ));
        }
        if log > NONE {
            self.top.push((id, log));
        }
        Ok(())
    }

    fn sort(&mut self) -> std::result::Result<(), String> {
        self.top.sort_by_key(|(id, _)| *id);
        let mut pairs = self.top.windows(2);
        let twice = pairs.find_map(|pair| match pair {
            [(one, _), (other, _)] if one == other => Some(*one),
            _ => None,
        });
        if let Some(id) = twice {
            return Err(format!("has the token {id} twice at a position"));
        }
        self.top.sort_by(|one, other| other.1.total_cmp(&one.1));
        Ok(())
    }

    /// The logarithm of the probability of all other tokens, to the last digits of the likeliest.
    fn tail(&self) -> std::result::Result<f64, String> {
        let Some(((_, most), others)) = self.top.split_first() else {
            return Ok(0.0);
        };
        let rest = -most.exp_m1() - others.iter().map(|(_, log)| log.exp()).sum::<f64>();
        match rest {
            rest if rest > 0.0 => Ok(rest.ln()),
            rest if rest >= -TOLERANCE => Ok(f64::NEG_INFINITY),
            rest => Err(format!(
                "has probabilities that sum to {:.3} at a position; are these logarithms of \
                 probabilities, and natural ones?",
                1.0 - rest
            )),
        }
    }
}
