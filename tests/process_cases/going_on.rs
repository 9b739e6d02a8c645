//! Runs of several processes that are interrupted and go on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::Tensor;
use textbrewer::distributed::ProcessGroup;
use textbrewer::schedule::linear_with_warmup_fraction;
use textbrewer::{
    AdamW, AdaptorOutput, DataLoader, DistillationConfig, Distiller, EmdConfig, EmdDistiller,
    ExampleLoader, GeneralDistiller, LayerWeights, Model, ProjectionSpec, Result, StreamLoader,
    TrainSummary, VecLoader, weights,
};

use super::remembering::Remembering;
use super::together::{found, leave};
use crate::common::ranks::{child_folder, group, in_processes, start_all};
use crate::common::tiny::{Net, Output, adapt, batch, config, fill_projections, numbers};

/// With dropout, whose random numbers go on too.
#[derive(Debug)]
struct Dropping(Net);

impl Model<Tensor> for Dropping {
    type Output = Output;

    fn forward(&self, batch: &Tensor, train: bool) -> Result<Output> {
        self.0.forward(&batch.f_dropout(0.3, train)?, train)
    }
}

fn with_losses(_: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    Ok(adapt(&output.logits, output)?.losses(&output.logits.square()))
}

fn stacked(examples: &[&Tensor]) -> Result<Tensor> {
    Ok(Tensor::f_cat(examples, 0)?)
}

/// Sixteen batches of one example each.
fn examples() -> Box<dyn DataLoader<Batch = Tensor>> {
    let examples: Vec<_> = (0..16).map(|index| batch(index).narrow(0, 0, 1)).collect();
    Box::new(ExampleLoader::new(examples, 1, stacked).unwrap().shuffle(4))
}

/// Whole batches, shared out in turn.
fn dealt() -> Box<dyn DataLoader<Batch = Tensor>> {
    let open = |_| Ok((0..16).map(|index| Ok(batch(index))));
    let loader = StreamLoader::new(1, open).unwrap().shuffle(4, 5);
    Box::new(loader.map(|examples| stacked(&examples.iter().collect::<Vec<_>>())))
}

/// How a run is done.
#[derive(Clone, Copy)]
struct How<'a> {
    group: Option<&'a ProcessGroup>,
    loader: fn() -> Box<dyn DataLoader<Batch = Tensor>>,
    in_steps: Option<u64>,
    of_a_step: u64,
    stops_after: Option<u64>,
}

impl How<'_> {
    fn run(self, folder: &Path) -> (TrainSummary, Vec<u64>) {
        let rank = self.group.map_or(0, ProcessGroup::rank);
        let (teacher, student) = (Net::new(3, 6, 0.5), Dropping(Net::new(2, 4, 0.25)));
        let proj = ProjectionSpec::linear(4, 6);
        let matched = textbrewer::IntermediateMatch::hidden(2, 1).proj(proj);
        let term = Remembering::new(0.0);
        let seen = std::rc::Rc::clone(&term.shown);
        let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.0.variables)
            .train_config(
                config(folder)
                    .ckpt_frequency(8)
                    .ckpt_steps(3)
                    .gradient_accumulation_steps(self.of_a_step),
            )
            .distill_config(DistillationConfig::default().intermediate_matches([matched]))
            .adaptor(with_losses)
            .term(term)
            .build()
            .unwrap();
        fill_projections(&distiller);
        let mut loader = (self.loader)();
        let flag = Arc::new(AtomicBool::new(false));
        let to_stop = Arc::clone(&flag);
        let mut run = distiller
            .train(&mut loader)
            .optimizer(AdamW::new(0.01))
            // By the length of the run, which has other steps with other processes.
            .schedule(linear_with_warmup_fraction(0.25))
            .resume_or_start()
            .stop_flag(flag)
            .progress(false)
            // What is saved before the run is interrupted is the best.
            .callback(move |_: &Dropping, checkpoint| {
                let is_first_part = self.stops_after.is_some();
                Ok(f64::from(u8::from(is_first_part)) * checkpoint.global_step as f64)
            })
            .after_step(move |_: &Dropping, step| {
                let stops = Some(step.global_step) == self.stops_after && rank == 0;
                to_stop.fetch_or(stops, Ordering::Relaxed);
                Ok(())
            });
        run = match self.in_steps {
            Some(steps) => run.steps(steps),
            None => run.epochs(2),
        };
        if let Some(group) = self.group {
            run = run.process_group(group);
        }
        let summary = run.run().unwrap();
        let mut all = numbers(&student.0.variables);
        all.push(*seen.borrow());
        (summary, all.into_iter().map(f64::to_bits).collect())
    }
}

/// Weights, optimizer, terms and random numbers of the checkpoint of this step, as text.
fn state(folder: &Path, step: u64) -> String {
    let folder = folder.join(format!("state/gs{step}"));
    let mut text = String::new();
    for file in ["optimizer", "distiller", "random"] {
        let state = weights::read(folder.join(format!("{file}.safetensors"))).unwrap();
        let of = |(name, tensor): (String, Tensor)| {
            let bytes = tensor
                .f_sum(tch::Kind::Double)
                .unwrap()
                .double_value(&[])
                .to_bits();
            format!("{file} {name} {:?} {bytes}\n", tensor.size())
        };
        text.extend(state.into_iter().map(of));
    }
    text
}

#[test]
fn with_as_many_processes_nothing_differs() {
    let name = "going_on::with_as_many_processes_nothing_differs";
    let folder = in_processes(name, 2, |group, folder| {
        let how = How {
            group: Some(group),
            loader: examples,
            in_steps: None,
            of_a_step: 2,
            stops_after: None,
        };
        let mut masks = Vec::new();
        // Eight batches in an epoch for each process are four steps.
        for (kind, loader) in [("examples", examples as fn() -> _), ("dealt", dealt)] {
            let how = How {
                loader,
                in_steps: (kind == "dealt").then_some(8),
                ..how
            };
            tch::manual_seed(7);
            let whole = folder.join(kind);
            let (summary, expected) = how.run(&whole);
            assert_eq!(summary.global_steps, 8);
            masks.push(expected.clone());
            for step in [1, 4, 6] {
                let folder = folder.join(format!("{kind} {step}"));
                tch::manual_seed(7);
                let stops = How {
                    stops_after: Some(step),
                    ..how
                };
                let (summary, _) = stops.run(&folder);
                assert_eq!((summary.global_steps, summary.interrupted), (step, true));
                tch::manual_seed(99 + step as i64);
                let (summary, numbers) = how.run(&folder);
                assert_eq!(summary.resumed_from, Some(step));
                assert_eq!(numbers, expected, "{kind}, {step}");
                if group.is_first() {
                    assert_eq!(state(&folder, 8), state(&whole, 8), "{kind}, {step}");
                    assert!(state(&whole, 8).contains("random rank1/now.cpu"));
                }
            }
        }
        leave(folder, group, &masks);
    });
    let Some(folder) = folder else { return };
    let all: Vec<Vec<Vec<u64>>> = found(folder.path(), 2);
    for (first, second) in all[0].iter().zip(&all[1]) {
        let weights = first.len() - 1;
        assert_eq!(first[..weights], second[..weights]);
        // What the term has seen is each process's own.
        assert_ne!(first[weights], second[weights]);
    }
}

/// The weights of layers follow each process's own batches.
#[test]
fn weights_of_layers_go_on() {
    let name = "going_on::weights_of_layers_go_on";
    in_processes(name, 2, |group, folder| {
        let train = |folder: &Path, stops_after: Option<u64>| {
            let (teacher, student) = (Net::new(3, 6, 0.5), Net::new(2, 4, 0.25));
            let emd = EmdConfig::default()
                .attention_weight(0.0)
                .hidden_projection(ProjectionSpec::linear(4, 6))
                .layer_weights(LayerWeights::Reestimated { temperature: 1.0 });
            let mut distiller = EmdDistiller::builder(&teacher, &student, &student.variables)
                .train_config(config(folder))
                .distill_config(DistillationConfig::default().emd(emd))
                .adaptor(adapt)
                .build()
                .unwrap();
            fill_projections(&distiller);
            let flag = Arc::new(AtomicBool::new(false));
            let to_stop = Arc::clone(&flag);
            distiller
                .train(&mut VecLoader::new((0..8).map(batch).collect()).unwrap())
                .epochs(2)
                .optimizer(AdamW::new(0.05))
                .resume_or_start()
                .stop_flag(flag)
                .after_step(move |_: &Net, step| {
                    let stops = Some(step.global_step) == stops_after;
                    to_stop.fetch_or(stops, Ordering::Relaxed);
                    Ok(())
                })
                .process_group(group)
                .run()
                .unwrap();
            (
                distiller.layer_weights().unwrap(),
                numbers(&student.variables),
            )
        };
        let whole = train(&folder.join("whole"), None);
        train(&folder.join("parts"), Some(3));
        assert_eq!(train(&folder.join("parts"), None), whole);
    });
}

/// Where a run goes on that another number of processes began.
fn goes_on(
    name: &str,
    (before, now): (usize, usize),
    in_steps: [Option<u64>; 2],
    expected: (u64, u64),
) {
    fn how(
        group: Option<&ProcessGroup>,
        stops_after: Option<u64>,
        in_steps: Option<u64>,
    ) -> How<'_> {
        How {
            group,
            loader: examples,
            in_steps,
            of_a_step: 1,
            stops_after,
        }
    }
    let first = |folder: &Path, group: Option<&ProcessGroup>| {
        let (summary, _) = how(group, Some(6), in_steps[0]).run(folder);
        assert_eq!((summary.global_steps, summary.interrupted), (6, true));
        if group.is_none_or(ProcessGroup::is_first) {
            std::fs::copy(folder.join("gs6.safetensors"), folder.join("sixth")).unwrap();
        }
    };
    let second = |folder: &Path, group: Option<&ProcessGroup>| {
        let (summary, numbers) = how(group, None, in_steps[1]).run(folder);
        let steps = (summary.resumed_from.unwrap(), summary.global_steps);
        assert_eq!(steps, expected);
        // The student that was the best still is, whatever is called `gs6` now.
        assert_eq!(summary.best.unwrap().metric, Some(6.0));
        let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
        assert!(bytes("best.safetensors") == bytes("sixth"));
        if let Some(group) = group {
            leave(
                folder.parent().unwrap(),
                group,
                &numbers[..numbers.len() - 1].to_vec(),
            );
        }
    };
    if let Some(folder) = child_folder() {
        let group = group();
        match group.world_size() == before {
            true => first(&folder.join("run"), Some(&group)),
            false => second(&folder.join("run"), Some(&group)),
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    match before {
        1 => first(&run, None),
        _ => start_all(name, before, folder.path()),
    }
    if now == 1 {
        second(&run, None);
        return;
    }
    start_all(name, now, folder.path());
    let all: Vec<serde_json::Value> = found(folder.path(), now);
    assert!(all.iter().all(|numbers| *numbers == all[0]));
    let said = |rank| std::fs::read_to_string(folder.path().join(format!("said{rank}"))).unwrap();
    let warned = format!("the checkpoint is of {before} process(es), and this run has {now}");
    assert!(said(0).contains(&warned), "{}", said(0));
    assert!(!said(1).contains(&warned), "{}", said(1));
}

/// Six of the sixteen steps of one are twelve examples, as six of eight of two are.
#[test]
fn two_become_one() {
    goes_on("going_on::two_become_one", (2, 1), [None; 2], (12, 32));
}

#[test]
fn one_becomes_two() {
    goes_on("going_on::one_becomes_two", (1, 2), [None; 2], (3, 16));
}

/// Twelve of sixteen examples are four steps of three.
#[test]
fn two_become_three() {
    goes_on("going_on::two_become_three", (2, 3), [None; 2], (4, 12));
}

/// Steps are kept where steps were asked for.
#[test]
fn in_steps_two_become_one() {
    goes_on(
        "going_on::in_steps_two_become_one",
        (2, 1),
        [Some(9); 2],
        (6, 9),
    );
}
