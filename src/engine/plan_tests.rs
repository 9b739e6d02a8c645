//! Plans, compared with what TextBrewer does.

use super::*;

fn saved(plan: &Plan, epochs: u64, per_epoch: u64) -> Vec<u64> {
    (1..=epochs * per_epoch)
        .filter(|step| plan.saves_after(*step, (step - 1) / per_epoch))
        .collect()
}

#[test]
fn checkpoints_stand_where_the_original_puts_them() {
    // What int(10 * i / 4) for i in 0..4 gives: 0, 2, 5, 7; 0 is the end of the epoch.
    let config = TrainingConfig::default().ckpt_frequency(4);
    let plan = Plan::new(
        &config,
        Length::Epochs {
            epochs: 2,
            batches: 10,
        },
    )
    .unwrap();
    assert_eq!(saved(&plan, 2, 10), [2, 5, 7, 10, 12, 15, 17, 20]);
    let at: Vec<_> = (0..30).filter(|step| plan.saves_at(*step)).collect();
    assert_eq!(at, saved(&plan, 2, 10));

    // Every second epoch, and the last in any case.
    let config = TrainingConfig::default().ckpt_epoch_frequency(2);
    let plan = Plan::new(
        &config,
        Length::Epochs {
            epochs: 5,
            batches: 3,
        },
    )
    .unwrap();
    assert_eq!(saved(&plan, 5, 3), [6, 12, 15]);
}

#[test]
fn huge_numbers_neither_overflow_nor_ask_for_memory() {
    let config = TrainingConfig::default().ckpt_frequency(u64::MAX);
    let length = Length::Epochs {
        epochs: u64::MAX,
        batches: 3,
    };
    let plan = Plan::new(&config, length).unwrap();
    assert_eq!(plan.total_steps(), u64::MAX);
    assert_eq!(saved(&plan, 2, 3), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn runs_of_steps_save_at_the_end_even_without_ckpt_steps() {
    let plan = Plan::new(&TrainingConfig::default(), Length::Steps(7)).unwrap();
    assert_eq!(saved(&plan, 1, 7), [7]);
    let config = TrainingConfig::default().ckpt_steps(3);
    let plan = Plan::new(&config, Length::Steps(7)).unwrap();
    assert_eq!(saved(&plan, 1, 7), [3, 6, 7]);
    assert!(plan.saves_at(7) && !plan.saves_at(9) && !plan.saves_at(0));
}

#[test]
fn positions_that_a_run_was_never_at() {
    let config = TrainingConfig::default().gradient_accumulation_steps(2);
    let epochs = Length::Epochs {
        epochs: 3,
        batches: 5,
    };
    let position = |global_step, forward_step, epoch, batch, counted| Position {
        global_step,
        forward_step,
        epoch,
        batch,
        counted,
    };
    let plan = Plan::new(&config, epochs).unwrap();
    assert!(plan.has_position(&position(3, 7, 2, 2, 2)));
    assert!(!plan.has_position(&position(3, 8, 2, 2, 2)));
    assert!(!plan.has_position(&position(3, 7, 2, 2, 4)));
    assert!(!plan.has_position(&position(3, 11, 2, 6, 6)));
    assert!(!plan.has_position(&position(3, 7, u64::MAX, 2, 2)));
    let plan = Plan::new(&config, Length::Steps(9)).unwrap();
    assert!(plan.has_position(&position(3, 6, 2, 1, 6)));
    assert!(!plan.has_position(&position(3, 6, 2, 1, 1)));
    // Passing over as many batches of a loader without end would never end.
    let far = 1 << 62;
    assert!(!plan.has_position(&position(3, far, 1, far, far)));
}

#[test]
fn a_remainder_is_dropped_or_stepped_on() {
    let length = Length::Epochs {
        epochs: 1,
        batches: 8,
    };
    let steps = |plan: &Plan| (0..8).filter(|b| plan.steps_after(*b)).collect::<Vec<_>>();
    let config = TrainingConfig::default().gradient_accumulation_steps(3);

    let dropped = Plan::new(&config, length).unwrap();
    assert_eq!((dropped.total_steps(), steps(&dropped)), (2, vec![2, 5]));
    assert_eq!(dropped.divisor(7), 3);

    let stepped = Plan::new(&config.step_on_remainder(true), length).unwrap();
    assert_eq!((stepped.total_steps(), steps(&stepped)), (3, vec![2, 5, 7]));
    assert_eq!(
        [stepped.divisor(5), stepped.divisor(6), stepped.divisor(7)],
        [3, 2, 2]
    );
}

#[test]
fn fewer_batches_than_accumulation_steps_are_refused() {
    let config = TrainingConfig::default().gradient_accumulation_steps(4);
    let error = Plan::new(
        &config,
        Length::Epochs {
            epochs: 1,
            batches: 3,
        },
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("gradient_accumulation_steps: 4 batches"),
        "{error}"
    );
}
