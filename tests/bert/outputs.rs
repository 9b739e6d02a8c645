//! Outputs that are made outside of the crate.

use tch::Tensor;
use textbrewer::models::{BertOutput, LogitsOutput};

fn numbered(number: i64) -> Tensor {
    Tensor::from(number)
}

fn numbers(tensors: &[Tensor]) -> Vec<i64> {
    tensors
        .iter()
        .map(|tensor| tensor.int64_value(&[]))
        .collect()
}

fn parts(output: &LogitsOutput) -> [Vec<i64>; 5] {
    let optional = |tensor: &Option<Tensor>| numbers(tensor.as_slice());
    [
        optional(&output.loss),
        optional(&output.pooler_output),
        numbers(&output.hidden_states),
        numbers(&output.attentions),
        numbers(&output.qkv),
    ]
}

#[test]
fn logits_come_with_what_was_set_and_nothing_else() {
    let bare = || LogitsOutput::new(numbered(0));
    assert_eq!(bare().logits, numbered(0));
    assert_eq!(parts(&bare()), [const { Vec::<i64>::new() }; 5]);

    let output = bare()
        .loss(numbered(1))
        .pooler_output(numbered(2))
        .hidden_states(vec![numbered(3), numbered(4)])
        .attentions(vec![numbered(5)])
        .qkv(vec![numbered(6)]);
    let states = [vec![3, 4], vec![5], vec![6]];
    let with = |loss: &[i64], pooled: &[i64]| {
        let [hidden, attention, qkv] = states.clone();
        [loss.to_vec(), pooled.to_vec(), hidden, attention, qkv]
    };
    assert_eq!(parts(&output), with(&[1], &[2]));
    let output = output.loss(None).pooler_output(None);
    assert_eq!(parts(&output), with(&[], &[]));
}

#[test]
fn logits_take_over_the_states_of_the_model_below() {
    let mut encoded = BertOutput::new(numbered(1));
    encoded.pooler_output = Some(numbered(2));
    encoded.hidden_states = vec![numbered(3)];
    encoded.attentions = vec![numbered(4), numbered(5)];
    encoded.qkv = vec![numbered(7)];
    let output = LogitsOutput::new(numbered(0));
    let output = output.loss(numbered(6)).encoded(encoded);
    assert_eq!(output.logits, numbered(0));
    assert_eq!(
        parts(&output),
        [vec![6], vec![2], vec![3], vec![4, 5], vec![7]]
    );
}
