//! Schedules of learning rates in a run.

use std::cell::RefCell;

use textbrewer::schedule::linear_with_warmup_fraction;
use textbrewer::{BasicTrainer, Distiller, Sgd};

use crate::common::tiny::{Net, config, first_line, loader, numbers, square};

#[test]
fn a_schedule_is_told_the_steps_of_the_run() {
    let student = Net::new(2, 4, 0.2);
    let calls = RefCell::new(Vec::new());
    for (steps, epochs, total) in [(Some(3), None, 3), (None, Some(2), 4)] {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()).gradient_accumulation_steps(2))
            .adaptor(square)
            .build()
            .unwrap();
        let mut loader = loader(4);
        let mut run = trainer.train(&mut loader).optimizer(Sgd::new(0.1));
        if let Some(steps) = steps {
            run = run.steps(steps);
        }
        if let Some(epochs) = epochs {
            run = run.epochs(epochs);
        }
        run.after_step(|_, _| {
            calls.borrow_mut().push(None);
            Ok(())
        })
        .schedule(|step, total| {
            calls.borrow_mut().push(Some((step, total)));
            1.0
        })
        .run()
        .unwrap();
        // The first calls are for the description of the run, at steps that it has.
        let mut described = calls.take();
        let calls = described.split_off(3);
        assert_eq!(described, [0, 1, 2].map(|step| Some((step, total))));
        let expected: Vec<_> = (0..total)
            .flat_map(|step| [Some((step, total)), None])
            .collect();
        assert_eq!(calls, expected);
    }
}

#[test]
fn the_rate_ends_at_zero_however_long_the_run_is() {
    for steps in [4, 8] {
        let folder = tempfile::tempdir().unwrap();
        let student = Net::new(2, 4, 0.2);
        let mut seen = vec![numbers(&student.variables)];
        BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()
            .unwrap()
            .train(&mut loader(2))
            .steps(steps)
            .optimizer(Sgd::new(0.1))
            .schedule(linear_with_warmup_fraction(0.25))
            .after_step(|student, _| {
                seen.push(numbers(&student.variables));
                Ok(())
            })
            .run()
            .unwrap();
        // The first step warms up from 0; all others have a rate, of which the last is
        // 1 / (steps - warmup).
        assert_eq!(seen[0], seen[1]);
        assert!((1..steps as usize).all(|step| seen[step] != seen[step + 1]));
    }
}

#[test]
fn a_warmup_that_is_no_fraction_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let result = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(2))
        .steps(4)
        .optimizer(Sgd::new(0.1))
        .schedule(linear_with_warmup_fraction(100.0))
        .run();
    assert_eq!(
        first_line(result),
        "schedule: its factor at step 0 of 4 is NaN, which must be a finite number; a warm-up as \
         a fraction is from 0 to 1"
    );
    let saved = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(saved, 0);
}
