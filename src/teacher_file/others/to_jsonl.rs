//! A file as lines of JSON.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use tch::{Kind, Tensor};

use super::super::column::{Column, Form, Layout};
use super::super::numbers::{floats, from_bytes};
use super::super::{TeacherFile, sample_rows, top_k_rows};
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// How many examples are read at a time.
const AT_ONCE: usize = 64;

impl TeacherFile {
    /// Writes everything as JSONL, one line for each example in the order of the ids: `id`, and each
    /// column under its name. Numbers and probabilities are lists, of one list for each position where
    /// there are positions; a top k is `{"classes": […], "log_probabilities": […], "log_tail": …}` and a
    /// sample `{"classes": […], "weights": […]}`. Classes of a top k that are impossible are left out, and
    /// with them what fills up positions that have fewer classes. Other −∞, which JSON does not have, are
    /// `null`.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::AdaptorOutput;
    /// use textbrewer::teacher_file::{Recording, Stored};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let mut recorder = Recording::new(folder.path().join("teacher")).logits(Stored::Float32).begin()?;
    /// let logits = Tensor::from_slice2(&[[0.1f32, -0.5], [1.5, 2.5]]);
    /// recorder.add(&[11, 10], &AdaptorOutput::new().logits(&logits))?;
    /// let path = folder.path().join("teacher.jsonl");
    /// recorder.finish()?.write_jsonl(&path)?;
    /// let text = std::fs::read_to_string(&path)?;
    /// assert_eq!(text, "{\"id\":10,\"logits.0\":[1.5,2.5]}\n{\"id\":11,\"logits.0\":[0.1,-0.5]}\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When something cannot be read or written.
    pub fn write_jsonl(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let ids: Vec<u64> = self.ids().collect();
        let columns: Vec<usize> = (0..self.columns().len()).collect();
        write_atomically(path, |writer| {
            for ids in ids.chunks(AT_ONCE) {
                let contents = self.contents(ids, &columns)?;
                for (place, id) in ids.iter().enumerate() {
                    let mut line = format!("{{\"id\":{id}").into_bytes();
                    for (column, content) in self.columns().iter().zip(&contents) {
                        line.push(b',');
                        json(&mut line, &column.name)?;
                        line.push(b':');
                        let written = example(&mut line, column, content.of(place));
                        written.map_err(|error| self.damaged(&[*id], &error))?;
                    }
                    line.extend(b"}\n");
                    writer
                        .write_all(&line)
                        .map_err(|source| Error::io(path, source))?;
                }
            }
            Ok(())
        })
    }
}

fn json(line: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<()> {
    serde_json::to_writer(line, value).map_err(|error| Error::other(error.to_string()))
}

/// What a column has of an example.
fn example(line: &mut Vec<u8>, column: &Column, (positions, bytes): (u64, &[u8])) -> Result<()> {
    let length = positions as usize;
    let width = column.width.unsigned_abs() as usize;
    match &column.form {
        Form::Numbers { stored } | Form::Probabilities { stored } => {
            let size = match column.layout {
                Layout::Example => vec![width],
                Layout::Positions => vec![length, width],
                Layout::Groups { groups } => vec![length, groups.unsigned_abs() as usize, width],
                Layout::Attention { heads } => vec![heads.unsigned_abs() as usize, length, length],
            };
            let of_row = size
                .iter()
                .skip(usize::from(size.len() > 1))
                .product::<usize>();
            let numbers = match bytes.is_empty() {
                true => Vec::new(),
                false => match column.layout {
                    Layout::Attention { .. } => {
                        floats(&from_bytes(bytes, *stored, length as i64)?)?
                    }
                    _ => floats(&from_bytes(bytes, *stored, of_row as i64)?)?,
                },
            };
            nested(line, &numbers, &size)
        }
        Form::TopK { k, .. } => {
            let [classes, logs, tails] = top_k_rows::from_rows(bytes, column, *k)?;
            let (classes, logs) = (integers(&classes)?, floats(&logs)?);
            let rows = classes.chunks(*k as usize).zip(logs.chunks(*k as usize));
            let rows = rows
                .zip(floats(&tails)?)
                .map(|((classes, logs), log_tail)| {
                    let both = classes.iter().zip(logs);
                    let possible = both.filter(|(_, log)| **log != f32::NEG_INFINITY);
                    let (classes, log_probabilities) = possible.unzip();
                    Top {
                        classes,
                        log_probabilities,
                        log_tail,
                    }
                });
            rows_of(line, column, &rows.collect::<Vec<_>>())
        }
        Form::Sample { draws, .. } => {
            let drawn = sample_rows::from_bytes(bytes, positions, (column, *draws))?;
            let [classes, weights] = sample_rows::to_tensors(&drawn, *draws)?;
            let (classes, weights) = (integers(&classes)?, floats(&weights)?);
            let of_each = (classes.len() / length.max(1)).max(1);
            let rows = classes.chunks(of_each).zip(weights.chunks(of_each));
            let rows = rows.map(|(classes, weights)| Drawn { classes, weights });
            rows_of(line, column, &rows.collect::<Vec<_>>())
        }
    }
}

#[derive(Serialize)]
struct Top {
    classes: Vec<i64>,
    log_probabilities: Vec<f32>,
    log_tail: f32,
}

#[derive(Serialize)]
struct Drawn<'a> {
    classes: &'a [i64],
    weights: &'a [f32],
}

/// A list of rows, or the only one of an example without positions.
fn rows_of<R: Serialize>(line: &mut Vec<u8>, column: &Column, rows: &[R]) -> Result<()> {
    match (column.has_positions(), rows) {
        (false, [row]) => json(line, row),
        _ => json(line, rows),
    }
}

/// Numbers as lists of lists.
fn nested(line: &mut Vec<u8>, numbers: &[f32], size: &[usize]) -> Result<()> {
    let Some((count, inner)) = size.split_first().filter(|(_, inner)| !inner.is_empty()) else {
        return json(line, numbers);
    };
    let of_each = inner.iter().product::<usize>();
    line.push(b'[');
    for part in 0..*count {
        if part > 0 {
            line.push(b',');
        }
        let numbers = numbers.get(part * of_each..(part + 1) * of_each);
        nested(line, numbers.unwrap_or_default(), inner)?;
    }
    line.push(b']');
    Ok(())
}

fn integers(tensor: &Tensor) -> Result<Vec<i64>> {
    let tensor = tensor.f_to_kind(Kind::Int64)?.f_contiguous()?;
    Ok(Vec::try_from(&tensor.f_reshape([-1i64])?)?)
}
