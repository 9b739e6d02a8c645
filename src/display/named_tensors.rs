//! Named tensors, from whatever holds them.

use tch::Tensor;
use tch::nn::VarStore;

use super::natural_order::natural_order;
use crate::weights::state_dict;

/// Named tensors for [`display_parameters`](crate::display_parameters), converted from a
/// `&VarStore` or a list of `(String, Tensor)`.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::{display_parameters, NamedTensors};
///
/// let tensors = vec![("scale".to_owned(), Tensor::from_slice(&[1f32, 2.0]))];
/// let report = display_parameters(NamedTensors::from(&tensors), None);
/// assert_eq!(report.root.count, 2);
/// ```
#[derive(Debug)]
pub struct NamedTensors(pub(super) Vec<(String, Tensor)>);

/// Sorted by name, with numbers by value: `layer.2` before `layer.10`.
impl From<&VarStore> for NamedTensors {
    fn from(store: &VarStore) -> Self {
        let mut tensors = state_dict(store);
        tensors.sort_by(|(a, _), (b, _)| natural_order(a, b));
        NamedTensors(tensors)
    }
}

/// In the order given.
impl From<&[(String, Tensor)]> for NamedTensors {
    fn from(tensors: &[(String, Tensor)]) -> Self {
        NamedTensors(
            tensors
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect(),
        )
    }
}

/// In the order given.
impl From<&Vec<(String, Tensor)>> for NamedTensors {
    fn from(tensors: &Vec<(String, Tensor)>) -> Self {
        tensors.as_slice().into()
    }
}
