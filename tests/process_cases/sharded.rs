//! An optimizer whose state is divided among the processes comes to what a whole one comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use textbrewer::distributed::ProcessGroup;
use textbrewer::logging::LogAxis;
use textbrewer::optim::{LossScaling, Optimizer, ParamGroup, Sgd, Split};
use textbrewer::{
    Adam, AdamW, DistillationConfig, Distiller, MemorySink, OnNonFinite, Result, VecLoader,
};

use crate::common::ranks::in_processes;
use crate::common::tiny::{
    Net, batches, config, files, fill_projections, first_line, general, numbers, projected_numbers,
};
use crate::common::{elements, read_tensors};

/// Momentum that has a state for each of its parameters from the beginning, and one number that is
/// of none of them.
struct Own {
    groups: Vec<ParamGroup>,
    velocities: BTreeMap<String, Tensor>,
    steps: i64,
}

impl Own {
    fn new() -> Self {
        Own {
            groups: Vec::new(),
            velocities: BTreeMap::new(),
            steps: 0,
        }
    }
}

impl Optimizer for Own {
    fn add_group(&mut self, mut group: ParamGroup) -> Result<()> {
        group.options.learning_rate.get_or_insert(0.01);
        for (name, tensor) in &group.parameters {
            let zeros = tensor.detach().f_zeros_like()?;
            self.velocities.insert(format!("{name}.velocity"), zeros);
        }
        self.groups.push(group);
        Ok(())
    }

    fn groups(&self) -> &[ParamGroup] {
        &self.groups
    }

    fn zero_grad(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for tensor in self.groups.iter().flat_map(ParamGroup::tensors) {
            let mut gradient = tensor.f_grad()?;
            if gradient.defined() {
                let _ = gradient.f_zero_()?;
            }
        }
        Ok(())
    }

    fn step(&mut self, factor: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        for group in &self.groups {
            let rate = -factor * group.options.learning_rate.unwrap_or_default();
            for (name, tensor) in &group.parameters {
                let gradient = tensor.f_grad()?;
                let velocity = self.velocities.get_mut(&format!("{name}.velocity"));
                if let (true, Some(velocity)) = (gradient.defined(), velocity) {
                    *velocity = velocity.f_mul(&Tensor::from(0.5))?.f_add(&gradient)?;
                    let change = velocity.f_mul(&Tensor::from(rate))?;
                    let _ = tensor.shallow_clone().f_add_(&change)?;
                }
            }
        }
        Ok(())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let copies = self.velocities.iter();
        let mut state: BTreeMap<_, _> = copies
            .map(|(key, tensor)| (key.clone(), tensor.copy()))
            .collect();
        state.insert("steps".to_owned(), Tensor::from(self.steps));
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (key, tensor) in state {
            match key.as_str() {
                "steps" => self.steps = tensor.int64_value(&[]),
                _ => *self.velocities.get_mut(key).unwrap() = tensor.copy(),
            }
        }
        Ok(())
    }
}

const OPTIMIZERS: [&str; 6] = ["AdamW", "Adam", "SGD", "momentum", "split", "own"];

fn optimizer(name: &str) -> Box<dyn Optimizer> {
    match name {
        "AdamW" => Box::new(AdamW::new(0.01)),
        "Adam" => Box::new(Adam::new(0.01).weight_decay(0.1)),
        "SGD" => Box::new(Sgd::new(0.1)),
        "momentum" => Box::new(Sgd::new(0.1).momentum(0.9)),
        "split" => Box::new(Split::new(
            |name| name.ends_with("bias"),
            Sgd::new(0.1).momentum(0.9),
            Split::new(
                |name| name.starts_with("layers.1"),
                Adam::new(0.01),
                AdamW::new(0.02),
            ),
        )),
        _ => Box::new(Own::new()),
    }
}

/// What a training of a test is to be.
#[derive(Clone)]
struct Setup<'a> {
    group: Option<&'a ProcessGroup>,
    sharded: bool,
    output: PathBuf,
    resume: Option<PathBuf>,
    epochs: u64,
    of_a_step: u64,
    /// With a batch of NaN: the step is left out by this policy, or by loss scaling.
    skips: Option<OnNonFinite>,
}

impl<'a> Setup<'a> {
    fn new(group: Option<&'a ProcessGroup>, sharded: bool, output: impl Into<PathBuf>) -> Self {
        Setup {
            group,
            sharded,
            output: output.into(),
            resume: None,
            epochs: 2,
            of_a_step: 1,
            skips: None,
        }
    }
}

/// What a training came to; the losses of the first process alone.
#[derive(Debug, PartialEq)]
struct Found {
    weights: Vec<f64>,
    /// As bits, for NaN is to be NaN.
    losses: Vec<(String, u64, u64)>,
    skipped: u64,
}

fn train(setup: &Setup<'_>, optimizer: impl Optimizer) -> Result<Found> {
    tch::manual_seed(7);
    let text = r#"{"temperature": 4, "intermediate_matches": [
        {"layer_T": 1, "layer_S": 0, "feature": "hidden", "loss": "hidden_mse", "weight": 1,
         "proj": ["linear", 4, 6]}]}"#;
    let distillation = DistillationConfig::from_json_str(text)?;
    let teacher = Net::new(3, 6, 0.5);
    let rank = setup.group.map_or(0, ProcessGroup::rank);
    let student = Net::new(2, 4, 0.25 + rank as f64);
    let config = config(&setup.output).gradient_accumulation_steps(setup.of_a_step);
    let mut distiller = general(&teacher, &student, config, distillation)?;
    fill_projections(&distiller);
    let mut data = batches(12);
    if setup.skips.is_some() {
        data[7] = data[7].full_like(f64::NAN);
    }
    let mut loader = VecLoader::new(data)?;
    let losses = MemorySink::new();
    let mut run = distiller
        .train(&mut loader)
        .epochs(setup.epochs)
        .optimizer(optimizer)
        .no_decay(["bias"])
        .max_grad_norm(0.5)
        .log_axis(LogAxis::OptimizerStep)
        .log_sink(losses.clone())
        .shard_optimizer(setup.sharded);
    if let Some(group) = setup.group {
        run = run.process_group(group);
    }
    if let Some(folder) = &setup.resume {
        run = run.resume(folder);
    }
    match setup.skips {
        None => {}
        Some(OnNonFinite::Error) => {
            run = run.loss_scaling(LossScaling::new().initial_scale(1024.0));
            run = run.on_non_finite(OnNonFinite::SkipStep);
        }
        Some(policy) => run = run.on_non_finite(policy),
    }
    let summary = run.run()?;
    let mut weights = numbers(&student.variables);
    weights.extend(projected_numbers(&distiller));
    let losses = losses.scalars().into_iter();
    let losses = losses.filter(|(name, ..)| !name.contains("per_second"));
    let losses = losses.map(|(name, value, step)| (name, value.to_bits(), step));
    Ok(Found {
        weights,
        losses: losses.collect(),
        skipped: summary.skipped_steps,
    })
}

/// Students, and the states to go on with.
fn saved(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in files(folder) {
        found.insert(name.clone(), std::fs::read(folder.join(name)).unwrap());
    }
    for entry in std::fs::read_dir(folder.join("state")).unwrap() {
        let entry = entry.unwrap();
        let state = entry.file_name().to_string_lossy().into_owned();
        for name in files(&entry.path()) {
            if name.ends_with(".safetensors") {
                let bytes = std::fs::read(entry.path().join(&name)).unwrap();
                found.insert(format!("{state}/{name}"), bytes);
            }
        }
    }
    found
}

/// Trains with the state whole and divided, and compares all that comes out.
fn both_ways(group: &ProcessGroup, folder: &Path, name: &str, change: impl Fn(&mut Setup<'_>)) {
    let of = |sharded: bool| {
        let mut setup = Setup::new(
            Some(group),
            sharded,
            folder.join(format!("{name}-{sharded}")),
        );
        change(&mut setup);
        let found = train(&setup, optimizer(name)).unwrap();
        group.barrier().unwrap();
        (found, saved(&setup.output))
    };
    let (whole, whole_files) = of(false);
    let (sharded, sharded_files) = of(true);
    assert_eq!(sharded, whole, "{name}");
    let optimizers = whole_files
        .keys()
        .filter(|name| name.ends_with("/optimizer.safetensors"));
    assert!(optimizers.count() > 0, "{:?}", whole_files.keys());
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&sharded_files), names(&whole_files));
    for (file, bytes) in &whole_files {
        assert!(sharded_files[file] == *bytes, "{name}: {file} differs");
    }
}

#[test]
fn every_optimizer_in_two_processes() {
    let name = "sharded::every_optimizer_in_two_processes";
    in_processes(name, 2, |group, folder| {
        for name in OPTIMIZERS {
            both_ways(group, folder, name, |_| {});
        }
    });
}

#[test]
fn every_optimizer_in_three_processes() {
    let name = "sharded::every_optimizer_in_three_processes";
    in_processes(name, 3, |group, folder| {
        // The last one's gradients stay where the average is made, if it is not divided: c10d then
        // divides them by 3, and multiplies those of other tensors by a third.
        for name in OPTIMIZERS.into_iter().filter(|name| *name != "own") {
            both_ways(group, folder, name, |_| {});
        }
    });
}

#[test]
fn steps_that_are_left_out() {
    in_processes("sharded::steps_that_are_left_out", 2, |group, folder| {
        for (name, skips) in [
            ("AdamW", OnNonFinite::SkipStep),
            ("split", OnNonFinite::SkipStep),
            ("Adam", OnNonFinite::Error),
            ("own", OnNonFinite::Error),
        ] {
            both_ways(group, folder, name, |setup| setup.skips = Some(skips));
            let of = |sharded| {
                let output = folder.join(format!("{name}-again-{sharded}"));
                let mut setup = Setup::new(Some(group), sharded, output);
                setup.skips = Some(skips);
                train(&setup, optimizer(name)).unwrap()
            };
            let found = of(true);
            assert!(found.weights.iter().all(|weight| weight.is_finite()));
            if skips == OnNonFinite::SkipStep {
                assert_eq!(found.skipped, 2);
            }
        }
    });
}

/// Each process has the state of its own parameters, and together they have all.
#[test]
fn the_state_is_divided() {
    let Some(folder) = in_processes("sharded::the_state_is_divided", 3, |group, folder| {
        let mut lent = AdamW::new(0.01);
        let setup = Setup::new(Some(group), true, folder.join("run"));
        train(&setup, &mut lent).unwrap();
        let state = lent.state().unwrap();
        let found: Vec<_> = state
            .iter()
            .map(|(name, tensor)| (name.clone(), elements(tensor)))
            .collect();
        let path = folder.join(format!("{}.json", group.rank()));
        std::fs::write(path, serde_json::to_string(&found).unwrap()).unwrap();

        // What is divided cannot go on as if it were whole.
        let setup = Setup::new(Some(group), true, folder.join("second"));
        let said = first_line(train(&setup, &mut lent));
        assert!(
            said.starts_with("shard_optimizer: the optimizer has its groups already"),
            "{said}"
        );
    }) else {
        return;
    };
    let mut together = BTreeMap::new();
    let mut sizes = Vec::new();
    for rank in 0..3 {
        let text = std::fs::read_to_string(folder.path().join(format!("{rank}.json"))).unwrap();
        let found: Vec<(String, Vec<f64>)> = serde_json::from_str(&text).unwrap();
        sizes.push(
            found
                .iter()
                .map(|(_, numbers)| numbers.len())
                .sum::<usize>(),
        );
        let parameter = |key: &str| key.rsplit_once('.').map(|(name, _)| name.to_owned());
        let parameters: BTreeSet<_> = found.iter().map(|(key, _)| parameter(key)).collect();
        assert_eq!(found.len(), 3 * parameters.len());
        for (key, numbers) in found {
            assert_eq!(together.insert(key, numbers), None);
        }
    }
    let path = folder.path().join("run/state/gs8/optimizer.safetensors");
    let saved = read_tensors(&path);
    assert_eq!(saved.len(), together.len());
    for (key, tensor) in saved {
        assert_eq!(elements(&tensor), together[&key], "{key}");
    }
    // 76 numbers of parameters: weights, the largest first, then biases, then the projection of 24
    // and 6, each to the process that has the least; two moments of each, and the count of steps.
    assert_eq!(sizes, [46, 34, 80]);
}

/// A checkpoint does not depend on how many processes made it, nor on whether the state was
/// divided.
#[test]
fn a_run_goes_on_whole_and_divided() {
    let name = "sharded::a_run_goes_on_whole_and_divided";
    let in_two = |group: &ProcessGroup, folder: &Path| {
        for name in OPTIMIZERS {
            let output = |part: &str| folder.join(format!("{name}-{part}"));
            let of = |part: &str, epochs, sharded, resume: Option<PathBuf>| {
                let mut setup = Setup::new(Some(group), sharded, output(part));
                (setup.epochs, setup.resume) = (epochs, resume);
                let found = train(&setup, optimizer(name)).unwrap();
                group.barrier().unwrap();
                found
            };
            let whole = of("whole", 4, false, None);
            of("one", 1, true, None);
            of("two", 2, false, Some(output("one")));
            of("three", 3, true, Some(output("two")));
            let last = of("four", 4, true, Some(output("three")));
            assert_eq!(last.weights, whole.weights, "{name}");
            assert_eq!(
                saved(&output("four"))["gs24/optimizer.safetensors"],
                saved(&output("whole"))["gs24/optimizer.safetensors"]
            );
        }
    };
    let Some(folder) = in_processes(name, 2, in_two) else {
        return;
    };
    // And in one process, which takes two batches for a step.
    for name in OPTIMIZERS {
        let path = |part: &str| folder.path().join(format!("{name}-{part}"));
        let of = |part: &str, resume| {
            let mut setup = Setup::new(None, false, path(part));
            (setup.epochs, setup.resume, setup.of_a_step) = (4, resume, 2);
            train(&setup, optimizer(name)).unwrap()
        };
        let whole = of("alone", None);
        assert_eq!(
            of("three-alone", Some(path("three"))).weights,
            whole.weights
        );
        let bytes = |part: &str| saved(&path(part))["gs24/optimizer.safetensors"].clone();
        assert!(bytes("three-alone") == bytes("whole"), "{name}");
    }
}

/// Each process lends an optimizer that has trained before; the first one's state counts.
#[test]
fn optimizers_that_were_lent() {
    in_processes("sharded::optimizers_that_were_lent", 2, |group, folder| {
        let steps = |optimizer: &mut AdamW, times: usize| {
            for _ in 0..times {
                for tensor in optimizer.groups()[0].tensors() {
                    tensor.sum(Kind::Float).backward();
                }
                optimizer.step(1.0).unwrap();
                optimizer.zero_grad().unwrap();
            }
        };
        let teacher = Net::new(3, 4, 0.5);
        let student = Net::new(2, 4, 0.25);
        let mut lent = AdamW::new(0.01);
        lent.add_group(ParamGroup::of("all", &student.variables))
            .unwrap();
        steps(&mut lent, 1 + 2 * group.rank());
        let output = folder.join("run");
        let config = config(&output);
        let config_of = DistillationConfig::default();
        let mut distiller = general(&teacher, &student, config.clone(), config_of).unwrap();
        let mut loader = VecLoader::new(batches(6)).unwrap();
        let run = distiller.train(&mut loader).epochs(1).optimizer(&mut lent);
        run.process_group(group).run().unwrap();
        let state = lent.state().unwrap();
        assert_eq!(state["head.weight.step"].int64_value(&[]), 1 + 3);
        for (key, tensor) in &state {
            let all = group.all_gather(tensor).unwrap();
            assert_eq!(elements(&all[0]), elements(&all[1]), "{key}");
        }

        // One that has stepped and one that has not.
        let mut other = AdamW::new(0.01);
        other
            .add_group(ParamGroup::of("all", &student.variables))
            .unwrap();
        steps(&mut other, group.rank());
        let run = distiller.train(&mut loader).epochs(1).overwrite(true);
        let said = first_line(run.optimizer(&mut other).process_group(group).run());
        let expected = "comparing the optimizers: process 0 has an optimizer that has not stepped \
                        yet, process 1 one with a state of 18 tensors";
        assert!(said.contains(expected), "{said}");
        assert!(said.ends_with("without `shard_optimizer`"), "{said}");
    });
}
