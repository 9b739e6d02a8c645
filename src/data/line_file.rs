//! A text file whose lines are read on demand.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::files::open_regular;

use super::Line;

/// The most bytes of a line. A longer one is no example, and a file that is no text may not have
/// an end of line at all.
const MAX_LINE: u64 = 64 << 20;

/// What some programs write at the beginning of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// An open text file and the places of its lines, of which empty ones are left out. In memory a
/// line, empty or not, takes 8 bytes.
pub(super) struct LineFile {
    path: Arc<Path>,
    reader: BufReader<File>,
    opened: State,
    /// Where each line that is not empty begins.
    starts: Vec<u64>,
    /// For each empty line, how many lines before it are not empty.
    empty: Vec<u64>,
    /// How many lines at the beginning are no examples.
    header: usize,
}

/// What tells that a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    length: u64,
    modified: Option<SystemTime>,
}

impl LineFile {
    /// Opens a file and goes through it once, to find the lines.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::io(path, source);
        let file = open_regular(path).map_err(failed)?;
        let opened = State::of(&file.metadata().map_err(failed)?);
        let mut file = LineFile {
            path: path.into(),
            // The buffer is small, since it is filled anew for each line of a shuffled order.
            reader: BufReader::with_capacity(1 << 13, file),
            opened,
            starts: Vec::new(),
            empty: Vec::new(),
            header: 0,
        };
        file.find_lines()?;
        file.check_unchanged()?;
        Ok(file)
    }

    fn find_lines(&mut self) -> Result<()> {
        let mut line = Vec::new();
        let mut start = 0;
        for number in 1.. {
            line.clear();
            let length = self.read_line(MAX_LINE + 1, &mut line)?;
            if length == 0 {
                break;
            }
            if length > MAX_LINE {
                let reason = format!(
                    "is longer than {} MiB; is it a text with an example on each line?",
                    MAX_LINE >> 20
                );
                return Err(self.bad_line(number, &reason));
            }
            let mark = match number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                true => BYTE_ORDER_MARK.len(),
                false => 0,
            };
            let text = line.get(mark..).unwrap_or_default();
            if std::str::from_utf8(text).is_err() {
                return Err(self.not_utf8(number));
            }
            match without_end(text).is_empty() {
                true => self.empty.push(self.starts.len() as u64),
                false => self.starts.push(start + mark as u64),
            }
            start += length;
        }
        self.starts.shrink_to_fit();
        self.empty.shrink_to_fit();
        Ok(())
    }

    /// How many lines there are, without empty ones and the header.
    pub(super) fn len(&self) -> usize {
        self.starts.len().saturating_sub(self.header)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves out the first line that is not empty.
    pub(super) fn skip_header(&mut self) {
        self.header = 1;
    }

    /// About how many bytes a line has.
    pub(super) fn length(&self, index: usize) -> usize {
        let (start, end) = self.range(index + self.header);
        usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)
    }

    /// Reads a line, and looks whether the file is still what it was.
    pub(super) fn line(&mut self, index: usize) -> Result<Line> {
        let index = index + self.header;
        let (start, end) = self.range(index);
        let mut text = Vec::new();
        self.seek(start)
            .map_err(|source| Error::io(&self.path, source))?;
        self.read_line(end.saturating_sub(start), &mut text)?;
        self.check_unchanged()?;
        text.truncate(without_end(&text).len());
        let number = self.number(index);
        let text = String::from_utf8(text).map_err(|_| self.not_utf8(number))?;
        Ok(Line::new(text, Arc::clone(&self.path), number))
    }

    /// Where a line begins, and where the next one does that is not empty.
    fn range(&self, index: usize) -> (u64, u64) {
        let begin = |index: usize| self.starts.get(index).copied();
        let end = self.opened.length;
        (begin(index).unwrap_or(end), begin(index + 1).unwrap_or(end))
    }

    fn number(&self, index: usize) -> u64 {
        let index = index as u64;
        let empty = self.empty.partition_point(|before| *before <= index);
        1 + index + empty as u64
    }

    /// What is buffered is kept, for lines that are read one after the other.
    fn seek(&mut self, start: u64) -> io::Result<()> {
        let now = self.reader.stream_position()?;
        let distance = i128::from(start) - i128::from(now);
        let distance = i64::try_from(distance).map_err(io::Error::other)?;
        self.reader.seek_relative(distance)
    }

    /// Reads up to the end of the line, but not more than `most` bytes.
    fn read_line(&mut self, most: u64, line: &mut Vec<u8>) -> Result<u64> {
        let mut part = Read::by_ref(&mut self.reader).take(most);
        let read = part.read_until(b'\n', line);
        let read = read.map_err(|source| Error::io(&self.path, source))?;
        Ok(read as u64)
    }

    fn check_unchanged(&self) -> Result<()> {
        let metadata = self.reader.get_ref().metadata();
        let now = State::of(&metadata.map_err(|source| Error::io(&self.path, source))?);
        if now == self.opened {
            return Ok(());
        }
        let how = match now.length == self.opened.length {
            true => "it was written to".to_owned(),
            false => format!("it had {} bytes and has {}", self.opened.length, now.length),
        };
        Err(self.invalid(format!(
            "changed while it was in use: {how}; use a file that stays as it is"
        )))
    }

    fn not_utf8(&self, number: u64) -> Error {
        let reason = "is not UTF-8; convert the file, or unpack it if it is compressed";
        self.bad_line(number, reason)
    }

    fn bad_line(&self, number: u64, reason: &str) -> Error {
        self.invalid(format!("line {number} {reason}"))
    }

    fn invalid(&self, reason: String) -> Error {
        let source = io::Error::new(io::ErrorKind::InvalidData, reason);
        Error::io(&self.path, source)
    }
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        State {
            length: metadata.len(),
            // Not every file system knows it.
            modified: metadata.modified().ok(),
        }
    }
}

impl fmt::Debug for LineFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineFile")
            .field("path", &self.path)
            .field("lines", &self.len())
            .finish_non_exhaustive()
    }
}

/// A line without `\n` or `\r\n` at its end.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
