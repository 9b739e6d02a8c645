//! The element types that both safetensors and libtorch know.

use safetensors::Dtype;
use tch::Kind;

const PAIRS: [(Dtype, Kind); 13] = [
    (Dtype::BOOL, Kind::Bool),
    (Dtype::U8, Kind::Uint8),
    (Dtype::I8, Kind::Int8),
    (Dtype::I16, Kind::Int16),
    (Dtype::I32, Kind::Int),
    (Dtype::I64, Kind::Int64),
    (Dtype::F8_E5M2, Kind::Float8e5m2),
    (Dtype::F8_E4M3, Kind::Float8e4m3fn),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::C64, Kind::ComplexFloat),
];

pub(crate) fn to_kind(dtype: Dtype) -> Option<Kind> {
    let found = PAIRS.iter().find(|(candidate, _)| *candidate == dtype);
    found.map(|(_, kind)| *kind)
}

pub(crate) fn to_dtype(kind: Kind) -> Option<Dtype> {
    let found = PAIRS.iter().find(|(_, candidate)| *candidate == kind);
    found.map(|(dtype, _)| *dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_on_sizes() {
        // Reading trusts this: bytes are handed to libtorch by the file's count.
        for (dtype, kind) in PAIRS {
            assert_eq!(dtype.bitsize(), 8 * kind.elt_size_in_bytes(), "{dtype}");
            assert_eq!(to_kind(dtype), Some(kind));
            assert_eq!(to_dtype(kind), Some(dtype));
        }
    }
}
