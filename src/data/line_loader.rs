//! Batches of lines of text files.

use std::path::Path;

use crate::error::{Error, Result};
use crate::ids::Ids;

use super::batch_order::{BatchIndices, BatchOrder, Groups};
use super::line_file::LineFile;
use super::shard::Shard;
use super::{DataLoader, Line, advance, not_started, places};

/// Yields batches of lines of text files, which are read when their batch is wanted: in memory a
/// line takes 8 bytes, and as many again while lines are shuffled or grouped, whatever its length.
///
/// A batch is a vector of [`Line`]s; [`map_in_threads`](DataLoader::map_in_threads) or
/// [`map`](DataLoader::map) make a batch type of one's own from it. A run that is resumed neither
/// reads nor converts the batches that it had.
///
/// ```
/// use textbrewer::data::{pad_to_longest, DataLoader, LineLoader};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("train.jsonl");
/// std::fs::write(&path, "[5, 6, 7]\n[8]\n[9, 10]\n")?;
/// let mut loader = LineLoader::new([&path], 2)?.shuffle(42).map(|lines| {
///     let parsed = lines.iter().map(|line| line.parse_with(serde_json::from_str::<Vec<u32>>));
///     let ids = parsed.collect::<textbrewer::Result<Vec<_>>>()?;
///     pad_to_longest(&ids, 0, Some(512))
/// });
/// assert_eq!(loader.num_batches(), Some(2));
/// for batch in loader.epoch(1)? {
///     let (input_ids, attention_mask) = batch?;
///     assert_eq!(input_ids.size(), attention_mask.size());
/// }
/// # Ok(())
/// # }
/// ```
///
/// Lines end with `\n` or `\r\n`, the last one may end with the file. Empty lines are left out,
/// and so is a byte order mark. The files must be UTF-8 and stay as they are: one that becomes
/// longer or shorter, or is written to, is an error at the next line. They are kept open.
///
/// The id of a line ([`with_ids`](DataLoader::with_ids)) is its place among the lines that are given:
/// counted from 0 through all files, in the order in which they were named, without empty lines and
/// without headers that are skipped. [`Line::number`] counts otherwise: in one file, from 1, with
/// all of these. Lines may be added behind the last one; before another line they change its id.
#[derive(Debug)]
pub struct LineLoader {
    files: Vec<LineFile>,
    /// How many lines each file and those before it have.
    ends: Vec<usize>,
    order: BatchOrder,
    /// How many batches of lines are sorted by length together.
    pool: Option<usize>,
    rest: Option<BatchIndices>,
    /// The indices of the latest batch.
    latest: Option<Vec<usize>>,
}

impl LineLoader {
    /// A loader of `batch_size` lines at a time, of all these files as if they were one; the last
    /// batch may have fewer. Of several processes each has so many ([`Shard`]). Each file is gone through once, to find its lines.
    ///
    /// # Errors
    /// When a file cannot be read, or a line is not UTF-8 or longer than 64 MiB; the error names it. When there is no
    /// line that is not empty, or `batch_size` is 0.
    pub fn new<P: AsRef<Path>>(
        files: impl IntoIterator<Item = P>,
        batch_size: usize,
    ) -> Result<Self> {
        let files = files.into_iter().map(|path| LineFile::open(path.as_ref()));
        let mut loader = LineLoader {
            files: files.collect::<Result<_>>()?,
            ends: Vec::new(),
            // Replaced when the lines are counted.
            order: BatchOrder::new("lines", 1, batch_size)?,
            pool: None,
            rest: None,
            latest: None,
        };
        loader.count()?;
        Ok(loader)
    }

    /// Leaves out the first line of each file that is not empty, which names the columns.
    ///
    /// # Errors
    /// When no other line is left.
    pub fn skip_header(mut self) -> Result<Self> {
        self.files.iter_mut().for_each(LineFile::skip_header);
        self.count()?;
        Ok(self)
    }

    /// Shuffles the lines of all files anew in every epoch, from this seed.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.order.order.seed = Some(seed);
        self
    }

    /// Groups lines with similar numbers of bytes, so that batches contain little padding; see
    /// [`ExampleLoader::group_by_length`](super::ExampleLoader::group_by_length).
    #[must_use]
    pub fn group_by_length(mut self, pool: usize) -> Self {
        self.pool = Some(pool.max(1));
        self
    }

    /// Drops the last batch of an epoch if it is not full; of several processes, those of a step that
    /// are not all full.
    #[must_use]
    pub fn drop_last(mut self) -> Self {
        self.order.drop_last = true;
        self
    }

    fn count(&mut self) -> Result<()> {
        let mut lines = 0;
        self.ends.clear();
        for file in &self.files {
            lines += file.len();
            self.ends.push(lines);
        }
        if lines == 0 {
            let of = match self.files.as_slice() {
                [] => return Err(Error::config("files", "none were given; give at least one")),
                [file] => file.path().display().to_string(),
                [file, rest @ ..] => {
                    format!("{} and {} more files", file.path().display(), rest.len())
                }
            };
            let reason = "no line that is not empty, or a header; give at least one";
            return Err(Error::config(of, reason));
        }
        self.order.order.len = lines;
        Ok(())
    }
}

/// The file of a line, and its index there.
fn place(ends: &[usize], index: usize) -> (usize, usize) {
    let file = ends.partition_point(|end| *end <= index);
    let before = file.checked_sub(1).and_then(|before| ends.get(before));
    (file, index - before.copied().unwrap_or_default())
}

impl DataLoader for LineLoader {
    type Batch = Vec<Line>;

    fn num_batches(&self) -> Option<usize> {
        Some(self.order.num_batches())
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        // Before the next order is made, so that there are not two.
        (self.rest, self.latest) = (None, None);
        let length = |index| {
            let (file, line) = place(&self.ends, index);
            self.files.get(file).map_or(0, |file| file.length(line))
        };
        let groups = self.pool.map(|pool| Groups {
            length: &length,
            pool,
        });
        self.rest = Some(self.order.batches(epoch, groups)?);
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<Vec<Line>>> {
        self.latest = None;
        let Some(indices) = self.rest.as_mut().ok_or_else(not_started)?.next() else {
            return Ok(None);
        };
        let mut lines = Vec::with_capacity(indices.len());
        for &index in &indices {
            let (file, line) = place(&self.ends, index);
            if let Some(file) = self.files.get_mut(file) {
                lines.push(file.line(line)?);
            }
        }
        self.latest = Some(indices);
        Ok(Some(lines))
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        self.latest = None;
        let rest = self.rest.as_mut().ok_or_else(not_started)?;
        Ok(advance(rest, batches))
    }

    /// Of each `world_size × batch_size` examples, those of the rank.
    fn take_share(&mut self, shard: Shard) -> bool {
        self.order.shard = shard;
        self.rest = None;
        self.latest = None;
        true
    }

    /// Their places among the lines of all files.
    fn example_ids(&self) -> Option<Ids> {
        self.latest.as_deref().map(places)
    }
}
