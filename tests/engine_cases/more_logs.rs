//! What is logged besides losses, and by which steps.

use serde_json::Value;
use textbrewer::logging::LogAxis;
use textbrewer::optim::{GroupOptions, Split};
use textbrewer::{
    AdamW, BasicTrainer, DistillationConfig, Distiller, IntermediateMatch, MemorySink,
    ProjectionSpec, Sgd,
};

use crate::common::tensorboard::{curves, event_files, read_events};
use crate::common::tiny::{Net, config, distance, general, loader, numbers, square};

/// Six batches in two epochs of three, two of them in an optimizer step; what memory was given,
/// and the folder of the log.
fn accumulated(
    folder: &std::path::Path,
    axis: Option<LogAxis>,
) -> (MemorySink, std::path::PathBuf) {
    let student = Net::new(2, 4, 0.2);
    let train_config = config(&folder.join("models")).log_dir(folder.join("logs"));
    let memory = MemorySink::new();
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(train_config.gradient_accumulation_steps(2).log_interval(3))
        .adaptor(square)
        .build()
        .unwrap();
    let mut batches = loader(3);
    let run = trainer.train(&mut batches).optimizer(Sgd::new(0.1));
    let mut run = run.steps(3).log_sink(memory.clone());
    if let Some(axis) = axis {
        run = run.log_axis(axis);
    }
    let log = run.run().unwrap().log_dir.unwrap();
    (memory, log)
}

#[test]
fn tensorboard_has_the_mean_of_a_step_and_other_logs_every_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (memory, log) = accumulated(folder.path(), None);
    let every = memory.curve("scalar/total_loss");
    let steps: Vec<_> = every.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4, 5]);
    let mean = |step: usize| ((every[2 * step].1 + every[2 * step + 1].1) / 2.0) as f32;
    let shown = &curves(&log)["scalar/total_loss"];
    assert_eq!(shown, &[(0, mean(0)), (1, mean(1)), (2, mean(2))]);
    // A value of a step stands at its last batch.
    let rates = memory.curve("scalar/learning_rate");
    assert_eq!(rates, [(1, 0.1), (3, 0.1), (5, 0.1)]);
    let shown = &curves(&log)["scalar/learning_rate"];
    assert_eq!(shown, &[(0, 0.1), (1, 0.1), (2, 0.1)]);
}

#[test]
fn all_logs_can_count_by_the_same_steps() {
    let folder = tempfile::tempdir().unwrap();
    let (memory, log) = accumulated(folder.path(), Some(LogAxis::ForwardStep));
    let every = memory.curve("scalar/total_loss");
    assert_eq!(every.len(), 6);
    let shown = curves(&log)["scalar/total_loss"].clone();
    let expected = every
        .iter()
        .map(|(step, loss)| (*step as i64, *loss as f32));
    assert_eq!(shown, expected.collect::<Vec<_>>());

    let folder = tempfile::tempdir().unwrap();
    let (memory, _) = accumulated(folder.path(), Some(LogAxis::OptimizerStep));
    let means = memory.curve("scalar/total_loss");
    let mean = |step: usize| (every[2 * step].1 + every[2 * step + 1].1) / 2.0;
    assert_eq!(means, [(0, mean(0)), (1, mean(1)), (2, mean(2))]);
}

#[test]
fn the_learning_rate_is_the_groups_own_times_the_factor() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let proj = ProjectionSpec::linear(4, 5).options(GroupOptions::new().learning_rate(0.3));
    let matched = IntermediateMatch::hidden(3, 1).proj(proj);
    let distill_config = DistillationConfig::default().intermediate_matches([matched]);
    let memory = MemorySink::new();
    let mut distiller = general(&teacher, &student, config(folder.path()), distill_config).unwrap();
    let mut batches = loader(2);
    let run = distiller.train(&mut batches).steps(3);
    let run = run.optimizer(AdamW::new(0.2)).no_decay(["bias"]);
    let factors = [0.0, 0.5, 1.0];
    run.schedule(|step, _| factors[step as usize])
        .log_sink(memory.clone())
        .run()
        .unwrap();
    let mut rates: Vec<_> = memory.scalars();
    rates.retain(|(tag, ..)| tag.starts_with("scalar/learning_rate"));
    let of = |part: &str| {
        let of = rates.iter().filter(|(tag, ..)| tag.ends_with(part));
        of.map(|(_, rate, step)| (*step, *rate)).collect::<Vec<_>>()
    };
    assert_eq!(of("/decay"), [(0, 0.0), (1, 0.1), (2, 0.2)], "{rates:?}");
    assert_eq!(of("/no_decay"), of("/decay"), "{rates:?}");
    assert_eq!(rates.len(), 9, "{rates:?}");
    let own = rates.iter().filter(|(_, rate, _)| *rate == 0.3).count();
    assert_eq!(own, 1, "{rates:?}");
}

/// Under one name they would be one curve that jumps to and fro.
#[test]
fn groups_of_one_name_have_a_curve_each() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let memory = MemorySink::new();
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap();
    let mut batches = loader(2);
    let run = trainer.train(&mut batches).epochs(1).no_decay(["bias"]);
    let head = |name: &str| name.starts_with("head.");
    run.optimizer(Split::new(head, Sgd::new(0.5), AdamW::new(0.25)))
        .log_sink(memory.clone())
        .run()
        .unwrap();
    for (name, rate) in [
        ("decay", 0.5),
        ("decay_2", 0.25),
        ("no_decay", 0.5),
        ("no_decay_2", 0.25),
    ] {
        let curve = memory.curve(&format!("scalar/learning_rate/{name}"));
        assert_eq!(curve, [(0, rate), (1, rate)], "{name}");
    }
}

/// Six batches in an epoch, of which four make a step: the gradients of two are dropped, at the
/// end of the run as well.
#[test]
fn the_mean_of_a_step_is_of_its_own_batches() {
    for log_interval in [1, 5, 1000] {
        let folder = tempfile::tempdir().unwrap();
        let student = Net::new(2, 4, 0.2);
        let train_config = config(&folder.path().join("models"));
        let train_config = train_config.log_dir(folder.path().join("logs"));
        let memory = MemorySink::new();
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(
                train_config
                    .gradient_accumulation_steps(4)
                    .log_interval(log_interval),
            )
            .adaptor(square)
            .build()
            .unwrap();
        let mut batches = loader(6);
        let run = trainer.train(&mut batches).optimizer(Sgd::new(0.1));
        let summary = run.epochs(2).log_sink(memory.clone()).run().unwrap();
        assert_eq!((summary.global_steps, summary.forward_steps), (2, 12));
        let every = memory.curve("scalar/total_loss");
        assert_eq!(every.len(), 12);
        let mean = |first: usize| {
            let four = every[first..first + 4].iter().map(|(_, loss)| loss);
            (four.sum::<f64>() / 4.0) as f32
        };
        let shown = &curves(&summary.log_dir.unwrap())["scalar/total_loss"];
        assert_eq!(shown, &[(0, mean(0)), (1, mean(6))]);
    }
}

/// Values that stay in a buffer are lost with the process.
#[test]
fn what_callbacks_say_is_on_the_disk_when_training_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let log = folder.path().join("logs/run-0001");
    let train_config = config(&folder.path().join("models")).log_dir(folder.path().join("logs"));
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(train_config.ckpt_steps(4).log_interval(1000))
        .adaptor(square)
        .build()
        .unwrap();
    let mut batches = loader(3);
    let run = trainer
        .train(&mut batches)
        .optimizer(Sgd::new(0.1))
        .steps(6);
    let mut seen = Vec::new();
    run.evaluate_every(2)
        .callback(|_, info| {
            info.log("f1", 0.25);
            Ok(info.global_step as f64)
        })
        .after_step(|_, _| {
            let curves = curves(&log);
            let of = |tag: &str| curves.get(tag).map_or(0, Vec::len);
            seen.push((of("scalar/metric"), of("scalar/f1")));
            Ok(())
        })
        .run()
        .unwrap();
    assert_eq!(seen, [(0, 0), (0, 0), (1, 1), (1, 1), (2, 2), (2, 2)]);
}

#[test]
fn the_norm_of_the_gradients_is_logged_where_they_are_clipped() {
    let train = |max_norm: Option<f64>| {
        let folder = tempfile::tempdir().unwrap();
        let student = Net::new(2, 4, 0.2);
        let memory = MemorySink::new();
        let mut weights = vec![numbers(&student.variables)];
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()).log_interval(2))
            .adaptor(square)
            .build()
            .unwrap();
        let mut batches = loader(3);
        let run = trainer.train(&mut batches).optimizer(Sgd::new(0.25));
        let run = run.epochs(1).log_sink(memory.clone());
        let run = run.after_step(|student, _| {
            weights.push(numbers(&student.variables));
            Ok(())
        });
        match max_norm {
            Some(max_norm) => run.max_grad_norm(max_norm).run().unwrap(),
            None => run.run().unwrap(),
        };
        (memory.curve("scalar/grad_norm"), weights)
    };
    let (norms, weights) = train(None);
    assert!(norms.is_empty());
    // Without a limit nothing is clipped, and the norm is logged.
    let (norms, same) = train(Some(f64::INFINITY));
    assert_eq!(weights, same);
    assert_eq!(norms.len(), 3);
    for (step, (at, norm)) in norms.iter().enumerate() {
        // Plain gradient descent goes as far as the gradient is long.
        let went = distance(&weights[step], &weights[step + 1]) / 0.25;
        assert!((norm - went).abs() < 1e-5 * went, "{norm} {went}");
        assert_eq!(*at, step as u64);
    }
    // The norm before clipping.
    let (clipped, _) = train(Some(1e-3));
    assert_eq!(clipped[0], norms[0]);
}

#[test]
fn what_callbacks_return_and_log_stands_at_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let memory = MemorySink::new();
    let train_config = config(&folder.path().join("models")).log_dir(folder.path().join("logs"));
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(train_config.log_interval(5))
        .adaptor(square)
        .build()
        .unwrap();
    let mut batches = loader(5);
    let run = trainer.train(&mut batches).optimizer(Sgd::new(0.1));
    let summary = run
        .epochs(2)
        .log_sink(memory.clone())
        .callback(|_, info| {
            info.log("f1", 0.25 * info.global_step as f64);
            Ok(0.5)
        })
        .callback(|_, info| {
            info.log("recall", 0.125);
            Ok(())
        })
        .run()
        .unwrap();
    let shown = curves(&summary.log_dir.unwrap());
    for (tag, first, second) in [
        ("scalar/metric", 0.5, 0.5),
        ("scalar/f1", 1.25, 2.5),
        ("scalar/recall", 0.125, 0.125),
    ] {
        assert_eq!(memory.curve(tag), [(5, first), (10, second)], "{tag}");
        let expected = [(5, first as f32), (10, second as f32)];
        assert_eq!(shown[tag], expected, "{tag}");
    }
    let speeds = &shown["scalar/steps_per_second"];
    assert!(speeds.iter().all(|(_, speed)| *speed > 0.0), "{speeds:?}");
    // The optimizer step between a reading and the checkpoint is not measured by itself.
    let steps: Vec<_> = speeds.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [4, 9]);
    assert!(memory.curve("scalar/steps_per_second").is_empty());
}

#[test]
fn tensorboard_shows_the_configurations_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let train_config = config(&folder.path().join("models")).log_dir(folder.path().join("logs"));
    let distill_config = DistillationConfig::default().temperature(3.0);
    let mut distiller = general(
        &teacher,
        &student,
        train_config.clone(),
        distill_config.clone(),
    )
    .unwrap();
    let mut batches = loader(2);
    let run = distiller.train(&mut batches).optimizer(Sgd::new(0.1));
    let summary = run.epochs(3).max_grad_norm(2.0).run().unwrap();
    let files = event_files(&summary.log_dir.unwrap());
    let texts: Vec<_> = read_events(&files[0])
        .into_iter()
        .flat_map(|event| event.texts)
        .collect();
    let tags: Vec<_> = texts.iter().map(|(tag, _)| tag.as_str()).collect();
    let names = ["training", "distillation", "run"];
    assert_eq!(tags, names.map(|name| format!("configuration/{name}")));
    let json = texts.iter().map(|(_, text)| {
        // Each line is one of code in Markdown.
        assert!(text.lines().all(|line| line.starts_with("    ")), "{text}");
        serde_json::from_str::<Value>(text).unwrap()
    });
    let json: Vec<_> = json.collect();
    assert_eq!(json[0], serde_json::to_value(&train_config).unwrap());
    assert_eq!(json[1], serde_json::to_value(&distill_config).unwrap());
    assert_eq!(
        (&json[2]["total_steps"], &json[2]["max_grad_norm"]),
        (&6.into(), &2.0.into())
    );
    assert_eq!(json[2]["groups"][0]["options"]["lr"], 0.1);
}
