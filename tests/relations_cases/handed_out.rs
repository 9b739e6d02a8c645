//! Queries, keys and values that BERT and its family hand out.

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertModel, ModelType};
use textbrewer::{Model, weights};

use crate::common::assert_close;
use crate::common::tiny::fill;
use crate::{alone, apart, batch, mask, shape, without_dropout};

#[test]
fn bert_hands_out_the_queries_keys_and_values_of_the_layers_that_are_asked_for() {
    let _alone = alone();
    for (model, names) in [
        (ModelType::Bert, "attention.self.{query,key,value}"),
        (ModelType::Roberta, "attention.self.{query,key,value}"),
        (ModelType::Electra, "attention.self.{query,key,value}"),
        (ModelType::DistilBert, "attention.{q,k,v}_lin"),
    ] {
        let config = without_dropout(shape(model, 8, 2, 3));
        let variables = VarStore::new(Device::Cpu);
        let bert = BertModel::new(&variables.root(), &config)
            .unwrap()
            .output_hidden_states(true)
            .output_attentions(true)
            .output_qkv([1, -1]);
        fill(&variables, 0.3);
        let output = bert.forward(&batch(3), false).unwrap();
        let defined: Vec<bool> = output.qkv.iter().map(Tensor::defined).collect();
        assert_eq!(defined, [false, true, true], "{model:?}");

        let state = weights::state_dict(&variables);
        for layer in [1, 2] {
            let together = &output.qkv[layer];
            assert_eq!(together.size(), [3, 3, 5, 8]);
            let (before, after) = names.split_once('{').unwrap();
            let (parts, after) = after.split_once('}').unwrap();
            for (part, got) in parts.split(',').zip(apart(together)) {
                let name = format!("layer.{layer}.{before}{part}{after}");
                let of = |kind: &str| {
                    let name = format!("{name}.{kind}");
                    let found = state.iter().find(|(known, _)| known.ends_with(&name));
                    &found.unwrap_or_else(|| panic!("no {name}")).1
                };
                let expected = output.hidden_states[layer].linear(of("weight"), Some(of("bias")));
                assert_close(&format!("{model:?} {name}"), &got, &expected);
            }
            // They are what the layer's attention is computed of.
            let [query, key, _] =
                apart(together).map(|part| part.view([3, 5, 2, 4]).transpose(1, 2));
            let scores: Tensor = query.matmul(&key.transpose(2, 3)) / 2.0;
            let padding = mask().logical_not().view([3, 1, 1, 5]);
            let expected = scores.masked_fill(&padding, -1e9).softmax(-1, Kind::Float);
            assert_close("attention", &output.attentions[layer], &expected);
        }
    }
}

#[test]
fn asking_for_them_changes_nothing_else() {
    let _alone = alone();
    let variables = VarStore::new(Device::Cpu);
    let bert = BertModel::new(&variables.root(), &shape(ModelType::Bert, 8, 2, 3)).unwrap();
    fill(&variables, 0.3);
    let train = |bert: &BertModel| {
        tch::manual_seed(5);
        let output = bert.forward(&batch(3), true).unwrap();
        (output.last_hidden_state, output.qkv)
    };
    let (expected, none) = train(&bert);
    assert!(none.is_empty());
    let (got, qkv) = train(&bert.output_qkv(true));
    assert_eq!(got, expected);
    assert_eq!(qkv.len(), 3);
}
