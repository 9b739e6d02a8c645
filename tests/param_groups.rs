//! Variables put into groups, by parts of their names and by functions of them.

mod common;

use common::elements;
use common::tiny::{Net, batch, config, fill, first_line, general, loader, numbers, square};
use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::optim::{
    AdamW, GroupOptions, LossScaling, Optimizer, ParamGroup, Sgd, Split, layer_wise_decay,
    param_groups, param_groups_by,
};
use textbrewer::{
    BasicTrainer, DistillationConfig, Distiller, IntermediateMatch, Model, ProjectionSpec, Run,
};

/// `embedding`, `layer.0` to `layer.2` with weight and bias, and `frozen`, made out of order.
fn variables() -> VarStore {
    let variables = VarStore::new(Device::Cpu);
    let root = variables.root();
    for layer in [2, 0, 1] {
        let path = &root / "layer" / layer;
        let _ = path.ones("weight", &[2]);
        let _ = path.ones("bias", &[1]);
    }
    let _ = root.ones("frozen", &[3]).set_requires_grad(false);
    let _ = root.ones("embedding", &[4]);
    variables
}

/// The name of each group and the names of its parameters.
fn shown(groups: &[ParamGroup]) -> Vec<(&str, Vec<&str>)> {
    groups
        .iter()
        .map(|group| {
            let names = group.parameters.iter().map(|(name, _)| name.as_str());
            (group.name.as_str(), names.collect())
        })
        .collect()
}

#[test]
fn equal_options_share_a_group() {
    let variables = variables();
    let mut asked = Vec::new();
    let groups = param_groups_by(&variables, |name| {
        asked.push(name.to_owned());
        let options = match name.strip_prefix("layer.") {
            None => return GroupOptions::new(),
            Some(rest) if rest.starts_with('2') => GroupOptions::new().learning_rate(1.8e-5),
            Some(_) => GroupOptions::new().learning_rate(0.001).momentum(0.9),
        };
        match name.ends_with("bias") {
            true => options.weight_decay(0.0),
            false => options,
        }
    });
    let expected = [
        ("default", vec!["embedding"]),
        (
            "lr=0.001, weight_decay=0.0, momentum=0.9",
            vec!["layer.0.bias", "layer.1.bias"],
        ),
        (
            "lr=0.001, momentum=0.9",
            vec!["layer.0.weight", "layer.1.weight"],
        ),
        ("lr=1.8e-5, weight_decay=0.0", vec!["layer.2.bias"]),
        ("lr=1.8e-5", vec!["layer.2.weight"]),
    ];
    assert_eq!(shown(&groups), expected);
    // Each once, and what is frozen not at all.
    assert_eq!(asked.len(), 7);
    assert!(!asked.iter().any(|name| name == "frozen"), "{asked:?}");
}

#[test]
fn every_option_is_in_the_name_of_its_group() {
    let variables = variables();
    let options = GroupOptions::new().betas(0.9, 0.98).eps(1e-6);
    let groups = param_groups_by(&variables, |_| options.clone());
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].name, "eps=1e-6, betas=(0.9, 0.98)");
    assert_eq!(groups[0].options, options);
}

#[test]
fn numbers_in_names_are_short_and_names_are_distinct() {
    let variables = variables();
    let rate = |name: &str| match name {
        "layer.0.bias" | "layer.0.weight" => 1e-3 * 0.9f64.powi(3),
        "layer.1.bias" | "layer.1.weight" => 0.000729,
        "layer.2.bias" => 0.00072904,
        "embedding" => 1.0 / 3.0e5,
        _ => 2.0,
    };
    assert_ne!(rate("layer.0.bias"), rate("layer.1.bias"));
    let groups = param_groups_by(&variables, |name| {
        GroupOptions::new().learning_rate(rate(name))
    });
    let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    let expected = [
        "lr=3.333e-6",
        "lr=0.000729",
        "lr=0.000729 (2)",
        "lr=0.000729 (3)",
        "lr=2.0",
    ];
    assert_eq!(names, expected);
    // The rates themselves are not rounded.
    for group in &groups {
        for (name, _) in &group.parameters {
            assert_eq!(group.options.learning_rate, Some(rate(name)));
        }
    }
}

#[test]
fn the_variables_themselves_are_in_the_groups() {
    let variables = variables();
    let mut optimizer = Sgd::new(0.5);
    for group in param_groups_by(&variables, |name| {
        GroupOptions::new().learning_rate(if name == "embedding" { 0.25 } else { 0.0 })
    }) {
        optimizer.add_group(group).unwrap();
    }
    let known = variables.variables();
    let all = known.values().filter(|tensor| tensor.requires_grad());
    let sum = all.map(|tensor| tensor.sum(None)).sum::<Tensor>();
    sum.backward();
    optimizer.step(1.0).unwrap();
    assert_eq!(known["embedding"].sum(None).double_value(&[]), 4.0 * 0.75);
    assert_eq!(known["layer.0.weight"].sum(None).double_value(&[]), 2.0);
}

#[test]
fn parts_of_names_are_spared_the_decay() {
    let variables = variables();
    let groups = param_groups(&variables, &["bias", "embedding"]);
    let expected = [
        (
            "decay",
            vec!["layer.0.weight", "layer.1.weight", "layer.2.weight"],
        ),
        (
            "no_decay",
            vec!["embedding", "layer.0.bias", "layer.1.bias", "layer.2.bias"],
        ),
    ];
    assert_eq!(shown(&groups), expected);
    assert_eq!(groups[0].options, GroupOptions::new());
    assert_eq!(groups[1].options, GroupOptions::new().weight_decay(0.0));
    // A group without parameters is none.
    let names = |no_decay: &[&str]| {
        let groups = param_groups(&variables, no_decay);
        shown(&groups)
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["decay"]);
    assert_eq!(names(&[""]), ["no_decay"]);
}

#[test]
fn rates_shrink_from_layer_to_layer() {
    let variables = variables();
    let rule = layer_wise_decay(&variables, 0.5, 0.1).unwrap();
    let below_top = |name: &str| {
        let rate = rule(name).learning_rate.unwrap();
        (0..9).find(|power| rate == 0.5 * 0.1f64.powi(*power))
    };
    assert_eq!(below_top("layer.2.weight"), Some(1));
    assert_eq!(below_top("layer.0.bias"), Some(3));
    assert_eq!(below_top("embedding"), Some(4));
    assert_eq!(below_top("pooler.weight"), Some(0));
    // A number of a head is not that of a layer.
    assert_eq!(below_top("head.0.weight"), Some(0));
    assert_eq!(rule("layer.1.weight").weight_decay, None);

    let error = |rate, decay| {
        layer_wise_decay(&variables, rate, decay)
            .err()
            .unwrap()
            .to_string()
    };
    assert_eq!(
        error(0.0, 0.9),
        "layer_wise_decay, rate: must be a finite number above 0, is 0"
    );
    assert!(error(1.0, f64::NAN).starts_with("layer_wise_decay, decay: must be"));
    // A second stack that is as deep: which of them is meant nobody can know.
    let two = VarStore::new(Device::Cpu);
    for layer in 0..2 {
        let _ = two.root().sub("encoder").sub(layer).ones("weight", &[2]);
        let _ = two.root().sub("decoder").sub(layer).ones("weight", &[2]);
    }
    let error_of_two = layer_wise_decay(&two, 1.0, 0.9).err().unwrap().to_string();
    assert!(
        error_of_two.contains("`decoder.` and `encoder.` have 2 layers each"),
        "{error_of_two}"
    );
    let without = VarStore::new(Device::Cpu);
    let _ = without.root().ones("weight", &[2]);
    let error = layer_wise_decay(&without, 1.0, 0.9)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("no variable has the number of a layer"),
        "{error}"
    );
}

type Trainer<'t> = BasicTrainer<'t, Tensor, Net>;

/// One step on one batch; the numbers of the student before and after it, by name.
fn one_step(
    change: impl for<'r, 't> FnOnce(Run<'r, Trainer<'t>>) -> Run<'r, Trainer<'t>>,
) -> Vec<(String, Vec<f64>, Vec<f64>)> {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(3, 4, 0.2);
    let values = || {
        let state = textbrewer::weights::state_dict(&student.variables).into_iter();
        state
            .map(|(name, tensor)| (name, elements(&tensor)))
            .collect::<Vec<_>>()
    };
    let before = values();
    let mut trainer: Trainer<'_> = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap();
    let mut batches = loader(1);
    change(trainer.train(&mut batches).epochs(1)).run().unwrap();
    let after = values().into_iter().map(|(_, values)| values);
    let before = before.into_iter().zip(after);
    before
        .map(|((name, before), after)| (name, before, after))
        .collect()
}

/// The gradients of the student's variables in that step, by name.
fn gradients() -> Vec<(String, Vec<f64>)> {
    let student = Net::new(3, 4, 0.2);
    let output = student.forward(&batch(0), true).unwrap();
    output.logits.square().mean(None).backward();
    let state = textbrewer::weights::state_dict(&student.variables).into_iter();
    state
        .map(|(name, tensor)| (name, elements(&tensor.grad())))
        .collect()
}

#[test]
fn a_run_goes_by_rules_of_names() {
    let changes = one_step(|run| {
        let run = run.optimizer(Sgd::new(0.5).weight_decay(0.1));
        run.no_decay(["bias"])
            .param_groups_by(|name| match name.strip_prefix("layers.") {
                Some(_) => GroupOptions::new().learning_rate(0.25),
                None => GroupOptions::new(),
            })
    });
    for ((name, before, after), (_, gradient)) in changes.iter().zip(gradients()) {
        let rate = if name.starts_with("layers.") {
            0.25
        } else {
            0.5
        };
        let decay = if name.ends_with("bias") { 0.0 } else { 0.1 };
        for ((before, after), gradient) in before.iter().zip(after).zip(gradient) {
            let expected = before - rate * (gradient + decay * before);
            assert!(
                (after - expected).abs() < 1e-6,
                "{name}: {after}, {expected}"
            );
        }
    }
}

#[test]
fn two_optimizers_each_take_their_own() {
    let head = |name: &str| name.starts_with("head.");
    let alone = [
        one_step(|run| run.optimizer(Sgd::new(0.5))),
        one_step(|run| run.optimizer(AdamW::new(0.01))),
    ];
    let split = one_step(|run| run.optimizer(Split::new(head, Sgd::new(0.5), AdamW::new(0.01))));
    for (index, (name, _, after)) in split.iter().enumerate() {
        let of = usize::from(!head(name));
        assert_eq!(*after, alone[of][index].2, "{name}");
        assert_ne!(*after, alone[1 - of][index].2, "{name}");
    }
}

/// Under loss scaling, as gradients that are not scaled back would be far too large.
#[test]
fn a_split_may_be_divided_once_more() {
    let rules = [
        |name: &str| name.starts_with("head."),
        |name: &str| name.ends_with("bias"),
    ];
    let alone = [
        one_step(|run| run.optimizer(Sgd::new(0.5))),
        one_step(|run| run.optimizer(Sgd::new(0.25))),
        one_step(|run| run.optimizer(AdamW::new(0.01))),
    ];
    let split = move || {
        let inner = Split::new(rules[1], Sgd::new(0.25), AdamW::new(0.01));
        Split::new(rules[0], Sgd::new(0.5), inner)
    };
    let changes = one_step(|run| run.optimizer(split()).loss_scaling(LossScaling::new()));
    for (index, (name, _, after)) in changes.iter().enumerate() {
        let of = rules.iter().position(|rule| rule(name)).unwrap_or(2);
        assert_eq!(*after, alone[of][index].2, "{name}");
    }
    let student = Net::new(3, 4, 0.2);
    let mut split = split();
    for group in param_groups(&student.variables, &[]) {
        split.add_group(group).unwrap();
    }
    let known = split.groups().iter().flat_map(|group| &group.parameters);
    assert_eq!(known.count(), changes.len());
}

fn halves() -> Split<'static> {
    let first = Sgd::new(0.05).momentum(0.9);
    Split::new(|name| name.contains("0"), first, AdamW::new(0.02))
}

#[test]
fn a_run_with_two_optimizers_is_resumed_to_the_bit() {
    let trained = |stops_at: Option<u64>| {
        let folder = common::tiny::folder();
        let mut after = Vec::new();
        for steps in stops_at.into_iter().chain([6]) {
            let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
            let matched = IntermediateMatch::hidden(3, 1).proj(ProjectionSpec::linear(4, 5));
            let distill_config = DistillationConfig::default().intermediate_matches([matched]);
            let train_config = config(folder.path());
            let mut distiller = general(&teacher, &student, train_config, distill_config).unwrap();
            fill(distiller.projections(), 0.4);
            let mut batches = loader(3);
            let run = distiller.train(&mut batches).steps(steps);
            let run = run.optimizer(halves()).no_decay(["bias"]);
            let run = run.loss_scaling(LossScaling::new()).max_grad_norm(0.5);
            let summary = run.resume_or_start().run().unwrap();
            assert_eq!(summary.global_steps, steps);
            after = numbers(&student.variables);
            after.extend(numbers(distiller.projections()));
        }
        after
    };
    assert_eq!(trained(Some(3)), trained(None));
}

#[test]
fn two_optimizers_can_be_lent_to_a_second_run() {
    let folder = tempfile::tempdir().unwrap();
    let trained = |runs: u64, epochs: u64| {
        let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
        let matched = IntermediateMatch::hidden(3, 1).proj(ProjectionSpec::linear(4, 5));
        let distill_config = DistillationConfig::default().intermediate_matches([matched]);
        let train_config = config(folder.path());
        let mut distiller = general(&teacher, &student, train_config, distill_config).unwrap();
        fill(distiller.projections(), 0.4);
        let mut optimizer = halves();
        for _ in 0..runs {
            let mut batches = loader(3);
            let run = distiller.train(&mut batches).epochs(epochs);
            run.optimizer(&mut optimizer).run().unwrap();
        }
        numbers(&student.variables)
    };
    assert_eq!(trained(2, 1), trained(1, 2));
}

#[test]
fn a_state_that_does_not_fit_two_optimizers_changes_neither() {
    let variables = variables();
    let prepared = || {
        let mut optimizer = halves();
        for group in param_groups(&variables, &[]) {
            optimizer.add_group(group).unwrap();
        }
        optimizer
    };
    let mut optimizer = prepared();
    let trainable = variables.trainable_variables().into_iter();
    for tensor in trainable.filter(Tensor::requires_grad) {
        tensor.square().sum(None).backward();
    }
    optimizer.step(1.0).unwrap();
    let state = optimizer.state().unwrap();
    assert!(
        state.contains_key("first.layer.0.weight.momentum_buffer"),
        "{:?}",
        state.keys()
    );
    assert!(
        state.contains_key("second.embedding.exp_avg"),
        "{:?}",
        state.keys()
    );
    for (change, part) in [
        ("second.embedding.step", "embedding.step"),
        ("third.x", "third.x"),
    ] {
        let mut other = optimizer.state().unwrap();
        let _ = other
            .remove("first.layer.0.weight.momentum_buffer")
            .unwrap();
        let _ = other.remove("first.layer.0.weight.step").unwrap();
        other.insert(change.to_owned(), Tensor::from_slice(&[1.5f32]));
        let error = first_line(optimizer.load_state(&other));
        assert!(error.contains("does not fit"), "{error}");
        assert!(
            optimizer
                .load_state(&other)
                .unwrap_err()
                .to_string()
                .contains(part)
        );
        assert_eq!(optimizer.state().unwrap(), state);
    }
    let mut again = prepared();
    again.load_state(&state).unwrap();
    assert_eq!(again.state().unwrap(), state);
}
