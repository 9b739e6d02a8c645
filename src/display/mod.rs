//! Counting the parameters of a model.

use std::collections::HashSet;

use measured::Measured;

mod measured;
mod named_tensors;
mod natural_order;
mod node;
mod report;

pub use named_tensors::NamedTensors;
pub use node::ParameterNode;
pub use report::ParameterReport;

/// Counts a model's parameters by the levels of their names.
///
/// The table shows `max_level` levels below the root, or all; the tree always has all.
/// Tensors that share memory are counted where they come first, and marked `(shared)` after
/// that. Every row has the numbers of all that is below it; TextBrewer leaves them out where a
/// level has only one below it.
///
/// ```
/// use tch::{nn, Device};
/// use textbrewer::display_parameters;
///
/// let store = nn::VarStore::new(Device::Cpu);
/// nn::linear(store.root() / "dense", 256, 512, Default::default());
/// nn::layer_norm(store.root() / "norm", vec![512], Default::default());
/// let report = display_parameters(&store, Some(1));
/// assert_eq!(report.root.count, 256 * 512 + 512 + 512 + 512);
/// assert_eq!(report.to_string(), "\
/// LAYER      PARAMETERS    RATIO  MEMORY (MB)
/// model         132,608  100.00%         0.51
///   dense       131,584   99.23%         0.50
///   norm          1,024    0.77%         0.00");
/// ```
pub fn display_parameters(
    source: impl Into<NamedTensors>,
    max_level: Option<usize>,
) -> ParameterReport {
    let NamedTensors(tensors) = source.into();
    let mut seen = HashSet::new();
    let mut root = ParameterNode::new("model", "model".to_owned());
    for (name, tensor) in &tensors {
        let measured = Measured::of(tensor);
        let shared = measured
            .address
            .is_some_and(|address| !seen.insert(address));
        let counted = if shared {
            Measured::default()
        } else {
            measured
        };
        root.add(name, counted, shared);
    }
    ParameterReport { root, max_level }
}
