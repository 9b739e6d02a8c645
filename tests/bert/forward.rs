//! States, masks, dropout and fresh weights: the model against itself by another way.

use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertInputs, BertModel, MaskedLM, NoHead, SequenceClassification};
use textbrewer::weights::state_dict;
use textbrewer::{Batch, Model};

use crate::{build, ids, largest_difference, mask, small};

#[test]
fn fused_attention_is_the_attention_that_is_shown() {
    let (_variables, model) = build::<NoHead>(&small());
    let causal = Tensor::ones([2, 6, 6], (Kind::Int64, Device::Cpu)).tril(0);
    let inputs: Vec<_> = [
        None,
        Some(mask()),
        Some(mask().to_kind(Kind::Bool)),
        Some(causal),
    ]
    .map(|attention_mask| {
        let mut inputs = BertInputs::new(ids());
        inputs.attention_mask = attention_mask;
        inputs
    })
    .into();
    let run = |model: &BertModel| -> Vec<_> {
        let outputs = inputs.iter().map(|i| model.forward(i, false).unwrap());
        outputs.collect()
    };
    let fused = run(&model);
    let shown = run(&model.output_attentions(true));
    for (fused, shown) in fused.iter().zip(&shown) {
        assert!(fused.attentions.is_empty() && fused.hidden_states.is_empty());
        assert_eq!(shown.attentions.len(), 3);
        let difference = largest_difference(&fused.last_hidden_state, &shown.last_hidden_state);
        assert!(difference < 1e-5, "{difference}");
    }
    // The masks matter.
    let difference = largest_difference(&fused[0].last_hidden_state, &fused[3].last_hidden_state);
    assert!(difference > 1e-2, "{difference}");
}

#[test]
fn states_are_all_there() {
    let config = small().output_hidden_states(true).output_attentions(true);
    let (_variables, model) = build::<SequenceClassification>(&config);
    let inputs = BertInputs::new(ids()).attention_mask(mask());
    let output = model.forward(&inputs, false).unwrap();
    assert_eq!(output.logits.size(), [2, 3]);
    assert_eq!(output.pooler_output.unwrap().size(), [2, 16]);
    assert!(output.loss.is_none());
    assert_eq!(output.hidden_states.len(), 4);
    assert_eq!(output.attentions.len(), 3);
    for hidden in &output.hidden_states {
        assert_eq!(hidden.size(), [2, 6, 16]);
    }
    for attention in &output.attentions {
        assert_eq!(attention.size(), [2, 4, 6, 6]);
        let sums = attention.sum_dim_intlist(-1, false, Kind::Float);
        assert!(largest_difference(&sums, &sums.ones_like()) < 1e-6);
        let padding = attention.get(1).narrow(-1, 4, 2);
        assert_eq!(padding.max().double_value(&[]), 0.0);
    }
    // The last hidden state is the last layer's, and layers differ.
    let (_variables, bare) = build::<NoHead>(&config);
    let output = bare.forward(&inputs, false).unwrap();
    assert_eq!(output.hidden_states[3], output.last_hidden_state);
    assert_ne!(output.hidden_states[2], output.last_hidden_state);
    let quiet = bare.output_hidden_states(false).output_attentions(false);
    let output = quiet.forward(&inputs, false).unwrap();
    assert!(output.hidden_states.is_empty() && output.attentions.is_empty());
}

#[test]
fn padding_changes_nothing_at_the_tokens() {
    for attentions in [false, true] {
        let (_variables, model) = build::<NoHead>(&small());
        let model = model.output_attentions(attentions);
        let padded = BertInputs::new(ids()).attention_mask(mask());
        let padded = model.forward(&padded, false).unwrap().last_hidden_state;
        let alone = BertInputs::new(ids().narrow(0, 1, 1).narrow(1, 0, 4));
        let alone = model.forward(&alone, false).unwrap().last_hidden_state;
        let tokens = padded.narrow(0, 1, 1).narrow(1, 0, 4);
        assert!(largest_difference(&tokens, &alone) < 1e-5);
    }
}

#[test]
fn a_sequence_of_padding_alone_is_no_nan() {
    for attentions in [false, true] {
        let (_variables, model) = build::<NoHead>(&small());
        let model = model.output_attentions(attentions);
        let inputs = BertInputs::new(ids()).attention_mask(mask().zeros_like());
        let output = model.forward(&inputs, false).unwrap();
        let finite = output.last_hidden_state.isfinite().all();
        assert!(bool::try_from(finite).unwrap());
        // As in transformers, it attends to all positions as if there were no scores.
        for attention in output.attentions {
            assert!(largest_difference(&attention, &attention.full_like(1.0 / 6.0)) < 1e-6);
        }
    }
}

#[test]
fn absent_inputs_are_zeros_and_counting() {
    let (_variables, model) = build::<NoHead>(&small());
    let implicit = model.forward(&BertInputs::new(ids()), false).unwrap();
    let positions = Tensor::arange(6, (Kind::Int64, Device::Cpu)).unsqueeze(0);
    let explicit = BertInputs::new(ids())
        .token_type_ids(ids().zeros_like())
        .position_ids(positions.expand([2, 6], false))
        .attention_mask(ids().ones_like());
    let explicit = model.forward(&explicit, false).unwrap();
    let difference = largest_difference(&implicit.last_hidden_state, &explicit.last_hidden_state);
    assert!(difference < 1e-6, "{difference}");
    for changed in [
        BertInputs::new(ids()).token_type_ids(ids().ones_like()),
        BertInputs::new(ids()).position_ids(positions.flip([1])),
    ] {
        let changed = model.forward(&changed, false).unwrap();
        assert!(largest_difference(&implicit.last_hidden_state, &changed.last_hidden_state) > 1e-2);
    }
}

#[test]
fn dropout_only_in_training() {
    let config = small()
        .attention_probs_dropout_prob(0.5)
        .output_attentions(true);
    let (_variables, model) = build::<SequenceClassification>(&config);
    let inputs = BertInputs::new(ids());
    let run = |train| model.forward(&inputs, train).unwrap();
    assert_eq!(run(false).logits, run(false).logits);
    assert_ne!(run(true).logits, run(true).logits);
    // As in transformers, what is returned is what was used: with holes, scaled up.
    let used = &run(true).attentions[0];
    let zeros = used.eq(0.0).sum(Kind::Int64).int64_value(&[]);
    assert!(zeros > 0 && zeros < used.numel() as i64);
    let none = small()
        .hidden_dropout_prob(0.0)
        .attention_probs_dropout_prob(0.0);
    let (_variables, model) = build::<SequenceClassification>(&none);
    let run = |train| model.forward(&inputs, train).unwrap().logits;
    assert_eq!(run(true), run(false));
    // The classifier's own dropout, with the others off.
    let (_variables, model) = build::<SequenceClassification>(&none.classifier_dropout(0.5));
    let run = |train| model.forward(&inputs, train).unwrap().logits;
    assert_ne!(run(true), run(true));
    assert_eq!(run(false), run(false));
}

#[test]
fn fresh_weights() {
    let config = small().hidden_size(64).initializer_range(0.02);
    let (variables, model) = build::<MaskedLM>(&config);
    for (name, tensor) in state_dict(&variables) {
        assert!(tensor.requires_grad(), "{name}");
        if name.ends_with("LayerNorm.weight") {
            assert_eq!(tensor, tensor.ones_like(), "{name}");
        } else if name.ends_with("bias") {
            assert_eq!(tensor, tensor.zeros_like(), "{name}");
        } else {
            // The smallest matrix has 128 elements: 5 standard errors of the deviation.
            let tolerance = 5.0 / (2.0 * tensor.numel() as f64).sqrt();
            let ratio = tensor.std(false).double_value(&[]) / 0.02;
            assert!((ratio - 1.0).abs() < tolerance + 0.02, "{name}: {ratio}");
        }
    }
    let words = &variables.variables()["bert.embeddings.word_embeddings.weight"];
    assert_eq!(words.get(0), words.get(0).zeros_like());
    // The embedding of padding is not trained by the embedding layer.
    let bare = build::<NoHead>(&config);
    let output = bare.1.forward(&BertInputs::new(ids()), false).unwrap();
    output
        .last_hidden_state
        .pow_tensor_scalar(2)
        .narrow(-1, 0, 3)
        .sum(Kind::Float)
        .backward();
    let gradient = bare.0.variables()["embeddings.word_embeddings.weight"].grad();
    let row = |i: i64| gradient.get(i).abs().sum(Kind::Float).double_value(&[]);
    assert_eq!(row(0), 0.0);
    assert!(row(5) > 0.0);
    drop(model);
}

#[test]
fn batches_move_whole() {
    let all = BertInputs::new(ids())
        .attention_mask(mask())
        .token_type_ids(ids().zeros_like())
        .position_ids(ids().ones_like())
        .labels(Tensor::from_slice(&[1i64, 2]))
        .answers(
            Tensor::from_slice(&[3i64, 4]),
            Tensor::from_slice(&[5i64, 6]),
        );
    let moved = all.to_device(Device::Cpu).unwrap();
    assert_eq!(format!("{moved:?}"), format!("{all:?}"));
    assert_eq!(moved.end_positions.unwrap(), Tensor::from_slice(&[5i64, 6]));
}
