//! Models that hand out some hidden states and attentions only.

mod common;

use common::tiny::{config, fill, first_line, numbers};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::config::LayerSelection;
use textbrewer::models::{BertConfig, BertInputs, BertModel, BertOutput};
use textbrewer::{
    AdamW, AdaptorOutput, DistillationConfig, Distiller, EmdConfig, EmdDistiller, GeneralDistiller,
    IntermediateMatch, Model, Result, Side, StepInfo, VecLoader,
};

/// Without anything drawn: neither weights nor dropout.
fn bert(layers: i64, seed: i64) -> (VarStore, BertModel) {
    let config = BertConfig::default()
        .vocab_size(30)
        .hidden_size(8)
        .intermediate_size(16)
        .num_attention_heads(2)
        .num_hidden_layers(layers)
        .hidden_dropout_prob(0.0)
        .attention_probs_dropout_prob(0.0);
    let variables = VarStore::new(Device::Cpu);
    let model = BertModel::new(&variables.root(), &config).unwrap();
    fill(&variables, seed as f64);
    (variables, model)
}

fn batch(seed: i64) -> BertInputs {
    let ids = (0..15).map(|place| (seed + place * place * 7) % 30);
    let ids = Tensor::from_slice(&ids.collect::<Vec<_>>()).view([3, 5]);
    let mask = Tensor::from_slice2(&[[1i64; 5], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]);
    BertInputs::new(ids).attention_mask(mask)
}

fn adaptor(batch: &BertInputs, output: &BertOutput) -> Result<AdaptorOutput> {
    let mask = batch.attention_mask.as_ref().unwrap();
    let losses = output.last_hidden_state.square().mean(Kind::Float);
    Ok(AdaptorOutput::new()
        .hidden(&output.hidden_states)
        .attention(&output.attentions)
        .losses(&losses)
        .inputs_mask(mask))
}

fn defined(states: &[Tensor]) -> Vec<usize> {
    let states = states.iter().enumerate();
    states
        .filter_map(|(index, state)| state.defined().then_some(index))
        .collect()
}

fn first_step() -> StepInfo {
    StepInfo::new(0, 0, 1, 1)
}

/// Hidden states by all kinds of positions, two at once, and from the end.
fn matches() -> DistillationConfig {
    DistillationConfig::default()
        .hard_label_weight(0.5)
        .intermediate_matches([
            IntermediateMatch::hidden(0, 0),
            IntermediateMatch::hidden(-1, -1),
            IntermediateMatch::hidden([2, 3], [1, 2]).loss("nst"),
        ])
}

/// The student's numbers after four steps.
fn trained(
    distilling: DistillationConfig,
    teacher_layers: LayerSelection,
    student_layers: LayerSelection,
) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let (_teacher_vars, teacher) = bert(4, 1);
    let (student_vars, student) = bert(2, 2);
    let teacher = teacher.output_hidden_states(teacher_layers);
    let student = student.output_hidden_states(student_layers);
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student_vars)
        .train_config(config(folder.path()))
        .distill_config(distilling)
        .adaptor(adaptor)
        .build()
        .unwrap();
    let mut loader = VecLoader::new(vec![batch(3), batch(4)]).unwrap();
    let optimizer = AdamW::new(1e-2);
    let run = distiller.train(&mut loader).epochs(2).optimizer(optimizer);
    run.run().unwrap();
    numbers(&student_vars)
}

#[test]
fn training_on_selected_layers_is_training_on_all_to_the_last_bit() {
    let caching = matches().is_caching_logits(true).cache_features(true);
    for distilling in [matches(), caching] {
        let all = trained(distilling.clone(), true.into(), true.into());
        let teacher = distilling.layers(Side::Teacher, "hidden");
        let student = distilling.layers(Side::Student, "hidden");
        assert!(all == trained(distilling, teacher, student));
    }
}

#[test]
fn a_configuration_tells_what_its_matches_need() {
    let config = matches();
    assert_eq!(config.layers(Side::Teacher, "hidden"), [-1, 0, 2, 3].into());
    assert_eq!(config.layers(Side::Student, "hidden"), [-1, 0, 1, 2].into());
    assert!(config.layers(Side::Student, "attention").is_none());
    let config = DistillationConfig::default().intermediate_matches([
        IntermediateMatch::attention(3, 1),
        IntermediateMatch::attention(5, 2).teacher(1),
    ]);
    assert_eq!(config.layers_of_teacher(0, "attention"), [3].into());
    assert_eq!(config.layers_of_teacher(1, "attention"), [5].into());
    assert_eq!(config.layers(Side::Teacher, "attention"), [3, 5].into());
    assert_eq!(config.layers(Side::Student, "attention"), [1, 2].into());
}

#[test]
fn only_the_layers_asked_for_are_there() {
    let (_variables, model) = bert(4, 1);
    let all = model.output_hidden_states(true).output_attentions(true);
    let inputs = batch(2);
    let reference = all.forward(&inputs, false).unwrap();
    assert_eq!(defined(&reference.hidden_states), [0, 1, 2, 3, 4]);
    assert_eq!(defined(&reference.attentions), [0, 1, 2, 3]);

    let model = all.output_hidden_states([0, -2]).output_attentions([1, 9]);
    let output = model.forward(&inputs, false).unwrap();
    assert_eq!(
        (output.hidden_states.len(), output.attentions.len()),
        (5, 4)
    );
    assert_eq!(defined(&output.hidden_states), [0, 3]);
    assert_eq!(defined(&output.attentions), [1]);
    // Layer 0 used the fused kernel here, which rounds in another order.
    let difference = &output.attentions[1] - &reference.attentions[1];
    assert!(difference.abs().max().double_value(&[]) < 1e-6);

    // Nothing rounds otherwise before the first layer's attention.
    let model = model.output_hidden_states(false).output_attentions([0]);
    let output = model.forward(&inputs, false).unwrap();
    assert!(output.hidden_states.is_empty());
    assert_eq!(defined(&output.attentions), [0]);
    assert_eq!(output.attentions[0], reference.attentions[0]);
}

#[test]
fn matched_attentions_are_those_of_the_layers_asked_for() {
    let distilling =
        DistillationConfig::default().intermediate_matches([IntermediateMatch::attention(-1, 0)]);
    let loss = |teacher_layers: LayerSelection, student_layers: LayerSelection| {
        let folder = tempfile::tempdir().unwrap();
        let (_teacher_vars, teacher) = bert(4, 1);
        let (student_vars, student) = bert(2, 2);
        let teacher = teacher.output_attentions(teacher_layers);
        let student = student.output_attentions(student_layers);
        let mut distiller = GeneralDistiller::builder(&teacher, &student, &student_vars)
            .train_config(config(folder.path()))
            .distill_config(distilling.clone())
            .adaptor(adaptor)
            .build()
            .unwrap();
        let report = distiller.train_on_batch(&batch(3), &first_step()).unwrap();
        report.losses()[0].loss.double_value(&[])
    };
    let teacher = distilling.layers(Side::Teacher, "attention");
    let student = distilling.layers(Side::Student, "attention");
    let (all, selected) = (loss(true.into(), true.into()), loss(teacher, student));
    let ratio = all / selected;
    assert!((ratio - 1.0).abs() < 1e-5, "{all}, {selected}");
}

#[test]
fn what_is_needed_and_not_kept_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_teacher_vars, teacher) = bert(4, 1);
    let teacher = teacher.output_hidden_states([0]);
    let (student_vars, student) = bert(2, 2);
    let student = student.output_hidden_states(true);
    // The cache passes over what is not there, and the match tells of it in every epoch.
    for caching in [false, true] {
        let distilling = matches().is_caching_logits(caching).cache_features(caching);
        let mut distiller = GeneralDistiller::builder(&teacher, &student, &student_vars)
            .train_config(config(folder.path()))
            .distill_config(distilling)
            .adaptor(adaptor)
            .build()
            .unwrap();
        let step = first_step().with_batch_id(Some(0));
        for _ in 0..2 {
            assert_eq!(
                first_line(distiller.train_on_batch(&batch(3), &step)),
                "intermediate_matches[1] (`hidden_mse`): teacher layer -1 of `hidden` was not \
                 kept; ask the model for it (`layers` of the configuration lists those that \
                 are needed)"
            );
        }
    }
    let hidden_only = EmdConfig::default().attention_weight(0.0);
    for caching in [false, true] {
        let distilling = DistillationConfig::default().is_caching_logits(caching);
        let mut emd = EmdDistiller::builder(&teacher, &student, &student_vars)
            .train_config(config(folder.path()))
            .distill_config(distilling.cache_features(caching).emd(hidden_only.clone()))
            .adaptor(adaptor)
            .build()
            .unwrap();
        let step = first_step().with_batch_id(Some(0));
        assert_eq!(
            first_line(emd.train_on_batch(&batch(3), &step)),
            "`emd` (unless its hidden_weight is 0): teacher layer 1 of `hidden` was not \
             kept; ask the model for it (`layers` of the configuration lists those that are needed)"
        );
    }
}

#[test]
fn emd_needs_all_layers_of_what_it_matches_of_both_sides() {
    let emd = EmdConfig::default().attention_weight(0.0);
    let config = DistillationConfig::default().emd(emd);
    for side in [Side::Teacher, Side::Student] {
        assert_eq!(config.layers(side, "hidden"), LayerSelection::All);
        assert!(config.layers(side, "attention").is_none());
    }
    assert_eq!(config.layers_of_teacher(0, "hidden"), LayerSelection::All);
    assert!(config.layers_of_teacher(1, "hidden").is_none());
}
