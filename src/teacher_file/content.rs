//! What some examples have in a column.

/// The bytes of one column, of one example after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// How many positions each example has.
    pub(super) positions: Vec<u64>,
    pub(super) bytes: Vec<u8>,
    /// Where the bytes of each example end.
    pub(super) ends: Vec<usize>,
}

impl Content {
    /// How many positions an example has, and its bytes.
    pub(super) fn of(&self, example: usize) -> (u64, &[u8]) {
        let before = example.checked_sub(1).map(|before| self.ends.get(before));
        let start = before.flatten().copied().unwrap_or(0);
        let end = self.ends.get(example).copied().unwrap_or(start);
        let positions = self.positions.get(example).copied().unwrap_or(0);
        (positions, self.bytes.get(start..end).unwrap_or_default())
    }

    /// The content of a single example.
    pub(super) fn single(&self, example: usize) -> Content {
        let (positions, bytes) = self.of(example);
        Content {
            positions: vec![positions],
            bytes: bytes.to_vec(),
            ends: vec![bytes.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_has_the_bytes_before_its_end() {
        let content = Content {
            positions: vec![2, 0, 1],
            bytes: vec![1, 2, 3],
            ends: vec![2, 2, 3],
        };
        assert_eq!(content.of(0), (2, &[1, 2][..]));
        assert_eq!(content.of(1), (0, &[][..]));
        assert_eq!(content.of(2), (1, &[3][..]));
        assert_eq!(content.of(3), (0, &[][..]));
        assert_eq!(content.single(2).of(0), (1, &[3][..]));
    }
}
