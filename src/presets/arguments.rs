//! Presets that are made with arguments.

use std::rc::Rc;

use crate::config::Arguments;
use crate::error::{Error, Result};

/// Makes a preset from as many numbers as it has parameters.
type Build<T> = Rc<dyn Fn(&[f64]) -> Result<T>>;

/// A loss or schedule, and the parameters that it is made with.
pub(super) struct Parametric<T> {
    /// Names, with the default of those that may be left out.
    parameters: Vec<(String, Option<f64>)>,
    build: Build<T>,
}

impl<T> Clone for Parametric<T> {
    fn clone(&self) -> Self {
        Parametric {
            parameters: self.parameters.clone(),
            build: Rc::clone(&self.build),
        }
    }
}

impl<T> Parametric<T> {
    pub(super) fn new(
        parameters: &[(&str, Option<f64>)],
        build: impl Fn(&[f64]) -> Result<T> + 'static,
    ) -> Self {
        let parameters = parameters.iter();
        Parametric {
            parameters: parameters
                .map(|&(name, default)| (name.to_owned(), default))
                .collect(),
            build: Rc::new(build),
        }
    }

    /// Makes it with these arguments. `field` is the key that named it, `name` its name.
    pub(super) fn make(&self, field: &str, name: &str, given: &Arguments) -> Result<T> {
        let wrong = |reason| Error::config(field, format!("`{name}` {reason}"));
        let arguments = self.resolve(given).map_err(wrong)?;
        (self.build)(&arguments).map_err(|error| match error {
            Error::Config { field, reason } => wrong(format!("{field}: {reason}")),
            other => other,
        })
    }

    /// The arguments in the order of the parameters, or what is wrong with them.
    fn resolve(&self, given: &Arguments) -> std::result::Result<Vec<f64>, String> {
        if let Arguments::Named(values) = given {
            let known = |name: &String| self.parameters.iter().any(|(known, _)| known == name);
            if let Some(name) = values.keys().find(|name| !known(name)) {
                return Err(format!("has no parameter `{name}`; {}", self.signature()));
            }
        }
        if let Arguments::Positional(values) = given
            && values.len() > self.parameters.len()
        {
            let count = values.len();
            return Err(format!("was given {count} arguments; {}", self.signature()));
        }
        let mut arguments = Vec::with_capacity(self.parameters.len());
        for (position, (name, default)) in self.parameters.iter().enumerate() {
            let value = match given {
                Arguments::Positional(values) => values.get(position),
                Arguments::Named(values) => values.get(name),
            };
            match value.or(default.as_ref()) {
                Some(value) => arguments.push(*value),
                None => return Err(format!("needs `{name}`; {}", self.signature())),
            }
        }
        Ok(arguments)
    }

    fn signature(&self) -> String {
        let shown: Vec<String> = self
            .parameters
            .iter()
            .map(|(name, default)| match default {
                Some(value) => format!("{name} = {value}"),
                None => name.clone(),
            })
            .collect();
        match shown.as_slice() {
            [] => "it takes no arguments".to_owned(),
            _ => format!("it takes ({})", shown.join(", ")),
        }
    }
}
