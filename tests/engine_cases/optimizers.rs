//! Groups of parameters, and optimizers that are used again.

use textbrewer::optim::Optimizer;
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DistillationConfig, Distiller, IntermediateMatch,
    ProjectionSpec, Sgd,
};

use crate::common::elements;
use crate::common::tiny::{Net, config, difference, fill, general, loader, numbers, square};

#[test]
fn an_optimizer_goes_on_where_it_was_in_a_second_run() {
    let folder = tempfile::tempdir().unwrap();
    // Epochs in one run, or one epoch in each run.
    let trained = |runs: u64, epochs: u64| {
        let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
        let matched =
            IntermediateMatch::hidden(3, 1).proj(ProjectionSpec::linear(4, 5).learning_rate(0.01));
        let distill_config = DistillationConfig::default().intermediate_matches([matched]);
        let mut distiller =
            general(&teacher, &student, config(folder.path()), distill_config).unwrap();
        fill(distiller.projections(), 0.4);
        let mut optimizer = AdamW::new(0.05);
        for _ in 0..runs {
            distiller
                .train(&mut loader(3))
                .optimizer(&mut optimizer)
                .epochs(epochs)
                .run()
                .unwrap();
        }
        let groups: Vec<_> = optimizer
            .groups()
            .iter()
            .map(|group| (group.name.clone(), group.options.learning_rate))
            .collect();
        let expected = [
            ("decay".to_owned(), Some(0.05)),
            ("projection.0".to_owned(), Some(0.01)),
        ];
        assert_eq!(groups, expected);
        let mut all = numbers(&student.variables);
        all.extend(numbers(distiller.projections()));
        all
    };
    let (twice, at_once) = (trained(2, 1), trained(1, 2));
    assert!(difference(&twice, &at_once) < 1e-6);
    assert!(difference(&twice, &trained(1, 1)) > 1e-3);
}

#[test]
fn a_new_optimizer_forgets_what_the_first_remembered() {
    // So that the test above is one of the optimizer's memory.
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let run = |student: &Net, optimizer: &mut AdamW, epochs| {
        BasicTrainer::builder(student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()?
            .train(&mut loader(3))
            .optimizer(optimizer)
            .epochs(epochs)
            .run()
    };
    run(&student, &mut AdamW::new(0.05), 1).unwrap();
    run(&student, &mut AdamW::new(0.05), 1).unwrap();
    let other = Net::new(2, 4, 0.2);
    run(&other, &mut AdamW::new(0.05), 2).unwrap();
    let forgotten = difference(&numbers(&student.variables), &numbers(&other.variables));
    assert!(forgotten > 1e-3, "{forgotten}");
}

#[test]
fn chosen_names_do_not_decay() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let before: Vec<_> = student.variables.variables().into_iter().collect();
    let before: Vec<_> = before.iter().map(|(n, t)| (n, elements(t))).collect();
    let mut optimizer = Sgd::new(0.1).weight_decay(0.5);
    BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        // Gradients that are there and are zero.
        .adaptor(|_, output| Ok(AdaptorOutput::new().losses(&(&output.logits * 0.0))))
        .build()
        .unwrap()
        .train(&mut loader(1))
        .optimizer(&mut optimizer)
        .no_decay(["bias"])
        .epochs(1)
        .run()
        .unwrap();
    let groups: Vec<_> = optimizer
        .groups()
        .iter()
        .map(|group| (group.name.as_str(), group.options.weight_decay))
        .collect();
    assert_eq!(groups, [("decay", Some(0.5)), ("no_decay", Some(0.0))]);
    let after = student.variables.variables();
    for (name, before) in before {
        let factor = if name.contains("bias") { 1.0 } else { 0.95 };
        let expected: Vec<_> = before.iter().map(|value| value * factor).collect();
        assert!(
            difference(&elements(&after[name.as_str()]), &expected) < 1e-6,
            "{name}"
        );
    }
}
