//! Batches on their way to a device.

use std::collections::{BTreeMap, HashMap};

use tch::{Cuda, Device, Tensor};
use textbrewer::data::TaskBatch;
use textbrewer::models::BertInputs;
use textbrewer::{Batch, Split};

fn tensor() -> Tensor {
    Tensor::from_slice(&[1i64, 2, 3])
}

#[test]
fn what_is_there_already_is_shared_and_not_copied() {
    fn moved<B: Batch>(batch: &B, first: impl Fn(&B) -> &Tensor) {
        let there = batch.to_device(Device::Cpu).unwrap();
        assert_eq!(first(&there).data_ptr(), first(batch).data_ptr());
    }
    moved(&tensor(), |batch| batch);
    moved(&(7i64, tensor()), |batch| &batch.1);
    moved(&vec![tensor()], |batch| &batch[0]);
    moved(&Some(tensor()), |batch| batch.as_ref().unwrap());
    moved(&BTreeMap::from([("a", tensor())]), |batch| &batch["a"]);
    moved(&HashMap::from([("a", tensor())]), |batch| &batch["a"]);
    moved(&Split::new(tensor(), ()), |batch| &batch.teacher);
    moved(&Split::new((), tensor()), |batch| &batch.student);
    moved(&TaskBatch::new("a", tensor()), |batch| &batch.batch);
    let mut inputs = BertInputs::new(tensor());
    inputs.labels = Some(tensor());
    moved(&inputs, |batch| &batch.input_ids);
    moved(&inputs, |batch| batch.labels.as_ref().unwrap());
}

#[test]
fn a_gpu_gets_the_same_numbers_or_is_missed() {
    let moved = Batch::to_device(&tensor(), Device::Cuda(0));
    match Cuda::is_available() {
        true => {
            let moved = moved.unwrap();
            assert_eq!(moved.device(), Device::Cuda(0));
            assert_eq!(moved.to_device(Device::Cpu), tensor());
        }
        false => assert!(moved.is_err()),
    }
}

#[test]
fn a_tensor_that_holds_nothing_is_refused() {
    let error = Batch::to_device(&Tensor::new(), Device::Cpu).unwrap_err();
    let expected = "batch: expected a tensor, got an undefined one";
    assert_eq!(error.to_string(), expected);
}
