//! A stream of examples, read in parts.

use std::iter::Fuse;
use std::vec;

use crate::error::Result;

use super::order::shuffle_part;

pub(super) type Examples<'a, E> = Box<dyn Iterator<Item = Result<E>> + Send + 'a>;

/// An open stream, of which parts of equal size are read one after the other.
pub(super) struct Stream<'a, E> {
    pub(super) epoch: u64,
    /// What was not read yet.
    pub(super) unread: Fuse<Examples<'a, E>>,
    /// What is left of the part that was read last, in the order of the batches, and the place of
    /// each example in the stream.
    pub(super) part: vec::IntoIter<(usize, Result<E>)>,
    /// How many examples were given or passed over.
    pub(super) given: usize,
}

impl<E> Stream<'_, E> {
    /// Reads the part that begins here.
    pub(super) fn read_part(&mut self, size: usize, seed: Option<u64>) {
        // An error keeps its place among the examples, so that every batch has its own.
        let examples = self.unread.by_ref().take(size).enumerate();
        let placed = |(index, example)| (self.given.saturating_add(index), example);
        let mut part: Vec<_> = examples.map(placed).collect();
        if let Some(seed) = seed {
            shuffle_part(&mut part, seed, self.epoch, (self.given / size) as u64);
        }
        self.part = part.into_iter();
    }

    /// Goes forward by so many examples, or to the end of the stream; returns how many it were. At
    /// the end nothing is read once more to be counted, for where batches are dealt out to
    /// processes every epoch ends like this.
    pub(super) fn pass_over(&mut self, examples: usize, size: usize, seed: Option<u64>) -> usize {
        let before = self.given;
        let place = before.saturating_add(examples);
        self.leave_out(examples);
        // To the part that the place is in, which has to be shuffled as a whole.
        let whole = (place - place % size).saturating_sub(self.given);
        self.given += self.unread.by_ref().take(whole).count();
        if place > self.given && self.part.len() == 0 {
            self.read_part(size, seed);
            self.leave_out(place - self.given);
        }
        self.given - before
    }

    /// Leaves out up to so many examples of the part that was read.
    fn leave_out(&mut self, examples: usize) {
        let examples = examples.min(self.part.len());
        if let Some(last) = examples.checked_sub(1) {
            self.part.nth(last);
        }
        self.given += examples;
    }

    /// An example, and its place in the stream.
    pub(super) fn next_example(
        &mut self,
        size: usize,
        seed: Option<u64>,
    ) -> Option<(usize, Result<E>)> {
        if self.part.len() == 0 {
            self.read_part(size, seed);
        }
        let example = self.part.next()?;
        self.given = self.given.saturating_add(1);
        Some(example)
    }
}
