//! Epochs that cannot be shared out evenly.

use tch::Tensor;
use textbrewer::data::{Shard, Uneven};
use textbrewer::distributed::ProcessGroup;
use textbrewer::{AdamW, BasicTrainer, DataLoader, Distiller, Result, TrainSummary};

use super::together::{found, leave};
use crate::common::ranks::in_processes;
use crate::common::tiny::{Net, batch, config, first_line, loader, numbers, square};

/// Makes a share of its own, with a batch more in each process than in the one before.
struct Own {
    share: Option<Shard>,
    knows: bool,
    given: usize,
}

impl Own {
    fn len(&self) -> usize {
        3 + self.share.map_or(0, |share| share.rank())
    }
}

impl DataLoader for Own {
    type Batch = Tensor;

    fn num_batches(&self) -> Option<usize> {
        self.knows.then(|| self.len())
    }

    fn start_epoch(&mut self, _: u64) -> Result<()> {
        self.given = 0;
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<Tensor>> {
        self.given += 1;
        Ok((self.given <= self.len()).then(|| batch(0)))
    }

    fn take_share(&mut self, shard: Shard) -> bool {
        self.share = Some(shard);
        true
    }
}

fn train(
    group: &ProcessGroup,
    folder: &std::path::Path,
    loader: &mut dyn DataLoader<Batch = Tensor>,
    (uneven, steps): (Uneven, Option<u64>),
) -> (Result<TrainSummary>, Vec<f64>) {
    let student = Net::new(2, 4, group.rank() as f64);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder))
        .adaptor(square)
        .build()
        .unwrap();
    let run = trainer.train(loader).optimizer(AdamW::new(0.01));
    let run = match steps {
        Some(steps) => run.steps(steps),
        None => run.epochs(2),
    };
    let result = run.uneven(uneven).process_group(group).run();
    (result, numbers(&student.variables))
}

/// Seven batches are four for each of two processes, or three.
#[test]
fn are_padded_or_left_out_and_not_kept() {
    let name = "ends::are_padded_or_left_out_and_not_kept";
    let folder = in_processes(name, 2, |group, folder| {
        let mut all = Vec::new();
        for (uneven, steps) in [(Uneven::Pad, 8), (Uneven::Drop, 6)] {
            let folder = folder.join(format!("{uneven:?}"));
            let (result, numbers) = train(group, &folder, &mut loader(7), (uneven, None));
            assert_eq!(result.unwrap().global_steps, steps);
            all.push(numbers);
        }
        let kept = train(
            group,
            &folder.join("Keep"),
            &mut loader(7),
            (Uneven::Keep, None),
        );
        let said = first_line(kept.0);
        assert!(
            said.starts_with("uneven: `Keep` would leave some processes"),
            "{said}"
        );
        leave(folder, group, &all);
    });
    let Some(folder) = folder else { return };
    let all: Vec<Vec<Vec<f64>>> = found(folder.path(), 2);
    assert_eq!(all[0], all[1]);
    assert_ne!(all[0][0], all[0][1]);
}

#[test]
fn of_other_lengths_are_refused_before_anything_is_trained() {
    let name = "ends::of_other_lengths_are_refused_before_anything_is_trained";
    in_processes(name, 2, |group, folder| {
        let mut own = Own {
            share: None,
            knows: true,
            given: 0,
        };
        let (result, after) = train(group, folder, &mut own, (Uneven::Pad, None));
        let said = result.unwrap_err().to_string();
        assert!(
            said.contains("batches: 3 in process 0, 4 in process 1"),
            "{said}"
        );
        assert!(
            said.contains("the processes describe different runs"),
            "{said}"
        );
        let student = Net::new(2, 4, group.rank() as f64);
        assert_eq!(after, numbers(&student.variables));
    });
}

/// A loader that does not know its length is asked batch by batch.
#[test]
fn of_unknown_lengths_are_noticed_where_they_come() {
    let name = "ends::of_unknown_lengths_are_noticed_where_they_come";
    in_processes(name, 2, |group, folder| {
        let mut own = Own {
            share: None,
            knows: false,
            given: 0,
        };
        let (result, _) = train(group, folder, &mut own, (Uneven::Pad, Some(9)));
        let said = result.unwrap_err().to_string();
        let expected = "process 1 has another batch and process 0 is at the end of the epoch";
        assert!(said.contains(expected), "{said}");
    });
}
