//! `record`: what a teacher says of the training data, in a file.

use serde::de::DeserializeOwned;
use textbrewer::distributed::Rendezvous;

use super::Example;
use super::learn::{bench, check_output, distill_recipe, models, pieces, recipe_name, train_files};
use super::options::RecordOptions;
use crate::terminal::tell;
use crate::training::{self, KeptOutputs, config, no_teacher};
use crate::{Error, Result, Task};

/// Records what `distill` with the same options needs of the teacher.
pub(super) fn record<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    command: &RecordOptions,
) -> Result<()> {
    if Rendezvous::from_env()?.world_size() > 1 {
        return Err(Error::invalid("one process records: start `record` alone"));
    }
    let options = &command.distill;
    let folders = std::slice::from_ref(&command.teacher);
    let recipe = distill_recipe(example, options, folders)?;
    let task = example.task(&recipe, recipe_name(&options.learn, "distill"))?;
    let pieces = pieces(&task, &recipe, &command.teacher)?;
    let (teachers, student) = models(&task, &pieces, &recipe, folders)?;
    let teacher = teachers.into_iter().next().ok_or_else(no_teacher)?;
    let config = config(&recipe, Some(teacher.shape()), &student)?;
    drop(student);
    let folder = &options.learn.output_dir;
    check_output(folder, folders)?;
    let files = train_files(&task, &options.learn)?;
    let bench = bench(&task, &pieces, &recipe, &options.learn);
    let kept = KeptOutputs {
        folder: folder.clone(),
        logits: command.store_logits,
        layers: command.store_layers,
        overwrite: command.overwrite,
    };
    let file = training::record(&bench, &files, teacher, &config, &kept)?;
    tell(format_args!(
        "{} examples, {} bytes of each",
        file.len(),
        file.bytes() / file.len().max(1) as u64
    ));
    for column in file.columns() {
        tell(column);
    }
    tell(format_args!("saved in {}", folder.display()));
    Ok(())
}
