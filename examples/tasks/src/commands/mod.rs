//! The commands, the same for all tasks.

mod apply;
mod export;
mod learn;
mod options;
mod record;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use serde::de::DeserializeOwned;

pub use options::{
    ApplyOptions, Command, DistillCommand, DistillOptions, EarlierOptions, EvaluateOptions,
    ExportOptions, LearnOptions, Options, PredictOptions, RecordOptions, TrainOptions,
};

use crate::recipe::Recipe;
use crate::{Error, Result, Task, disk};

/// An example: a task with the recipes that come with it.
#[derive(Debug)]
pub struct Example<T> {
    /// Its name.
    pub name: &'static str,
    /// A sentence that describes it.
    pub about: &'static str,
    /// Its default data set.
    pub task: T,
    /// Recipes by their names, as JSON.
    pub recipes: &'static [(&'static str, &'static str)],
}

impl<T: Task + Clone + DeserializeOwned> Example<T> {
    /// Runs the command line of this process.
    pub fn main(&self) -> ExitCode {
        env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
        match self.run(std::env::args_os()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Standard error may be closed.
                let _ = writeln!(std::io::stderr(), "error: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Runs a command line, whose first argument is the program's name. `--help` and invalid
    /// arguments end the process.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run<A: Into<OsString> + Clone>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<()> {
        let command = Options::command().name(self.name).about(self.about);
        let options = Options::from_arg_matches(&command.get_matches_from(arguments));
        let options = options.unwrap_or_else(|error| error.exit());
        textbrewer::backend::keep_freed_memory()?;
        match &options.command {
            Command::Train(options) => learn::train(self, options),
            Command::Distill(options) => learn::distill(self, options),
            Command::Record(options) => record::record(self, options),
            Command::Export(options) => export::export(self, options),
            Command::Evaluate(options) => apply::evaluate(self, options),
            Command::Predict(options) => apply::predict(self, options),
        }
    }

    /// A recipe by its name or file, without its own device if the caller replaces that.
    fn recipe(&self, name: &str, replaces_device: bool) -> Result<Recipe> {
        let known = self.recipes.iter().find(|(known, _)| *known == name);
        match known {
            Some((_, text)) => Recipe::from_json_str(Path::new(name), text),
            None if Path::new(name).exists() => {
                let text = disk::read(Path::new(name))?;
                let mut recipe = match replaces_device {
                    true => Recipe::on_any_device(Path::new(name), &text)?,
                    false => Recipe::from_json_str(Path::new(name), &text)?,
                };
                if let Some((_, own)) = self.recipes.first() {
                    let own = Recipe::from_json_str(Path::new(self.name), own)?;
                    recipe.take_lengths(&text, &own);
                }
                Ok(recipe)
            }
            None => {
                let known: Vec<_> = self.recipes.iter().map(|(name, _)| *name).collect();
                let reason = format!(
                    "no file `{name}`, and no recipe of this example, which are: {}",
                    known.join(", ")
                );
                Err(Error::invalid(reason))
            }
        }
    }

    /// The task of a recipe; `name` is what errors call the recipe.
    fn task(&self, recipe: &Recipe, name: &Path) -> Result<T> {
        match &recipe.task {
            None => Ok(self.task.clone()),
            Some(task) => serde_path_to_error::deserialize(task).map_err(|error| {
                let example = self.name;
                Error::file(
                    name,
                    format!("no task of the example `{example}`: task: {error}"),
                )
            }),
        }
    }
}
