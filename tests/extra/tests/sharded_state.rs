//! The bytes that AdamW keeps in each of two processes, whole and divided.

#[path = "../../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::ranks::in_processes;
use common::tiny::{Net, config, general, loader};
use tch::Tensor;
use textbrewer::distributed::ProcessGroup;
use textbrewer::optim::{Optimizer, ParamGroup};
use textbrewer::{AdamW, DistillationConfig, Distiller, Result};
use torch_meter::measure;

/// Counts the bytes that the steps of an optimizer leave allocated: its state. In the rest of a run
/// threads of Gloo's free what this one allocated.
struct Metered {
    optimizer: AdamW,
    kept_bytes: i64,
}

impl Optimizer for Metered {
    fn add_group(&mut self, group: ParamGroup) -> Result<()> {
        self.optimizer.add_group(group)
    }

    fn groups(&self) -> &[ParamGroup] {
        self.optimizer.groups()
    }

    fn zero_grad(&mut self) -> Result<()> {
        self.optimizer.zero_grad()
    }

    fn step(&mut self, factor: f64) -> Result<()> {
        let (result, usage) = measure(|| self.optimizer.step(factor));
        self.kept_bytes += usage.kept_bytes;
        result
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.optimizer.state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.optimizer.load_state(state)
    }
}

fn kept_bytes(folder: &Path, group: &ProcessGroup, shard: bool) -> i64 {
    let teacher = Net::new(1, 8, 0.5);
    let student = Net::new(6, 64, 0.25);
    let nothing = DistillationConfig::default();
    let mut distiller = general(&teacher, &student, config(folder), nothing).unwrap();
    let mut loader = loader(8);
    let mut optimizer = Metered {
        optimizer: AdamW::new(0.01),
        kept_bytes: 0,
    };
    let run = distiller.train(&mut loader).epochs(1);
    let run = run.optimizer(&mut optimizer).no_decay(["bias"]);
    let run = run.process_group(group).shard_optimizer(shard);
    assert_eq!(run.run().unwrap().global_steps, 4);
    optimizer.kept_bytes
}

#[test]
fn each_of_two_processes_has_half() {
    in_processes("each_of_two_processes_has_half", 2, |group, folder| {
        let whole = kept_bytes(&folder.join("whole"), group, false);
        let divided = kept_bytes(&folder.join("divided"), group, true);
        // Five layers of 64 × 64, one of 3 × 64, a head of 64 × 2, and their biases.
        let parameters = 5 * 64 * 64 + 3 * 64 + 64 * 2 + 6 * 64 + 2;
        // Two moments of each, and a count of steps for each of the tensors.
        let state = |parameters: i64, tensors: i64| 4 * (2 * parameters + tensors);
        assert_eq!(whole, state(parameters, 14));
        // Of the five large layers one process has three, and the other all that is small.
        let of_first = state(3 * 64 * 64, 3);
        let expected = [of_first, whole - of_first];
        assert_eq!(divided, expected[group.rank()]);
        // Not more than half of the largest parameter's state from the half.
        assert!((divided - whole / 2).abs() <= state(64 * 64, 1) / 2);
    });
}
