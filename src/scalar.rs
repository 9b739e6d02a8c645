//! Tensors and numbers.
//!
//! When an operation of tch that takes a `Scalar` fails, it panics instead of returning the
//! error, whatever its name begins with: the `Scalar` is dropped while libtorch's error is
//! still pending, and its `Drop` takes that error for its own. Operations between tensors
//! do return their errors, so here a number becomes a tensor first.

use tch::{Device, Kind, TchError, Tensor};

type Result<T> = std::result::Result<T, TchError>;

/// What may stand beside a tensor in [`ScalarOps`]: `f64` and `i64`.
#[doc(hidden)]
pub trait Number: Beside {}

impl Number for f64 {}
impl Number for i64 {}

/// How a number becomes a tensor.
pub trait Beside: Copy {
    /// A tensor without dimensions, to stand beside tensors of `kind`.
    ///
    /// For `Float` in that kind, to which libtorch would convert it in every operation; beside
    /// others doubles stay doubles, which libtorch rounds where it computes, as it does a
    /// `Scalar`.
    fn beside(self, kind: Kind) -> Result<Tensor>;
}

impl Beside for f64 {
    fn beside(self, kind: Kind) -> Result<Tensor> {
        match kind {
            Kind::Float => made_of(&(self as f32).to_ne_bytes(), kind),
            _ => made_of(&self.to_ne_bytes(), Kind::Double),
        }
    }
}

impl Beside for i64 {
    fn beside(self, kind: Kind) -> Result<Tensor> {
        match kind {
            Kind::Float => made_of(&(self as f32).to_ne_bytes(), kind),
            _ => made_of(&self.to_ne_bytes(), Kind::Int64),
        }
    }
}

fn made_of(bytes: &[u8], kind: Kind) -> Result<Tensor> {
    Tensor::f_from_data_size(bytes, &[], kind)
}

/// Operations with a number, which never panic and whose results have the tensor's kind (an
/// `i64` leaves integers what they are, an `f64` makes them floating point).
///
/// tch's own operations with a number panic when they fail, those whose names begin with `f_` as
/// well. These return the error.
///
/// The number is a tensor without dimensions on the CPU, which libtorch takes beside a
/// tensor on any device.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::support::ScalarOps;
///
/// let errors = Tensor::from_slice(&[-3f32, 0.5]);
/// let hinge = errors.plus(1.0)?.at_least(0.0)?.over(2.0)?;
/// assert_eq!(hinge, Tensor::from_slice(&[0f32, 0.75]));
/// // A mask that does not fit is an error.
/// assert!(errors.filled(&Tensor::from_slice(&[true, false, true]), 0.0).is_err());
/// # textbrewer::Result::Ok(())
/// ```
pub trait ScalarOps {
    /// `self + number`
    fn plus<N: Number>(&self, number: N) -> Result<Tensor>;
    /// `self − number`
    fn minus<N: Number>(&self, number: N) -> Result<Tensor>;
    /// `self · number`
    fn times<N: Number>(&self, number: N) -> Result<Tensor>;
    /// `self / number`
    fn over<N: Number>(&self, number: N) -> Result<Tensor>;
    /// `selfᵉ`
    fn power(&self, exponent: f64) -> Result<Tensor>;
    /// The Euclidean norm over the last dimension, which stays as 1.
    fn length(&self) -> Result<Tensor>;
    /// The larger of both; NaN stays NaN.
    fn at_least<N: Number>(&self, number: N) -> Result<Tensor>;
    /// The smaller of both; NaN stays NaN.
    fn at_most<N: Number>(&self, number: N) -> Result<Tensor>;
    /// Where `self < number`
    fn is_below<N: Number>(&self, number: N) -> Result<Tensor>;
    /// Where `self ≤ number`
    fn is_at_most<N: Number>(&self, number: N) -> Result<Tensor>;
    /// Where `self > number`
    fn is_above<N: Number>(&self, number: N) -> Result<Tensor>;
    /// Where `self ≠ number`
    fn is_not<N: Number>(&self, number: N) -> Result<Tensor>;
    /// `number` where `mask` is true, `self` elsewhere.
    fn filled<N: Number>(&self, mask: &Tensor, number: N) -> Result<Tensor>;
    /// [`over`](Self::over) in place.
    fn over_<N: Number>(&mut self, number: N) -> Result<()>;
}

impl ScalarOps for Tensor {
    fn plus<N: Number>(&self, number: N) -> Result<Tensor> {
        with(self, number, Tensor::f_add)
    }

    fn minus<N: Number>(&self, number: N) -> Result<Tensor> {
        with(self, number, Tensor::f_sub)
    }

    fn times<N: Number>(&self, number: N) -> Result<Tensor> {
        with(self, number, Tensor::f_mul)
    }

    fn over<N: Number>(&self, number: N) -> Result<Tensor> {
        with(self, number, Tensor::f_div)
    }

    fn power(&self, exponent: f64) -> Result<Tensor> {
        // libtorch's power of a number multiplies here, its power of a tensor does not.
        if exponent == 2.0 {
            return self.f_square();
        }
        with(self, exponent, |tensor, exponent| {
            // It has to be where the tensor is; for a copy to a device the host would wait.
            match tensor.device() {
                Device::Cpu => tensor.f_pow(exponent),
                device => {
                    let one = Tensor::f_ones(exponent.size(), (exponent.f_kind()?, device))?;
                    tensor.f_pow(&one.f_mul(exponent)?)
                }
            }
        })
    }

    fn length(&self) -> Result<Tensor> {
        // Only here does libtorch take the order of the norm as a plain number.
        Tensor::f_pairwise_distance(self, &0.0.beside(Kind::Double)?, 2.0, 0.0, true)
    }

    fn at_least<N: Number>(&self, number: N) -> Result<Tensor> {
        self.filled(&self.is_below(number)?, number)
    }

    fn at_most<N: Number>(&self, number: N) -> Result<Tensor> {
        self.filled(&self.is_above(number)?, number)
    }

    fn is_below<N: Number>(&self, number: N) -> Result<Tensor> {
        with(self, number, Tensor::f_lt_tensor)
    }

    fn is_at_most<N: Number>(&self, number: N) -> Result<Tensor> {
        with(self, number, Tensor::f_le_tensor)
    }

    fn is_above<N: Number>(&self, number: N) -> Result<Tensor> {
        with(self, number, Tensor::f_gt_tensor)
    }

    fn is_not<N: Number>(&self, number: N) -> Result<Tensor> {
        with(self, number, Tensor::f_ne_tensor)
    }

    fn filled<N: Number>(&self, mask: &Tensor, number: N) -> Result<Tensor> {
        self.f_masked_fill_tensor(mask, &number.beside(self.f_kind()?)?)
    }

    fn over_<N: Number>(&mut self, number: N) -> Result<()> {
        with_(self, number, Tensor::f_div_)
    }
}

/// A tensor without dimensions gives way to the kind of another that has dimensions, but not
/// to that of another without: there the double would win. So the tensor gets one, unless the
/// number is of its kind.
fn with<N: Number>(
    left: &Tensor,
    number: N,
    operation: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let kind = left.f_kind()?;
    let number = number.beside(kind)?;
    if left.dim() > 0 || number.f_kind()? == kind {
        return operation(left, &number);
    }
    operation(&left.f_unsqueeze(0)?, &number)?.f_squeeze_dim(0)
}

/// As [`with`], into the tensor itself.
fn with_<N: Number>(
    left: &mut Tensor,
    number: N,
    operation: impl Fn(&mut Tensor, &Tensor) -> Result<Tensor>,
) -> Result<()> {
    let kind = left.f_kind()?;
    let number = number.beside(kind)?;
    if left.dim() > 0 || number.f_kind()? == kind {
        return operation(left, &number).map(drop);
    }
    operation(&mut left.f_unsqueeze(0)?, &number).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(kind: Kind) -> [Tensor; 2] {
        let many = Tensor::from_slice(&[-2.0, -0.3, 0.0, 0.1, 0.7, 3.0]).to_kind(kind);
        [many.get(4), many]
    }

    /// Bit by bit, NaN included.
    fn assert_same(what: &str, got: &Tensor, expected: &Tensor) {
        assert_eq!(got.kind(), expected.kind(), "{what}");
        assert_eq!(got.size(), expected.size(), "{what}");
        let equal = got.eq_tensor(expected);
        let both_nan = got.isnan().logical_and(&expected.isnan());
        let same = equal.logical_or(&both_nan).all();
        assert!(
            bool::try_from(same).unwrap(),
            "{what}: {got:?} {expected:?}"
        );
    }

    #[test]
    fn the_same_as_operations_of_libtorch_with_a_scalar() {
        for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
            for x in samples(kind) {
                // No power of two: it is rounded in every kind.
                let n = 0.1;
                let same = |what: &str, got: Result<Tensor>, expected: Tensor| {
                    assert_same(&format!("{what}, {kind:?}"), &got.unwrap(), &expected);
                };
                same("plus", x.plus(n), x.g_add_scalar(n));
                same("minus", x.minus(n), x.g_sub_scalar(n));
                same("times", x.times(n), x.g_mul_scalar(n));
                same("over", x.over(n), x.g_div_scalar(n));
                same("power 2", x.power(2.0), x.pow_tensor_scalar(2.0));
                same("power 1", x.power(1.0), x.pow_tensor_scalar(1.0));
                same("at_least", x.at_least(n), x.clamp_min(n));
                same("at_most", x.at_most(n), x.clamp_max(n));
                same("is_below", x.is_below(n), x.lt(n));
                same("is_at_most", x.is_at_most(n), x.le(n));
                same("is_above", x.is_above(n), x.gt(n));
                same("is_not", x.is_not(n), x.ne(n));
                let mask = x.lt(0.5);
                same("filled", x.filled(&mask, n), x.masked_fill(&mask, n));
            }
        }
    }

    #[test]
    fn the_same_in_place() {
        for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
            for x in samples(kind) {
                let n = 0.1;
                let mut over = x.copy();
                over.over_(n).unwrap();
                assert_same("over_", &over, &x.g_div_scalar(n));
            }
        }
    }

    #[test]
    fn length_is_the_norm() {
        // The square of 300 is more than a `Half` can hold.
        let x = Tensor::from_slice(&[3.0, -4.0, 0.0, 0.0, 300.0, 400.0]).view([3, 2]);
        for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
            let length = x.to_kind(kind).length().unwrap();
            let expected = Tensor::from_slice(&[5.0, 0.0, 500.0]).view([3, 1]);
            assert_same("length", &length, &expected.to_kind(kind));
        }
    }

    #[test]
    fn integers_stay_integers() {
        let whole = Tensor::from_slice(&[-1i64, i64::MAX]);
        assert_same("plus", &whole.plus(3).unwrap(), &whole.g_add_scalar(3));
        assert_same("at_most", &whole.at_most(5).unwrap(), &whole.clamp_max(5));
        assert_same("at_least", &whole.at_least(0).unwrap(), &whole.clamp_min(0));
    }

    #[test]
    fn nan_stays() {
        let nan = Tensor::from_slice(&[f32::NAN]);
        for clamped in [nan.at_least(0.0), nan.at_most(0.0)] {
            assert!(clamped.unwrap().double_value(&[0]).is_nan());
        }
    }

    #[test]
    fn gradients_pass_through() {
        for shape in [&[][..], &[1]] {
            let x = Tensor::from(3f32).reshape(shape).set_requires_grad(true);
            let y = x.times(4.0).unwrap().minus(1.0).unwrap().over(8.0).unwrap();
            y.sum(None).backward();
            assert_eq!(x.grad().double_value(&[]), 0.5);
            assert_eq!(x.grad().size(), shape);
        }
    }

    #[test]
    fn what_fails_is_an_error_and_no_panic() {
        // A variable may not be changed in place while gradients are kept.
        let mut variable = Tensor::from_slice(&[1f32]).set_requires_grad(true);
        let whole = Tensor::from_slice(&[1i64]);
        let three = Tensor::from_slice(&[1f32, 2.0, 3.0]);
        let mask = Tensor::from_slice(&[true, false]);
        let complex = three.to_kind(Kind::ComplexFloat);
        for (what, failed) in [
            ("over_", variable.over_(1.0)),
            ("over_, whole", whole.shallow_clone().over_(0.3)),
            ("filled", three.filled(&mask, 0.0).map(drop)),
            ("is_below", complex.is_below(0.0).map(drop)),
            ("at_least", complex.at_least(0.0).map(drop)),
            ("at_most", complex.at_most(0.0).map(drop)),
        ] {
            assert!(failed.is_err(), "{what}");
        }
        // Nothing is left pending for the next operation to trip over.
        assert_eq!(three.times(2.0).unwrap().double_value(&[2]), 6.0);
    }
}
