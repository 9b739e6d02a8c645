//! Probabilities of labels that somebody else made.

use std::path::{Path, PathBuf};

use textbrewer::TeacherFile;
use textbrewer::teacher_file::{ClassScores, Recording};

use crate::data::Bench;
use crate::task::Task;
use crate::{Error, Result};

/// A file with a column for each label, and how its rows are found.
#[derive(Debug)]
pub(crate) struct SoftLabels<'a> {
    pub(crate) file: &'a Path,
    /// Whether the rows are in the order of the records, whatever else the file says.
    pub(crate) by_position: bool,
}

impl SoftLabels<'_> {
    /// Reads those of the records in these files into a folder.
    ///
    /// # Errors
    /// When the task has no labels of whole texts, or the file does not fit; those of reading the
    /// records.
    pub(crate) fn read<T: Task>(
        &self,
        bench: &Bench<'_, T>,
        files: &[PathBuf],
        folder: &Path,
    ) -> Result<TeacherFile> {
        let task = bench.task;
        let columns = task.text_columns();
        if columns.is_empty() {
            let reason = "--soft-labels: only for labels of whole texts; `--teacher-file` is for all \
                          tasks";
            return Err(Error::invalid(reason));
        }
        let chosen = bench.train_records(files, bench.recipe.learns_labels())?;
        let ids = chosen.ids.iter().copied();
        let texts = chosen.records.iter().map(|record| task.texts(record));
        let scores = ClassScores::probabilities(self.file, task.labels()).ignore_other_columns();
        let scores = match (self.by_position, columns) {
            (true, _) => scores.by_position().ids(0..chosen.all),
            (false, [first, second]) => {
                let pair = |texts: &[String]| <[String; 2]>::try_from(texts.to_vec()).ok();
                let pairs: Vec<_> = texts.filter_map(pair).collect();
                scores.text_pairs([first, second], pairs).ids(ids)
            }
            (false, columns) => {
                let texts: Vec<String> = texts.map(<[String]>::concat).collect();
                scores.texts(columns.concat(), texts).ids(ids)
            }
        };
        Ok(scores.record(Recording::new(folder).progress(false))?)
    }
}
