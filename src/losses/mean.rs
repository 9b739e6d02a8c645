//! Means, and what they are where there is nothing to take one of.
//!
//! A mask can keep no position, and a batch can have no label. Such a batch teaches nothing: its
//! mean is 0 with a gradient of 0, and not 0 divided by 0, which is NaN.

use tch::{Reduction, Tensor};

use crate::error::Result;

/// The mean of losses; 0, with a gradient of 0, of none.
pub(crate) fn mean(losses: &Tensor) -> Result<Tensor> {
    Ok(match losses.numel() {
        0 => losses.f_sum(None)?,
        _ => losses.f_mean(None)?,
    })
}

/// How one of libtorch's losses on `values` comes to its [`mean`].
pub(crate) fn mean_of(values: &Tensor) -> Reduction {
    match values.numel() {
        0 => Reduction::Sum,
        _ => Reduction::Mean,
    }
}

/// `sum / count`; 0, with a gradient of 0, where the count is 0. The device is not waited for.
pub(crate) fn per_count(sum: &Tensor, count: &Tensor) -> Result<Tensor> {
    Ok(sum.f_div(&at_least_one(count)?)?)
}

/// 1 in place of 0; every other count is what it was.
pub(crate) fn at_least_one(count: &Tensor) -> Result<Tensor> {
    Ok(count.f_add(&count.f_logical_not()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn nothing_is_zero_with_a_gradient_of_zero() {
        let losses = Tensor::zeros([0, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let of_none = mean(&losses).unwrap();
        of_none.backward();
        assert_eq!(of_none.double_value(&[]), 0.0);
        assert_eq!(losses.grad().size(), [0, 3]);

        let losses = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
        let kept = |mask: [f32; 2]| {
            let mask = Tensor::from_slice(&mask);
            let sum = losses.f_mul(&mask).unwrap().sum(None);
            per_count(&sum, &mask.sum(None)).unwrap()
        };
        let (nothing, half) = (kept([0.0, 0.0]), kept([0.0, 0.5]));
        assert_eq!(half.double_value(&[]), 2.0);
        assert_eq!(nothing.double_value(&[]), 0.0);
        nothing.backward();
        assert_eq!(losses.grad(), Tensor::from_slice(&[0f32, 0.0]));
    }

    #[test]
    fn a_count_keeps_its_kind() {
        for kind in [Kind::Float, Kind::Double, Kind::Int64, Kind::BFloat16] {
            let counts = Tensor::from_slice(&[0.0, 2.0]).to_kind(kind);
            for (index, expected) in [(0, 1.0), (1, 2.0)] {
                let count = at_least_one(&counts.get(index)).unwrap();
                assert_eq!((count.kind(), count.double_value(&[])), (kind, expected));
            }
        }
    }
}
