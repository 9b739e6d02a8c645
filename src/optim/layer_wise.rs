//! Learning rates that shrink from layer to layer.

use std::collections::{BTreeMap, BTreeSet};

use tch::nn::VarStore;

use super::GroupOptions;
use crate::error::{Error, Result};
use crate::weights::state_dict;

/// Parts of the names of what lies below the layers.
const EMBEDDINGS: [&str; 3] = ["embed", "wte", "wpe"];

/// A rule by names for [`Run::param_groups_by`](crate::Run::param_groups_by) and
/// [`param_groups_by`](super::param_groups_by): learning rates that shrink by `decay` from layer
/// to layer towards the embeddings, as in ULMFiT
/// ([Howard and Ruder 2018](https://arxiv.org/abs/1801.06146)).
///
/// Of a model of `L` layers, layer `i`, counted from 0, has the rate `rate · decay^(L − i)`, the
/// embeddings `rate · decay^(L + 1)`, and everything else, such as the head, `rate`. The layers
/// are told by their names, such as `bert.encoder.layer.3.output.dense.weight`: they share what
/// stands before the first part that is a number, with the most numbers there. Embeddings have
/// `embed`, `wte` or `wpe` in their names.
///
/// # Errors
/// When no name has a number, when two stacks have the most layers, as an encoder and a decoder
/// may, or when `rate` or `decay` is not a positive number.
///
/// ```
/// use tch::{nn::VarStore, Device};
/// use textbrewer::models::{BertConfig, BertForSequenceClassification};
/// use textbrewer::optim::layer_wise_decay;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(2);
/// let variables = VarStore::new(Device::Cpu);
/// let model = BertForSequenceClassification::new(&variables.root(), &config)?;
/// let options_of = layer_wise_decay(&variables, 1e-4, 0.9)?;
/// let rate = |name| options_of(name).learning_rate;
/// assert_eq!(rate("classifier.weight"), Some(1e-4));
/// assert_eq!(rate("bert.encoder.layer.1.output.dense.weight"), Some(1e-4 * 0.9));
/// let lowest = rate("bert.embeddings.word_embeddings.weight");
/// assert_eq!(lowest, Some(1e-4 * 0.9f64.powi(3)));
/// # textbrewer::Result::Ok(())
/// ```
pub fn layer_wise_decay(
    variables: &VarStore,
    rate: f64,
    decay: f64,
) -> Result<impl Fn(&str) -> GroupOptions + use<>> {
    for (name, value) in [("rate", rate), ("decay", decay)] {
        if !(value > 0.0 && value.is_finite()) {
            let reason = format!("must be a finite number above 0, is {value}");
            return Err(Error::config(format!("layer_wise_decay, {name}"), reason));
        }
    }
    let mut layers: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (name, _) in state_dict(variables) {
        if let Some((before, layer)) = layer_of(&name) {
            layers.entry(before.to_owned()).or_default().insert(layer);
        }
    }
    let most = layers.values().map(BTreeSet::len).max();
    let mut deepest = layers
        .into_iter()
        .filter(|(_, numbers)| Some(numbers.len()) == most);
    let Some((before, numbers)) = deepest.next() else {
        let reason = "no variable has the number of a layer in its name, as \
                      `encoder.layer.3.weight` has; write the rule as a closure";
        return Err(Error::config("layer_wise_decay", reason));
    };
    if let Some((other, _)) = deepest.next() {
        let reason = format!(
            "`{before}` and `{other}` have {} layers each, so that it is not clear which of them \
             are those of the model; write the rule as a closure",
            numbers.len()
        );
        return Err(Error::config("layer_wise_decay", reason));
    }
    let count = numbers.last().map_or(0, |last| last + 1);
    Ok(move |name: &str| {
        let below_top = match layer_of(name).filter(|(start, _)| *start == before) {
            Some((_, layer)) => count.saturating_sub(layer),
            None if EMBEDDINGS.iter().any(|part| name.contains(part)) => count + 1,
            None => 0,
        };
        let power = i32::try_from(below_top).unwrap_or(i32::MAX);
        GroupOptions::new().learning_rate(rate * decay.powi(power))
    })
}

/// What stands before the first part of a name that is a number, and the number.
fn layer_of(name: &str) -> Option<(&str, usize)> {
    let mut start = 0;
    for part in name.split('.') {
        if let Ok(number) = part.parse() {
            return Some((name.get(..start)?, number));
        }
        start += part.len() + 1;
    }
    None
}
