//! A column of a file as an array of NumPy.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::super::column::{Column, Form, Layout, Stored};
use super::super::numbers::{from_bytes, to_bytes};
use super::super::{TeacherFile, wrong};
use super::npy::write_header;
use crate::error::{Error, Result, shown};
use crate::files::write_atomically;

/// How many examples are read at a time.
const AT_ONCE: usize = 64;

impl TeacherFile {
    /// Writes a column of numbers or probabilities as an array of float32 that NumPy reads, `.npy`, with
    /// the examples in the order of their ids, and the ids beside it: for `logits.npy` in
    /// `logits.ids.npy`.
    ///
    /// What has one row for each example becomes `[examples, width]`. Of what has positions all rows
    /// come one after the other, `[rows, width]` or `[rows, groups, width]`, and
    /// `logits.positions.npy` says how many each example has.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::AdaptorOutput;
    /// use textbrewer::teacher_file::{Recording, Stored};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let mut recorder = Recording::new(folder.path().join("teacher")).logits(Stored::Float32).begin()?;
    /// let logits = Tensor::from_slice2(&[[0.5f32, -0.5], [1.5, 2.5]]);
    /// recorder.add(&[11, 10], &AdaptorOutput::new().logits(&logits))?;
    /// let path = folder.path().join("logits.npy");
    /// recorder.finish()?.write_npy("logits.0", &path)?;
    /// assert_eq!(Tensor::read_npy(&path)?, Tensor::from_slice2(&[[1.5f32, 2.5], [0.5, -0.5]]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such column, or none of numbers; when something cannot be read or written.
    pub fn write_npy(&self, column: &str, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let place = self.columns().iter().position(|known| known.name == column);
        let found = place.and_then(|place| Some((place, self.columns().get(place)?)));
        let Some((place, column)) = found else {
            let names: Vec<&str> = self
                .columns()
                .iter()
                .map(|known| known.name.as_str())
                .collect();
            let reason = format!(
                "has no column `{}`, but {}",
                shown(column),
                names.join(", ")
            );
            return Err(wrong(self.folder(), reason));
        };
        let (stored, of_row) = self.rows_of(column)?;
        let ids: Vec<u64> = self.ids().collect();
        let positions: Vec<u64> = ids
            .iter()
            .map(|id| match column.has_positions() {
                true => self.positions(*id, place),
                false => 1,
            })
            .collect();
        write_integers(&beside(path, "ids"), &ids)?;
        if column.has_positions() {
            write_integers(&beside(path, "positions"), &positions)?;
        }
        let mut shape = vec![positions.iter().sum::<u64>()];
        shape.extend(&of_row);
        let width = of_row.iter().product::<u64>() as i64;
        let failed = |source| Error::io(path, source);
        write_atomically(path, |writer| {
            write_header(writer, "<f4", &shape).map_err(failed)?;
            for ids in ids.chunks(AT_ONCE) {
                for content in &self.contents(ids, &[place])? {
                    if content.bytes.is_empty() {
                        continue;
                    }
                    let numbers = from_bytes(&content.bytes, stored, width)?;
                    let bytes = to_bytes(&numbers, Stored::Float32)?;
                    writer.write_all(&bytes).map_err(failed)?;
                }
            }
            Ok(())
        })
    }

    /// How the numbers of a column are stored, and the shape of a row.
    fn rows_of(&self, column: &Column) -> Result<(Stored, Vec<u64>)> {
        let width = column.width.unsigned_abs();
        match (&column.form, column.layout) {
            (Form::Numbers { stored } | Form::Probabilities { stored }, layout) => match layout {
                Layout::Example | Layout::Positions => Ok((*stored, vec![width])),
                Layout::Groups { groups } => Ok((*stored, vec![groups.unsigned_abs(), width])),
                Layout::Attention { .. } => Err(self.no_array(column)),
            },
            _ => Err(self.no_array(column)),
        }
    }

    fn no_array(&self, column: &Column) -> Error {
        let what = match &column.form {
            Form::TopK { .. } => "is a top k, which is no array",
            Form::Sample { .. } => "is a sample, which is no array",
            Form::Numbers { .. } | Form::Probabilities { .. } => "has maps of different sizes",
        };
        let name = shown(&column.name);
        let reason = format!("`{name}` {what}; use `TeacherFile::write_jsonl`");
        wrong(self.folder(), reason)
    }
}

/// `logits.ids.npy` for `logits.npy`
fn beside(path: &Path, what: &str) -> PathBuf {
    path.with_extension(format!("{what}.npy"))
}

fn write_integers(path: &Path, numbers: &[u64]) -> Result<()> {
    let failed = |source| Error::io(path, source);
    write_atomically(path, |writer| {
        write_header(writer, "<u8", &[numbers.len() as u64]).map_err(failed)?;
        for number in numbers {
            writer.write_all(&number.to_le_bytes()).map_err(failed)?;
        }
        Ok(())
    })
}
