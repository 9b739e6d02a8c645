//! `export`: the inputs of `distill`, for the same run in Python.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::json;
use tch::Tensor;
use textbrewer::weights;
use textbrewer::{DataLoader, Side};

use super::Example;
use super::learn::{
    bench, check_output, distill_recipe, first, models, pieces, recipe_name, train_files,
};
use super::options::ExportOptions;
use crate::models::Shape;
use crate::recipe::{DistillerKind, Recipe};
use crate::terminal::tell;
use crate::training::no_teacher;
use crate::{Error, Result, Task, disk};

/// Writes the student's initial weights, every batch of every epoch in order, and the
/// configuration with all its matches.
///
/// `benches/python/distill.py` reads it.
pub(super) fn export<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    command: &ExportOptions,
) -> Result<()> {
    let options = &command.distill;
    let folders = &command.teachers;
    let recipe = distill_recipe(example, options, folders)?;
    let task = example.task(&recipe, recipe_name(&options.learn, "distill"))?;
    refuse(&recipe, folders.len())?;
    let pieces = pieces(&task, &recipe, first(folders)?)?;
    let (teachers, student) = models(&task, &pieces, &recipe, folders)?;
    let teacher = teachers.first().ok_or_else(no_teacher)?;
    let config = recipe.distill_config(teacher.shape(), student.shape())?;
    let folder = &options.learn.output_dir;
    let (described, begun) = (folder.join("export.json"), folder.join("student"));
    check_output(&begun, folders)?;
    let model = folder.join("model.safetensors");
    if !command.overwrite && (described.exists() || begun.exists() || model.exists()) {
        let reason = "there is an earlier export or a model in it: --overwrite replaces the \
                      former and writes beside the latter, or give another --output-dir";
        return Err(Error::file(folder, reason));
    }
    let config =
        serde_json::to_value(config).map_err(|error| Error::file(folder, error.to_string()))?;
    let bench = bench(&task, &pieces, &recipe, &options.learn);
    let labels = recipe.learns_labels();
    let train = bench.read_train(&train_files(&task, &options.learn)?, labels)?;
    let mut loader = bench.training(train, 1)?;

    // The file that marks an export as complete is removed first and written last.
    disk::remove(&described)?;
    student.save(&begun)?;
    pieces.copy_to(&begun)?;
    // Batches of a longer earlier export.
    for epoch in (recipe.epochs..=u64::MAX).skip(1) {
        if std::fs::remove_file(epoch_file(folder, epoch)).is_err() {
            break;
        }
    }
    let mut steps = 0;
    let has_segments = student.network.has_segments() && teacher.network.has_segments();
    for epoch in 1..=recipe.epochs {
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        for (number, batch) in loader.epoch(epoch)?.enumerate() {
            let batch = batch?;
            let named = [
                ("input_ids", Some(batch.input_ids)),
                ("attention_mask", batch.attention_mask),
                (
                    "token_type_ids",
                    batch.token_type_ids.filter(|_| has_segments),
                ),
                ("labels", batch.labels),
                ("start_positions", batch.start_positions),
                ("end_positions", batch.end_positions),
            ];
            for (name, tensor) in named {
                let Some(tensor) = tensor else { continue };
                // Half the size; Python converts them back to int64.
                let tensor = tensor.f_to_kind(tch::Kind::Int)?;
                tensors.push((format!("{number:06}.{name}"), tensor));
            }
            steps += 1;
        }
        weights::save(epoch_file(folder, epoch), &tensors, &BTreeMap::new())?;
    }
    let description = json!({
        "task": example.name,
        "recipe": recipe,
        "teachers": folders,
        "distillation": config,
        "steps": steps,
    });
    disk::write(&described, format!("{description:#}\n").as_bytes())?;
    tell(format_args!(
        "{steps} batches of {} epochs in {}",
        recipe.epochs,
        folder.display()
    ));
    Ok(())
}

fn epoch_file(folder: &Path, epoch: u64) -> PathBuf {
    folder.join(format!("epoch{epoch:03}.safetensors"))
}

/// Refuses what TextBrewer, or the script, does not support.
fn refuse(recipe: &Recipe, teachers: usize) -> Result<()> {
    let attention = recipe.distillation.layers(Side::Student, "attention");
    let refused = [
        (teachers > 1, "several teachers"),
        (
            recipe.distiller != DistillerKind::General,
            "the distiller `emd`",
        ),
        (recipe.student == Some(Shape::BiGru), "a BiGRU"),
        (!attention.is_none(), "matches of attention"),
        (
            recipe.training.gradient_accumulation_steps > 1,
            "gradient_accumulation_steps above 1",
        ),
    ];
    match refused.iter().find(|(found, _)| *found) {
        Some((_, what)) => Err(Error::invalid(format!("`export` cannot do this: {what}"))),
        None => Ok(()),
    }
}
