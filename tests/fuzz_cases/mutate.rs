//! Mutations: of bytes, of JSON by its structure, and of safetensors by their header.

// Each test crate uses its own part of this.
#![allow(dead_code)]

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Number, Value};

use super::values::{INTEGERS, NUMBERS, PIECES, STRINGS};

pub struct Mutator {
    random: ChaCha8Rng,
}

impl Mutator {
    pub fn new(random: ChaCha8Rng) -> Self {
        Mutator { random }
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A text of JSON: usually still JSON, sometimes not.
    pub fn json(&mut self, corpus: &[&str]) -> Vec<u8> {
        let text = self.one(corpus).to_string();
        if self.below(4) == 0 {
            let other = self.one(corpus).as_bytes();
            return self.bytes(text.into_bytes(), other);
        }
        let mut value: Value = serde_json::from_str(&text).expect("a good corpus");
        let other = self.one(corpus).to_string();
        let other: Value = serde_json::from_str(&other).expect("a good corpus");
        for _ in 0..=self.below(3) {
            self.value(&mut value, &other);
        }
        let mut text = value.to_string().into_bytes();
        if self.below(16) == 0 {
            text = self.bytes(text, b"{}");
        }
        text
    }

    /// A file of lines with columns, which are still there more often than not.
    pub fn lines(&mut self, corpus: &[&str]) -> Vec<u8> {
        let text = self.one(corpus).to_string();
        if self.below(4) == 0 {
            let other = self.one(corpus).as_bytes();
            return self.bytes(text.into_bytes(), other);
        }
        let separator = if text.contains('\t') { "\t" } else { " " };
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        for _ in 0..=self.below(3) {
            let at = self.below(lines.len());
            let line = lines[at].clone();
            let mut fields: Vec<&str> = line.split(separator).collect();
            let field = self.below(fields.len());
            let (new, piece) = (self.text(), *self.one(PIECES));
            match self.below(8) {
                0 => lines.insert(at, line.clone()),
                1 if lines.len() > 1 => drop(lines.remove(at)),
                2 => lines.insert(at, String::new()),
                3 => drop(fields.remove(field)),
                4 => fields.insert(field, &new),
                5 => fields[field] = &new,
                6 => fields[field] = piece,
                _ => {
                    let other = self.below(lines.len());
                    lines.swap(at, other);
                }
            }
            // Lines that came or went have their own place.
            if lines.get(at) == Some(&line) {
                lines[at] = fields.join(separator);
            }
        }
        let end = if self.below(8) == 0 { "\r\n" } else { "\n" };
        lines.join(end).into_bytes()
    }

    /// A file of which some bytes may be others.
    pub fn bytes_of(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let (file, other) = (self.one(corpus).clone(), self.one(corpus).clone());
        self.bytes(file, &other)
    }

    /// A safetensors file, whose header and length may still fit together.
    pub fn weights(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let file = self.one(corpus).clone();
        if self.below(4) == 0 {
            let other = self.one(corpus).clone();
            return self.bytes(file, &other);
        }
        let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
        let mut data = file[8 + length..].to_vec();
        let mut header: Value = serde_json::from_slice(&file[8..8 + length]).expect("a header");
        match self.below(5) {
            // A name, or the text beside the tensors, and all else as it was.
            0 => self.rename(&mut header),
            1 => {
                let note = self.text();
                let metadata = Map::from_iter([(note.clone(), note.into())]);
                header["__metadata__"] = metadata.into();
            }
            // Other values, for which the header is right.
            2 => data = self.same_length(data),
            _ => {
                let other = header.clone();
                self.value(&mut header, &other);
            }
        }
        let mut text = header.to_string().into_bytes();
        if self.below(8) == 0 {
            text = self.bytes(text, b"{\"a\":{}}");
        }
        let mut length = text.len() as u64;
        if self.below(16) == 0 {
            length = *self.one(INTEGERS) as u64;
        }
        if self.below(16) == 0 {
            data.truncate(self.random.random_range(0..=data.len()));
        }
        let mut whole = length.to_le_bytes().to_vec();
        whole.append(&mut text);
        whole.append(&mut data);
        whole
    }

    fn same_length(&mut self, mut data: Vec<u8>) -> Vec<u8> {
        for byte in &mut data {
            if self.random.random() {
                *byte = self.random.random();
            }
        }
        data
    }

    fn rename(&mut self, header: &mut Value) {
        let Value::Object(fields) = header else {
            return;
        };
        let names: Vec<String> = fields.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = self.one(&names).clone();
        if let Some(value) = fields.remove(&name) {
            fields.insert(self.text(), value);
        }
    }

    /// Changes one node somewhere in a value.
    fn value(&mut self, value: &mut Value, other: &Value) {
        let children = match value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        // Deeper with every step, or changed here.
        if children > 0 && self.below(5) > 0 {
            let index = self.below(children);
            let child = match value {
                Value::Array(items) => items.get_mut(index),
                Value::Object(fields) => fields.values_mut().nth(index),
                _ => None,
            };
            return self.value(child.expect("a child"), other);
        }
        match self.below(8) {
            0 => *value = self.leaf(),
            1 => *value = self.part(other).clone(),
            2 => *value = Value::Array(vec![value.take(); 1 + self.below(3)]),
            3 => {
                let key = self.text();
                *value = Value::Object(Map::from_iter([(key, value.take())]));
            }
            4 => {
                let depth = self.below(200);
                *value = (0..depth).fold(value.take(), |inner, _| Value::Array(vec![inner]));
            }
            _ => match value {
                Value::Array(items) => match self.below(3) {
                    0 => drop(items.pop()),
                    1 => items.push(self.leaf()),
                    _ => {
                        let again = items.clone();
                        items.extend(again);
                    }
                },
                Value::Object(fields) => {
                    let names: Vec<String> = fields.keys().cloned().collect();
                    match self.below(3) {
                        0 if !names.is_empty() => drop(fields.remove(self.one(&names))),
                        1 => drop(fields.insert(self.text(), self.leaf())),
                        _ => {
                            if let Value::Object(more) = other {
                                fields.extend(more.clone());
                            }
                        }
                    }
                }
                _ => *value = self.like(value),
            },
        }
    }

    /// A value of the same kind.
    fn like(&mut self, value: &Value) -> Value {
        match value {
            Value::Bool(on) => (!on).into(),
            Value::Number(number) if number.is_f64() => (*self.one(NUMBERS)).into(),
            Value::Number(_) => self.integer(),
            Value::String(_) => self.text().into(),
            _ => self.leaf(),
        }
    }

    fn integer(&mut self) -> Value {
        match self.below(3) {
            0 => self.random.random_range(-3..20).into(),
            1 => Value::Number(Number::from(u64::MAX - self.below(2) as u64)),
            _ => (*self.one(INTEGERS)).into(),
        }
    }

    fn leaf(&mut self) -> Value {
        match self.below(7) {
            0 => Value::Null,
            1 => self.random.random::<bool>().into(),
            2 => (*self.one(NUMBERS)).into(),
            3 => self.integer(),
            4 => Value::Array(Vec::new()),
            5 => Value::Object(Map::new()),
            _ => self.text().into(),
        }
    }

    fn text(&mut self) -> String {
        match self.below(8) {
            0 => "x".repeat(self.below(3000)),
            1 => (0..self.below(8))
                .map(|_| self.random.random::<char>())
                .collect(),
            _ => (*self.one(STRINGS)).to_owned(),
        }
    }

    fn part<'v>(&mut self, value: &'v Value) -> &'v Value {
        let inner = match value {
            Value::Array(items) if !items.is_empty() => items.get(self.below(items.len())),
            Value::Object(fields) if !fields.is_empty() => {
                fields.values().nth(self.below(fields.len()))
            }
            _ => None,
        };
        match inner {
            Some(inner) if self.random.random() => self.part(inner),
            Some(inner) => inner,
            None => value,
        }
    }

    /// Changes bytes, without regard to what they mean.
    fn bytes(&mut self, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
        for _ in 0..=self.below(4) {
            let at = self.random.random_range(0..=bytes.len());
            let end = (at + self.below(32)).min(bytes.len());
            match self.below(8) {
                0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 if at < bytes.len() => bytes[at] = self.random.random(),
                3 => drop(bytes.drain(at..end)),
                4 => {
                    let again = bytes[at..end].repeat(1 + self.below(4));
                    drop(bytes.splice(at..at, again));
                }
                5 => bytes.truncate(at),
                6 => {
                    let from = self.random.random_range(0..=other.len());
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
                _ => {
                    let piece = self.one(PIECES).bytes();
                    drop(bytes.splice(at..at, piece));
                }
            }
        }
        bytes.truncate(5000);
        bytes
    }
}
