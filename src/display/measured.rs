//! What a tensor counts for.

use tch::Tensor;

#[derive(Default)]
pub(super) struct Measured {
    pub(super) count: u64,
    pub(super) megabytes: f64,
    pub(super) address: Option<usize>,
}

impl Measured {
    pub(super) fn of(tensor: &Tensor) -> Self {
        // An undefined tensor has no size, kind or address.
        if !tensor.defined() {
            return Measured::default();
        }
        let count = tensor.numel();
        let bytes = tensor.f_kind().map_or(0, |kind| kind.elt_size_in_bytes());
        // Sparse and other special tensors have no single address, and asking for it panics.
        // `is_set_to` compares addresses, so it fails, harmlessly, where there is none.
        let dense = count > 0 && matches!(tensor.f_is_set_to(tensor), Ok(true));
        let address = dense.then(|| tensor.data_ptr() as usize);
        Measured {
            count: count as u64,
            megabytes: (count * bytes) as f64 / (1024.0 * 1024.0),
            // Tensors without memory, such as those on the device `meta`, are not shared.
            address: address.filter(|&address| address != 0),
        }
    }
}
