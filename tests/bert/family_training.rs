//! A student of the family under a teacher of another model.

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::models::{
    BertConfig, BertForSequenceClassification, BertInputs, LogitsOutput, ModelType,
    SequenceClassification,
};
use textbrewer::weights::{LoadOptions, load_file, state_dict};
use textbrewer::{
    AdamW, AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller, IntermediateMatch,
    Model, Result, TrainingConfig, VecLoader,
};

use crate::{build, ids, mask};

fn config(model_type: ModelType, layers: i64) -> BertConfig {
    BertConfig::new(model_type)
        .vocab_size(40)
        .hidden_size(16)
        .intermediate_size(24)
        .num_attention_heads(4)
        .num_hidden_layers(layers)
        .max_position_embeddings(12)
}

/// Every weight of the student learns, but for fixed positions; the checkpoint is the student.
#[test]
fn distilbert_learns_from_roberta() {
    let folder = tempfile::tempdir().unwrap();
    let (_teacher_variables, teacher) =
        build::<SequenceClassification>(&config(ModelType::Roberta, 4));
    let teacher = teacher.output_hidden_states(true);
    let mut student_config = config(ModelType::DistilBert, 2);
    student_config.sinusoidal_pos_embds = true;
    let (variables, student) = build::<SequenceClassification>(&student_config);
    let student = student.output_hidden_states(true);
    let values = |variables: &VarStore| -> Vec<(String, Tensor)> {
        let named = state_dict(variables).into_iter();
        named.map(|(name, tensor)| (name, tensor.copy())).collect()
    };
    let before = values(&variables);

    let batch = || {
        BertInputs::new(ids())
            .attention_mask(mask())
            .labels(Tensor::from_slice(&[0i64, 1]))
    };
    let mut loader = VecLoader::new(vec![batch(), batch()]).unwrap();
    let adaptor = |batch: &BertInputs, output: &LogitsOutput| -> Result<AdaptorOutput> {
        let adapted = AdaptorOutput::new()
            .logits(&output.logits)
            .hidden(&output.hidden_states);
        Ok(match (&batch.attention_mask, &output.loss) {
            (Some(mask), Some(loss)) => adapted.inputs_mask(mask).losses(loss),
            _ => adapted,
        })
    };
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
        .train_config(
            TrainingConfig::default()
                .device(Device::Cpu)
                .output_dir(folder.path()),
        )
        .distill_config(
            DistillationConfig::default()
                .hard_label_weight(1.0)
                .intermediate_matches([IntermediateMatch::hidden(4, 2).loss("hidden_mse")]),
        )
        .adaptor(adaptor)
        .build()
        .unwrap();
    let run = distiller.train(&mut loader).epochs(1);
    run.optimizer(AdamW::new(1e-2)).run().unwrap();

    let after = values(&variables);
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let is_fixed = name.ends_with("position_embeddings.weight");
        assert_eq!(before == after, is_fixed, "{name}");
    }
    let fresh = VarStore::new(Device::Cpu);
    let again = BertForSequenceClassification::new(&fresh.root(), &student_config).unwrap();
    let path = folder.path().join("gs2.safetensors");
    load_file(&fresh, path, &LoadOptions::new()).unwrap();
    assert_eq!(values(&fresh), after);
    let logits = |model: &BertForSequenceClassification| model.forward(&batch(), false).unwrap();
    assert_eq!(logits(&again).logits, logits(&student).logits);
}
