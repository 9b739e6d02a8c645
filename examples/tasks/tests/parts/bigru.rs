//! The BiGRU: padding changes nothing, and its states are those of PyTorch's GRU.

use tasks::models::{BiGru, BiGruConfig};
use tch::nn::{self, RNN, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::Model;
use textbrewer::models::{BertInputs, NoHead};

fn config() -> BiGruConfig {
    BiGruConfig {
        model_type: BiGruConfig::MODEL_TYPE.to_owned(),
        vocab_size: 11,
        embedding_size: 5,
        hidden_size: 4,
        dropout: 0.1,
        num_labels: 2,
    }
}

fn inputs(ids: &Tensor) -> BertInputs {
    BertInputs::new(ids.shallow_clone()).attention_mask(ids.ne(0))
}

fn close(one: &Tensor, other: &Tensor) -> bool {
    one.size() == other.size() && (one - other).abs().max().double_value(&[]) < 1e-6
}

#[test]
fn padding_changes_nothing() {
    tch::manual_seed(3);
    let variables = VarStore::new(Device::Cpu);
    let gru = BiGru::<NoHead>::new(&variables.root(), &config()).unwrap();
    let ids = Tensor::from_slice2(&[[1i64, 2, 3, 0, 0], [4, 5, 6, 7, 8], [9, 0, 0, 0, 0]]);
    let all = gru.forward(&inputs(&ids), false).unwrap();
    for (row, length) in [(0, 3), (1, 5), (2, 1)] {
        let alone = ids.narrow(0, row, 1).narrow(1, 0, length);
        let alone = gru.forward(&inputs(&alone), false).unwrap();
        let states = all.last_hidden_state.narrow(0, row, 1).narrow(1, 0, length);
        assert!(close(&states, &alone.last_hidden_state), "row {row}");
        let pooled =
            |output: &textbrewer::models::BertOutput| output.pooler_output.as_ref().unwrap().copy();
        assert!(
            close(&pooled(&all).narrow(0, row, 1), &pooled(&alone)),
            "row {row}"
        );
    }
}

#[test]
fn states_are_those_of_a_bidirectional_gru_of_libtorch() {
    tch::manual_seed(4);
    let variables = VarStore::new(Device::Cpu);
    let gru = BiGru::<NoHead>::new(&variables.root(), &config()).unwrap();
    let other = VarStore::new(Device::Cpu);
    let options = nn::RNNConfig {
        bidirectional: true,
        ..Default::default()
    };
    let reference = nn::gru(other.root(), 5, 4, options);
    let own = variables.variables();
    for (name, mut value) in other.variables() {
        tch::no_grad(|| value.copy_(&own[&format!("gru.{name}")]));
    }
    let ids = Tensor::from_slice2(&[[1i64, 2, 3], [4, 5, 6]]);
    let words = &own["embeddings.word_embeddings.weight"];
    let words = Tensor::embedding(words, &ids, -1, false, false);
    let (expected, _) = reference.seq(&words);
    let states = gru.forward(&inputs(&ids), false).unwrap().last_hidden_state;
    assert_eq!(expected.kind(), Kind::Float);
    assert!(close(&states, &expected));
}
