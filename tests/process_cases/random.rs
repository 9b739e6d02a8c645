//! Random numbers of libtorch: the same for the data, each process's own for dropout.

use std::cell::RefCell;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use textbrewer::distributed::ProcessGroup;
use textbrewer::{AdamW, BasicTrainer, DataLoader, Distiller, Model, Result, from_fn};

use super::together::{found, leave};
use crate::common::elements;
use crate::common::ranks::in_processes;
use crate::common::tiny::{Net, batch, config, square};

/// Adds a random number to all batches of an epoch.
struct Noisy {
    noise: Tensor,
    all: Vec<f64>,
    given: i64,
}

impl DataLoader for Noisy {
    type Batch = Tensor;

    fn num_batches(&self) -> Option<usize> {
        Some(9)
    }

    fn start_epoch(&mut self, _: u64) -> Result<()> {
        self.noise = Tensor::f_randn([1], (Kind::Float, Device::Cpu))?;
        self.all.extend(elements(&self.noise));
        self.given = 0;
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<Tensor>> {
        self.given += 1;
        Ok((self.given <= 9).then(|| batch(self.given) + &self.noise))
    }
}

/// What one process has drawn.
#[derive(serde::Serialize, serde::Deserialize)]
struct Drawn {
    /// For the data of each epoch.
    noise: Vec<f64>,
    /// For the dropout of each batch.
    masks: Vec<Vec<f64>>,
}

fn train(group: &ProcessGroup, folder: &Path) -> Drawn {
    let net = Net::new(2, 4, 0.25);
    let masks = RefCell::new(Vec::new());
    let student = from_fn(|batch: &Tensor, train: bool| {
        let ones = Tensor::f_ones([32], (Kind::Float, Device::Cpu))?;
        let dropped = ones.f_dropout(0.5, train)?;
        masks.borrow_mut().push(elements(&dropped));
        net.forward(batch, train)
    });
    let mut loader = Noisy {
        noise: Tensor::new(),
        all: Vec::new(),
        given: 0,
    };
    BasicTrainer::builder(&student, &net.variables)
        .train_config(config(folder))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader)
        .epochs(3)
        .optimizer(AdamW::new(0.01))
        .process_group(group)
        .run()
        .unwrap();
    Drawn {
        noise: loader.all,
        masks: masks.take(),
    }
}

#[test]
fn are_the_same_for_data_and_others_for_dropout() {
    let name = "random::are_the_same_for_data_and_others_for_dropout";
    let folder = in_processes(name, 3, |group, folder| {
        // Where they were alike before, and where they were not.
        let mut all = Vec::new();
        for (run, seed) in [("alike", 5), ("others", 6 + group.rank() as i64)] {
            tch::manual_seed(seed);
            all.push(train(group, &folder.join(run)));
        }
        leave(folder, group, &all);
    });
    let Some(folder) = folder else { return };
    let all: Vec<Vec<Drawn>> = found(folder.path(), 3);
    for run in 0..2 {
        let first = &all[0][run];
        let mut masks = Vec::new();
        for drawn in all.iter().map(|runs| &runs[run]) {
            assert_eq!((&drawn.noise, drawn.noise.len()), (&first.noise, 3));
            assert_eq!(drawn.masks.len(), 9);
            masks.extend(drawn.masks.iter().map(|mask| format!("{mask:?}")));
        }
        masks.sort();
        masks.dedup();
        assert_eq!(masks.len(), 27, "no two masks are alike");
    }
}
