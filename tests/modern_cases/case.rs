//! A case of the file: its inputs, its arguments, and what is to come out.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use serde_json::Value;
use tch::{Kind, Tensor};

use crate::common::device::device;
use crate::common::{elements, golden_dir, read_cases, read_tensors};

/// Computes a case and notes what is wrong.
pub type Run = fn(&Case<'_>);

/// The cases of the file.
pub fn cases() -> Vec<Value> {
    read_cases(&golden_dir().join("modern_losses.json"))
}

/// All tensors of the file, as numbers with their shapes: tensors cannot be shared by threads.
fn stored(name: &str) -> Tensor {
    struct Numbers(HashMap<String, (Vec<i64>, Kind, Vec<f64>)>);
    static ALL: OnceLock<Numbers> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let tensors = read_tensors(&golden_dir().join("modern_losses.safetensors"));
        let numbers = tensors.into_iter().map(|(name, tensor)| {
            let numbers = (tensor.size(), tensor.kind(), elements(&tensor));
            (name, numbers)
        });
        Numbers(numbers.collect())
    });
    let (size, kind, values) = all
        .0
        .get(name)
        .unwrap_or_else(|| panic!("no tensor {name}"));
    Tensor::from_slice(values)
        .view(size.as_slice())
        .to_kind(*kind)
        .to_device(device())
}

pub fn label(json: &Value) -> String {
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    format!("{} {} ({})", text("loss"), text("name"), json["id"])
}

pub struct Case<'a> {
    pub json: &'a Value,
    pub kind: Kind,
    inputs: RefCell<HashMap<String, Tensor>>,
    /// Arguments that were asked for.
    read: RefCell<BTreeSet<String>>,
    wrong: RefCell<Vec<String>>,
}

impl<'a> Case<'a> {
    pub fn new(json: &'a Value, kind: Kind) -> Self {
        Case {
            json,
            kind,
            inputs: RefCell::default(),
            read: RefCell::default(),
            wrong: RefCell::default(),
        }
    }

    /// What is wrong, with the name of the case and the kind of its numbers.
    pub fn wrong(&self) -> Vec<String> {
        let given = self.json["args"].as_object().into_iter().flatten();
        let read = self.read.borrow();
        let unread = given.filter(|(name, _)| !read.contains(*name));
        let unread = unread.map(|(name, value)| format!("nobody looked at `{name}` = {value}"));
        let found = self.wrong.borrow().clone();
        found
            .into_iter()
            .chain(unread)
            .map(|what| format!("{} {:?}: {what}", label(self.json), self.kind))
            .collect()
    }

    pub fn note(&self, what: String) {
        self.wrong.borrow_mut().push(what);
    }

    pub fn arg(&self, name: &str) -> &'a Value {
        self.read.borrow_mut().insert(name.to_owned());
        &self.json["args"][name]
    }

    pub fn number(&self, name: &str) -> f64 {
        let value = self.arg(name);
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{}: `{name}` is {value}", label(self.json)))
    }

    pub fn flag(&self, name: &str) -> bool {
        self.arg(name).as_bool().unwrap_or(false)
    }

    /// The name of the loss.
    pub fn loss(&self) -> &'a str {
        self.json["loss"].as_str().unwrap_or_default()
    }

    /// How many tensors there are under one name.
    pub fn count(&self, name: &str) -> usize {
        self.json["inputs"][name].as_array().map_or(0, Vec::len)
    }

    pub fn has_input(&self, name: &str) -> bool {
        self.json["inputs"].get(name).is_some()
    }

    /// An input, or several under one name as `name.0` and so on: floating-point numbers in the kind
    /// of this run, with a gradient where the reference has one.
    pub fn input(&self, name: &str) -> Tensor {
        if let Some(tensor) = self.inputs.borrow().get(name) {
            return tensor.shallow_clone();
        }
        let (key, index) = match name.split_once('.') {
            Some((key, index)) => (key, index.parse::<usize>().ok()),
            None => (name, None),
        };
        let stored_as = match index {
            Some(index) => &self.json["inputs"][key][index],
            None => &self.json["inputs"][key],
        };
        let path = stored_as
            .as_str()
            .unwrap_or_else(|| panic!("{}: no input {name}", label(self.json)));
        let mut tensor = stored(path);
        if matches!(tensor.kind(), Kind::Float | Kind::Double) {
            let has_gradient = self.gradient(name).is_some();
            tensor = tensor.to_kind(self.kind).set_requires_grad(has_gradient);
        }
        self.inputs
            .borrow_mut()
            .insert(name.to_owned(), tensor.shallow_clone());
        tensor
    }

    fn gradient(&self, name: &str) -> Option<Tensor> {
        let gradients = &self.json["gradients"];
        let stored_as = match name.split_once('.') {
            Some((key, index)) => gradients[key].get(index.parse::<usize>().ok()?)?,
            None => gradients.get(name)?,
        };
        stored_as.as_str().map(stored)
    }

    /// Another number or tensor that the reference gives.
    pub fn output(&self, name: &str) -> Option<Tensor> {
        let output = self.json["outputs"].get(name)?;
        Some(match output {
            Value::String(path) => stored(path),
            Value::Array(values) => {
                let values: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
                Tensor::from_slice(&values)
            }
            other => Tensor::from(other.as_f64().unwrap_or(f64::NAN)),
        })
    }

    fn tolerance(&self, of: &str) -> (f64, f64) {
        let kind = match self.kind {
            Kind::Double => "float64",
            _ => "float32",
        };
        let tolerance = &self.json["tolerance"][kind][of];
        let number = |key: &str| tolerance[key].as_f64().unwrap_or(0.0);
        (number("relative"), number("absolute"))
    }

    /// Compares the loss and all gradients with what is to come out.
    pub fn is(&self, loss: &Tensor) {
        let (got, expected) = (loss.double_value(&[]), self.json["expected"].as_f64());
        let expected = expected.unwrap_or(f64::NAN);
        let (relative, absolute) = self.tolerance("expected");
        let is_close = |got: f64, expected: f64, (relative, absolute): (f64, f64)| {
            (got - expected).abs() <= relative * expected.abs() + absolute
        };
        if !is_close(got, expected, (relative, absolute)) {
            self.note(format!("{got}, expected {expected}"));
        }
        let inputs = self.inputs.borrow();
        let names: Vec<_> = inputs
            .keys()
            .filter(|name| self.gradient(name).is_some())
            .collect();
        if names.is_empty() {
            return;
        }
        loss.backward();
        for name in names {
            let expected = self.gradient(name).unwrap();
            let got = inputs[name].grad();
            if !got.defined() {
                self.note(format!("no gradient of {name}"));
                continue;
            }
            let pairs = elements(&got).into_iter().zip(elements(&expected));
            let tolerance = self.tolerance("gradients");
            let mut far = pairs.filter(|(got, expected)| !is_close(*got, *expected, tolerance));
            if let Some((got, expected)) = far.next() {
                let more = far.count();
                self.note(format!(
                    "gradient of {name}: {got}, expected {expected}, and {more} more"
                ));
            }
        }
    }

    /// Compares another number or tensor.
    pub fn output_is(&self, name: &str, got: &Tensor) {
        let Some(expected) = self.output(name) else {
            return;
        };
        let (relative, absolute) = match self.kind {
            Kind::Double => (1e-9, 1e-12),
            _ => (2e-5, 1e-6),
        };
        let pairs = elements(got).into_iter().zip(elements(&expected));
        for (got, expected) in pairs {
            let is_close = (got - expected).abs() <= relative * expected.abs() + absolute;
            if !is_close {
                self.note(format!("{name}: {got}, expected {expected}"));
                return;
            }
        }
    }
}
