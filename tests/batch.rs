//! Batches on their way to a device.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use tch::{Cuda, Device, Tensor};
use textbrewer::data::TaskBatch;
use textbrewer::models::BertInputs;
use textbrewer::{Batch, Ids, Split};

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

mod derived {
    //! Where other things have the names that the derive could take for its own.

    use textbrewer::Batch;

    type Tensor = tch::Tensor;
    #[allow(dead_code)]
    type Result = ();
    #[allow(dead_code)]
    type Device = ();

    #[derive(Debug, Batch)]
    pub(super) struct Named {
        pub(super) ids: Tensor,
        pub(super) labels: Option<Tensor>,
        pub(super) r#type: String,
    }

    #[derive(Debug, Batch)]
    pub(super) struct Tuple(pub(super) Tensor, pub(super) Vec<Tensor>);

    #[derive(Debug, PartialEq, Batch)]
    pub(super) struct Unit;

    #[derive(Debug, PartialEq, Batch)]
    pub(super) struct Empty {}

    #[derive(Debug, Batch)]
    pub(super) struct Generic<T, S = i64, const N: usize = 2>
    where
        S: Clone,
    {
        pub(super) teacher: T,
        pub(super) student: Vec<(T, S)>,
    }

    macro_rules! named_by_a_macro {
        ($name:ident, $field:ident: $type:ty) => {
            #[derive(Debug, Batch)]
            pub(super) struct $name {
                pub(super) $field: $type,
            }
        };
    }

    named_by_a_macro!(OfMacro, device: Tensor);
}

fn moved<B: Batch + Debug>(batch: B) -> B {
    batch.to_device(Device::Cpu).unwrap()
}

#[test]
fn a_struct_with_named_fields_derives_it() {
    let batch = derived::Named {
        ids: tensor(),
        labels: Some(tensor() * 2),
        r#type: "query".to_owned(),
    };
    let there = Batch::to_device(&batch, Device::Cpu).unwrap();
    assert_eq!(there.ids.data_ptr(), batch.ids.data_ptr());
    let (before, after) = (batch.labels.unwrap(), there.labels.unwrap());
    assert_eq!(after.data_ptr(), before.data_ptr());
    assert_eq!(there.r#type, "query");
}

#[test]
fn tuple_structs_and_structs_without_fields_derive_it() {
    let there = moved(derived::Tuple(tensor(), vec![tensor() * 2, tensor() * 3]));
    assert_eq!((there.0, there.1.len()), (tensor(), 2));
    assert_eq!(there.1[1], tensor() * 3);
    assert_eq!(moved(derived::Unit), derived::Unit);
    assert_eq!(moved(derived::Empty {}), derived::Empty {});
    assert_eq!(
        moved(derived::OfMacro { device: tensor() }).device,
        tensor()
    );
}

#[test]
fn a_generic_struct_derives_it_for_batches() {
    fn is_batch<B: Batch>() {}
    is_batch::<derived::Generic<Option<Tensor>, String, 7>>();
    let there: derived::Generic<Tensor> = moved(derived::Generic {
        teacher: tensor(),
        student: vec![(tensor() * 2, 5)],
    });
    assert_eq!(there.teacher, tensor());
    assert_eq!(there.student, [(tensor() * 2, 5)]);
}

#[test]
fn the_first_field_that_cannot_be_moved_fails_it() {
    let refused = |ids: Tensor, labels: Option<Tensor>| {
        let batch = derived::Named {
            ids,
            labels,
            r#type: String::new(),
        };
        Batch::to_device(&batch, Device::Cpu).is_err()
    };
    assert!(refused(Tensor::new(), None));
    assert!(refused(tensor(), Some(Tensor::new())));
    assert!(!refused(tensor(), Some(tensor())));
    assert!(
        derived::Tuple(tensor(), vec![Tensor::new()])
            .to_device(Device::Cpu)
            .is_err()
    );
}

/// The ids of a batch, and whether it still has them elsewhere.
fn ids_of<B: Batch>(batch: &B) -> Option<Vec<u64>> {
    let ids = batch.ids().map(|ids| ids.to_vec());
    let there = batch.to_device(Device::Cpu).unwrap();
    assert_eq!(there.ids().map(|ids| ids.to_vec()), ids);
    ids
}

fn ids(first: u64) -> Ids {
    (first..first + 3).collect()
}

#[test]
fn a_batch_has_the_first_ids_in_it() {
    assert_eq!(ids_of(&tensor()), None);
    assert_eq!(ids_of(&7u64), None);
    assert_eq!(ids_of(&(tensor(), 7u64)), None);
    assert_eq!(ids_of(&(tensor(), ids(4))), Some(vec![4, 5, 6]));
    assert_eq!(ids_of(&(ids(4), ids(9))), Some(vec![4, 5, 6]));
    assert_eq!(
        ids_of(&(None::<Ids>, ((), Some(ids(9))))),
        Some(vec![9, 10, 11])
    );
    // No single one says which examples all of them have.
    assert_eq!(ids_of(&vec![ids(4), ids(9)]), None);
}

#[test]
fn a_struct_has_the_ids_of_its_first_field_with_some() {
    let of = |teacher: Option<Ids>, student: Vec<(Option<Ids>, i64)>| {
        ids_of::<derived::Generic<_, _>>(&derived::Generic { teacher, student })
    };
    assert_eq!(of(Some(ids(4)), Vec::new()), Some(vec![4, 5, 6]));
    assert_eq!(of(None, vec![(Some(ids(4)), 5)]), None);
    assert_eq!(ids_of(&derived::Unit), None);
    assert_eq!(ids_of(&derived::Empty {}), None);
    assert_eq!(ids_of(&derived::Tuple(tensor(), vec![tensor()])), None);
    // A field of that name may be something else.
    let named = derived::Named {
        ids: tensor(),
        labels: None,
        r#type: String::new(),
    };
    assert_eq!(ids_of(&named), None);
}

#[test]
fn batches_of_the_crate_have_the_ids_of_what_is_in_them() {
    let with = |first| (ids(first), tensor());
    let teacher = Split::new(with(4), with(9));
    assert_eq!(ids_of(&teacher), Some(vec![4, 5, 6]));
    let student = Split::new(tensor(), with(9));
    assert_eq!(ids_of(&student), Some(vec![9, 10, 11]));
    assert_eq!(ids_of(&TaskBatch::new("a", with(4))), Some(vec![4, 5, 6]));
    assert_eq!(ids_of(&TaskBatch::new("a", tensor())), None);
    let inputs = BertInputs::new(tensor());
    assert_eq!(ids_of(&inputs), None);
    assert_eq!(ids_of(&inputs.ids(ids(4))), Some(vec![4, 5, 6]));
}
