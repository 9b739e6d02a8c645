//! Random numbers of libtorch: the same for the data, each process's own for dropout.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};
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

#[test]
fn are_the_same_for_data_and_others_for_dropout() {
    let name = "random::are_the_same_for_data_and_others_for_dropout";
    let folder = in_processes(name, 3, |group, folder| {
        // What has been drawn before is another number in each process.
        let _ = Tensor::randn([1 + group.rank() as i64], (Kind::Float, Device::Cpu));
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
        leave(folder, group, &(&loader.all, masks.borrow().clone()));
    });
    let Some(folder) = folder else { return };
    let all: Vec<(Vec<f64>, Vec<Vec<f64>>)> = found(folder.path(), 3);
    for (noise, masks) in &all {
        assert_eq!((noise, noise.len()), (&all[0].0, 3));
        assert_eq!(masks.len(), 9);
    }
    let mut masks: Vec<String> = all
        .iter()
        .flat_map(|(_, masks)| masks)
        .map(|mask| format!("{mask:?}"))
        .collect();
    masks.sort();
    masks.dedup();
    assert_eq!(masks.len(), 27, "no two masks are alike");
}
