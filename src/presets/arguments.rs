//! Temperature schedulers, and the arguments that they are made with.

use std::rc::Rc;

use super::TemperatureSchedule;
use crate::config::Arguments;

/// Makes a schedule from as many numbers as it has parameters.
type TemperatureBuilder = Rc<dyn Fn(&[f64]) -> TemperatureSchedule>;

#[derive(Clone)]
pub(super) struct TemperaturePreset {
    /// Names, with the default of those that may be left out.
    pub(super) parameters: Vec<(String, Option<f64>)>,
    pub(super) build: TemperatureBuilder,
}

impl TemperaturePreset {
    /// The arguments in the order of the parameters, or what is wrong with them.
    pub(super) fn resolve(&self, given: &Arguments) -> std::result::Result<Vec<f64>, String> {
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
