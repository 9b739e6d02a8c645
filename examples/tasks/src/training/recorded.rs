//! A teacher's outputs in a file: recorded once, and checked before a student is trained on them.

use std::path::PathBuf;

use tch::Tensor;
use textbrewer::models::BertInputs;
use textbrewer::teacher_file::{Recording, Stored, hash_of_variables};
use textbrewer::{
    AdaptorOutput, DistillationConfig, LayerSelection, Logits, Model as _, Side, TeacherFile,
    from_fn,
};

use super::adapt;
use crate::data::Bench;
use crate::models::Model;
use crate::recipe::DistillerKind;
use crate::task::Task;
use crate::{Result, disk};

/// The number of layers of the teacher, and the width of their states.
const LAYERS: &str = "layers";
const WIDTH: &str = "width";

/// What a teacher's outputs depend on: its file says these things of itself.
#[derive(Debug)]
pub(crate) struct Facts(Vec<(String, String)>);

impl Facts {
    /// Those of examples from these files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn of<T: Task>(bench: &Bench<'_, T>, files: &[PathBuf]) -> Result<Self> {
        let recipe = bench.recipe;
        let cut = bench.task.truncation(recipe.max_length, recipe.stride);
        let mut facts = vec![
            ("tokenizer".to_owned(), bench.pieces.hash()?),
            ("max_length".to_owned(), cut.max_length.to_string()),
            ("stride".to_owned(), cut.stride.to_string()),
            ("settings".to_owned(), bench.task.settings()),
        ];
        for (number, file) in files.iter().enumerate() {
            let name = match number {
                0 => "data".to_owned(),
                number => format!("data {}", number + 1),
            };
            facts.push((name, disk::hash(file)?));
        }
        Ok(Facts(facts))
    }

    /// Refuses a file that says something else, or whose classes are others than these.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn check(&self, file: &TeacherFile, labels: &[String]) -> Result<()> {
        for (name, value) in &self.0 {
            file.check_fact(name, value)?;
        }
        if !labels.is_empty() {
            file.check_labels(labels)?;
        }
        Ok(())
    }
}

/// The number of layers and the width of the teacher of a file, if the file says them.
pub(super) fn shape(file: &TeacherFile) -> Option<(usize, i64)> {
    let facts = file.facts();
    let layers = facts.get(LAYERS)?.parse().ok()?;
    Some((layers, facts.get(WIDTH)?.parse().ok()?))
}

/// What is kept of a teacher, and where.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) folder: PathBuf,
    pub(crate) logits: Stored,
    pub(crate) layers: Stored,
    pub(crate) overwrite: bool,
}

/// Records logits, and the layers that the matches of the recipe need.
///
/// # Errors
/// Those of reading the data, and of [`Recording::run`].
pub(crate) fn record<T: Task>(
    bench: &Bench<'_, T>,
    files: &[PathBuf],
    teacher: Model<T::Head>,
    config: &DistillationConfig,
    kept: &Kept,
) -> Result<TeacherFile> {
    let recipe = bench.recipe;
    let (layers, width) = teacher.shape();
    let all = recipe.distiller == DistillerKind::Emd;
    let wanted = |feature| match all {
        true => LayerSelection::All,
        false => config.layers(Side::Teacher, feature),
    };
    let (hidden, attention) = (wanted("hidden"), wanted("attention"));
    // The output of the embeddings is the first of the hidden states.
    let [of_hidden, of_attention] = [(&hidden, layers + 1), (&attention, layers)];
    let places = |(wanted, count): (&LayerSelection, usize)| -> Vec<i64> {
        let places = (0..count).filter(|layer| wanted.contains(*layer, count));
        places.map(|layer| layer as i64).collect()
    };
    let (of_hidden, of_attention) = (places(of_hidden), places(of_attention));
    let precision = recipe.training.precision_of(Side::Teacher);
    let mut recording = Recording::new(&kept.folder)
        .logits(kept.logits)
        .device(recipe.training.device)
        .precision(precision)
        .overwrite(kept.overwrite)
        .fact("teacher", hash_of_variables(&teacher.variables)?)
        .fact("precision", precision.to_string())
        .fact(LAYERS, layers.to_string())
        .fact(WIDTH, width.to_string());
    if !of_hidden.is_empty() {
        recording = recording.feature("hidden", of_hidden, kept.layers);
    }
    if !of_attention.is_empty() {
        recording = recording.attention("attention", of_attention, kept.layers);
    }
    for (name, value) in Facts::of(bench, files)?.0 {
        recording = recording.fact(name, value);
    }
    if !bench.task.labels().is_empty() {
        recording = recording.labels(bench.task.labels());
    }
    let train = bench.read_train(files, recipe.learns_labels())?;
    let mut loader = bench.recording(train)?;
    let teacher = teacher.showing(hidden, attention);
    if !bench.task.scores_places() {
        return Ok(recording.run(&teacher.network, adapt::<T>, &mut loader)?);
    }
    let longest = from_fn(|inputs: &BertInputs, train| {
        let said = adapt::<T>(inputs, &teacher.network.forward(inputs, train)?)?;
        if inputs.input_ids.size2()?.1 == recipe.max_length as i64 {
            return Ok(said);
        }
        let padded = bench.pieces.pad(inputs, recipe.max_length)?;
        with_padding(said, || {
            adapt::<T>(&padded, &teacher.network.forward(&padded, train)?)
        })
    });
    Ok(recording.run(&longest, |_, said| Ok(said.shallow_clone()), &mut loader)?)
}

/// Scores of places, also of the padding in longer batches than this one: a student's loss counts
/// padding. The scores of this batch stay what they are to the bit.
fn with_padding(
    mut said: AdaptorOutput,
    padded: impl FnOnce() -> textbrewer::Result<AdaptorOutput>,
) -> textbrewer::Result<AdaptorOutput> {
    let padded = padded()?;
    for (logits, padded) in said.logits.iter_mut().zip(&padded.logits) {
        let (own, padded) = (logits.whole()?, padded.whole()?);
        let (_, length) = own.size2()?;
        let (_, longest) = padded.size2()?;
        let rest = padded.f_narrow(1, length, longest - length)?;
        *logits = Logits::Whole(Tensor::f_cat(&[own, rest], 1)?);
    }
    Ok(said)
}
