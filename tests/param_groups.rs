//! Variables put into groups, by parts of their names and by functions of them.

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::optim::{GroupOptions, Optimizer, ParamGroup, Sgd, param_groups, param_groups_by};

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
