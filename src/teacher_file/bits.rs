//! Numbers of any number of bits, one after the other.

use crate::error::{Error, Result};

/// Writes numbers of a few bits, the lowest bit first.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that do not fill a byte yet.
    rest: u64,
    count: u32,
}

impl BitWriter {
    /// Writes the lowest `bits` bits of a number, at most 32.
    pub(super) fn write(&mut self, number: u32, bits: u32) {
        let mask = (1u64 << bits) - 1;
        self.rest |= (u64::from(number) & mask) << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.bytes.push(self.rest as u8);
            self.rest >>= 8;
            self.count -= 8;
        }
    }

    /// Fills up the last byte with zeros and returns all.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.rest as u8);
        }
        self.bytes
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    rest: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        BitReader {
            bytes: bytes.iter(),
            rest: 0,
            count: 0,
        }
    }

    /// Reads a number of at most 32 bits.
    pub(super) fn read(&mut self, bits: u32) -> Result<u32> {
        while self.count < bits {
            let Some(byte) = self.bytes.next() else {
                return Err(Error::other("ends too early"));
            };
            self.rest |= u64::from(*byte) << self.count;
            self.count += 8;
        }
        let number = self.rest & ((1u64 << bits) - 1);
        self.rest >>= bits;
        self.count -= bits;
        Ok(number as u32)
    }

    /// Whether nothing is left but the zeros that fill up the last byte.
    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.len() == 0 && self.count < 8 && self.rest == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_take_no_more_bits_than_they_have() {
        let numbers = [
            (1u32, 1),
            (0, 1),
            (151_935, 18),
            (u32::MAX, 32),
            (5, 3),
            (63, 6),
        ];
        let mut writer = BitWriter::default();
        numbers
            .iter()
            .for_each(|&(number, bits)| writer.write(number, bits));
        let bytes = writer.finish();
        assert_eq!(bytes.len(), (1 + 1 + 18 + 32 + 3 + 6usize).div_ceil(8));
        let mut reader = BitReader::new(&bytes);
        for (number, bits) in numbers {
            assert_eq!(reader.read(bits).unwrap(), number);
        }
        assert!(reader.is_at_end());
        assert!(reader.read(8).is_err());
    }

    #[test]
    fn a_number_that_is_too_large_spoils_none_beside_it() {
        let mut writer = BitWriter::default();
        writer.write(0b111, 2);
        writer.write(0, 6);
        assert_eq!(writer.finish(), [0b11]);
    }
}
