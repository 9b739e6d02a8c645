//! Reading and writing files of weights, and loading them into models.
//!
//! The format is [safetensors](https://github.com/huggingface/safetensors), which Python's
//! `safetensors` and `transformers` read and write; Python's pickles are not read.
//! Every name, shape and dtype is checked before anything is loaded.

mod compare;
mod dtype;
mod file;
mod header;
mod layer_pattern;
mod load;
mod names;
mod pairing;
mod prefix;
mod read;
mod transfer;
mod transfer_report;
mod transfer_source;
mod write;

pub(crate) use compare::check_restored;
pub(crate) use dtype::{to_dtype, to_kind};
pub use file::WeightsFile;
pub use load::{LoadOptions, LoadReport, load_file, load_into};
pub(crate) use load::{check_fit, load_opened};
pub use names::Names;
pub use read::{read, read_metadata};
pub use transfer::Transfer;
pub use transfer_report::{Copied, Kept, KeptReason, TransferReport};
pub use write::save;
pub(crate) use write::write_to;

use tch::Tensor;
use tch::nn::VarStore;

use crate::error::Result;

/// Kind and shape of a tensor, for error messages.
pub(crate) fn kind_and_shape(tensor: &Tensor) -> Result<String> {
    if !tensor.defined() {
        return Ok("an undefined tensor".to_owned());
    }
    Ok(format!("{:?} {:?}", tensor.f_kind()?, tensor.size()))
}

/// All variables of `variables`, trainable or not, sorted by name. The tensors share memory
/// with the variables.
///
/// ```
/// use tch::{nn::VarStore, Device};
/// use textbrewer::weights::state_dict;
///
/// let variables = VarStore::new(Device::Cpu);
/// let mut scale = variables.root().ones("scale", &[2]);
/// variables.root().zeros("bias", &[2]);
/// let state = state_dict(&variables);
/// let names: Vec<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
/// assert_eq!(names, ["bias", "scale"]);
/// // The memory is shared.
/// tch::no_grad(|| scale.fill_(7.0));
/// assert_eq!(state[1].1.double_value(&[0]), 7.0);
/// ```
pub fn state_dict(variables: &VarStore) -> Vec<(String, Tensor)> {
    let mut named: Vec<_> = variables.variables().into_iter().collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    named
}
