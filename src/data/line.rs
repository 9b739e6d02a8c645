//! A line of a text file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{BoxError, Error, Result};

/// A line of a text file, as [`LineLoader`](super::LineLoader) gives it: its text, and where it
/// stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    text: String,
    file: Arc<Path>,
    number: u64,
}

impl Line {
    pub(super) fn new(text: String, file: Arc<Path>, number: u64) -> Self {
        Line { text, file, number }
    }

    /// The text, without the end of the line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file that the line is from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The number of the line in its file, counted from 1, empty lines included.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What `parse` makes of the text. Its error becomes one that names the file and the line.
    ///
    /// ```
    /// use textbrewer::data::{DataLoader, LineLoader};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("train.tsv");
    /// std::fs::write(&path, "a good film\t1\nno label\n")?;
    /// let mut loader = LineLoader::new([&path], 1)?.map(|lines| {
    ///     let split = |text| str::split_once(text, '\t').ok_or("has no tab");
    ///     let parsed = lines.iter().map(|line| line.parse_with(split));
    ///     Ok(parsed.collect::<textbrewer::Result<Vec<_>>>()?.len())
    /// });
    /// let mut batches = loader.epoch(1)?;
    /// assert_eq!(batches.next().transpose()?, Some(1));
    /// let error = batches.next().transpose().unwrap_err().to_string();
    /// assert!(error.ends_with("train.tsv: line 2: has no tab"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The error of `parse`.
    pub fn parse_with<'a, T, E: Into<BoxError>>(
        &'a self,
        parse: impl FnOnce(&'a str) -> std::result::Result<T, E>,
    ) -> Result<T> {
        let place = || format!("{}: line {}", self.file.display(), self.number);
        parse(&self.text).map_err(|error| Error::Other(error.into()).at(place()))
    }
}

impl AsRef<str> for Line {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
