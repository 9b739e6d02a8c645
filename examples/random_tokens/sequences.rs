//! The data: random sequences of tokens, and the rule behind their labels.

use tch::{Device, Kind, Tensor};
use textbrewer::models::BertInputs;
use textbrewer::{DataLoader, Error, Result, TensorLoader};

pub const VOCABULARY: i64 = 100;
/// Odd, so that there is always a majority.
pub const LENGTH: i64 = 15;

/// New random sequences and their labels: 1 where most tokens are even numbers.
pub fn with_labels(count: u64, batch_size: usize) -> Result<impl DataLoader<Batch = BertInputs>> {
    let tokens = random(count)?;
    let odd = tokens.f_bitwise_and(1)?;
    let odd = odd.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
    let labels = odd.f_le(LENGTH / 2)?.f_to_kind(Kind::Int64)?;
    let loader = TensorLoader::new(vec![tokens, labels], batch_size)?.shuffle(0);
    Ok(loader.map(|tensors| {
        let [tokens, labels] = tensors
            .try_into()
            .map_err(|_| Error::other("a batch has two tensors"))?;
        Ok(BertInputs::new(tokens).labels(labels))
    }))
}

/// New random sequences alone.
pub fn without_labels(
    count: u64,
    batch_size: usize,
) -> Result<impl DataLoader<Batch = BertInputs>> {
    let loader = TensorLoader::new(vec![random(count)?], batch_size)?.shuffle(0);
    Ok(loader.map(|tensors| {
        let [tokens] = tensors
            .try_into()
            .map_err(|_| Error::other("a batch has one tensor"))?;
        Ok(BertInputs::new(tokens))
    }))
}

fn random(count: u64) -> Result<Tensor> {
    let int64 = (Kind::Int64, Device::Cpu);
    Ok(Tensor::f_randint(
        VOCABULARY,
        [count as i64, LENGTH],
        int64,
    )?)
}
