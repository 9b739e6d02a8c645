//! Small messages of one size. Whatever the processes do together begins with one, for Gloo ends
//! a process whose tensor has another size than the others'.

use tch::{Device, Kind, Tensor};

use super::ProcessGroup;
use crate::error::Result;

/// The numbers in a message beside the name of the operation.
pub(crate) const NUMBERS: usize = 10;
/// The numbers that hold the name, of 8 bytes each.
const NAME: usize = 6;
const SIZE: usize = NAME + NUMBERS;

pub(crate) type Numbers = [i64; NUMBERS];

impl ProcessGroup {
    /// The numbers of each process, by rank. Fails in all of them if they are at different
    /// operations.
    pub(crate) fn exchange(&self, operation: &str, numbers: Numbers) -> Result<Vec<Numbers>> {
        if self.is_alone() {
            return Ok(vec![numbers]);
        }
        let name = name_of(operation);
        let own: Vec<i64> = name.iter().chain(&numbers).copied().collect();
        let own = Tensor::f_from_slice(&own)?;
        let size = (SIZE * self.world_size()) as i64;
        let all = Tensor::f_zeros([size], (Kind::Int64, Device::Cpu))?;
        self.with_group(operation, |group| group.all_gather(&all, &own))?;
        let all = Vec::<i64>::try_from(&all)?;
        let mut by_rank = Vec::with_capacity(self.world_size());
        for (rank, message) in all.chunks_exact(SIZE).enumerate() {
            let (their_name, their_numbers) = message.split_at(NAME);
            if their_name != name {
                let reason = format!(
                    "process {rank} is at \"{}\"; all processes have to do the same, in the \
                     same order: is something done with the group in one of them only?",
                    text_of(their_name)
                );
                return Err(self.error(operation, reason));
            }
            let mut numbers = [0; NUMBERS];
            numbers.copy_from_slice(their_numbers);
            by_rank.push(numbers);
        }
        Ok(by_rank)
    }

    /// The bytes of each process, by rank.
    pub(crate) fn exchange_bytes(&self, operation: &str, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut numbers = [0; NUMBERS];
        numbers[0] = own.len() as i64;
        let lengths = self.exchange(operation, numbers)?;
        if self.is_alone() {
            return Ok(vec![own.to_vec()]);
        }
        let longest = lengths.iter().map(|numbers| numbers[0]).max();
        let longest = usize::try_from(longest.unwrap_or_default())
            .unwrap_or_default()
            .max(1);
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let own = Tensor::f_from_slice(&padded)?;
        let size = (longest * self.world_size()) as i64;
        let all = Tensor::f_zeros([size], (Kind::Uint8, Device::Cpu))?;
        self.with_group(operation, |group| group.all_gather(&all, &own))?;
        let all = Vec::<u8>::try_from(&all)?;
        let cut = |(bytes, numbers): (&[u8], &Numbers)| {
            let length = usize::try_from(numbers[0]).unwrap_or_default();
            bytes.get(..length).unwrap_or(bytes).to_vec()
        };
        Ok(all.chunks_exact(longest).zip(&lengths).map(cut).collect())
    }
}

fn name_of(operation: &str) -> [i64; NAME] {
    let mut bytes = [0; NAME * 8];
    for (place, byte) in bytes.iter_mut().zip(operation.bytes()) {
        *place = byte;
    }
    let mut name = [0; NAME];
    for (number, bytes) in name.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        *number = i64::from_le_bytes(eight);
    }
    name
}

fn text_of(name: &[i64]) -> String {
    let bytes: Vec<u8> = name
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.trim_end_matches('\0').to_owned()
}
