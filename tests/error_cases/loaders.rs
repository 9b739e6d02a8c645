//! Loaders and preprocessing that fail.

use tch::{Device, Kind, Tensor};
use textbrewer::{
    BasicTrainer, DataLoader, Distiller, Error, FnLoader, Result, Sgd, TrainSummary, VecLoader,
};

use crate::common::tiny::{Net, batch, config, files, first_line, loader, square};

enum Length {
    Epochs(u64),
    Steps(u64),
}

fn train(
    loader: &mut dyn DataLoader<Batch = Tensor>,
    length: Length,
    postprocessor: impl FnMut(Tensor) -> Result<Tensor>,
) -> Result<TrainSummary> {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()?;
    let run = trainer
        .train(loader)
        .optimizer(Sgd::new(0.1))
        .batch_postprocessor(postprocessor);
    let result = match length {
        Length::Epochs(epochs) => run.epochs(epochs).run(),
        Length::Steps(steps) => run.steps(steps).run(),
    };
    // Whatever happens, no part of a file stays behind.
    let left = files(folder.path());
    assert!(
        left.iter().all(|name| name.ends_with(".safetensors")),
        "{left:?}"
    );
    result
}

const EMPTY: &str = "data loader, batch 1 of epoch 1: the loader has no batch; \
                     is the data set empty, smaller than a batch with `drop_last`, or than \
                     the number of processes with `Uneven::Drop`?";

#[test]
fn an_empty_loader_is_an_error_and_no_endless_loop() {
    assert!(first_line(VecLoader::<Tensor>::new(Vec::new())).contains("batch"));
    let none = |_| Ok(std::iter::empty::<Result<Tensor>>());
    let mut known = FnLoader::new(none).with_num_batches(0);
    assert_eq!(first_line(train(&mut known, Length::Epochs(2), Ok)), EMPTY);
    assert_eq!(first_line(train(&mut known, Length::Steps(2), Ok)), EMPTY);
    let mut unknown = FnLoader::new(none);
    assert_eq!(first_line(train(&mut unknown, Length::Steps(2), Ok)), EMPTY);
}

#[test]
fn a_stream_that_dries_up_is_told_with_its_epoch() {
    let mut drying = FnLoader::new(|epoch| {
        let count = if epoch == 1 { 2 } else { 0 };
        Ok((0..count).map(|seed| Ok(batch(seed))))
    });
    let shown = first_line(train(&mut drying, Length::Steps(5), Ok));
    assert!(
        shown.starts_with("data loader, batch 1 of epoch 2: the loader has no batch"),
        "{shown}"
    );
}

#[test]
fn a_loader_must_give_as_many_batches_as_it_announced() {
    for (given, message) in [
        (
            2,
            "data loader, batch 3 of epoch 1: the loader announced 3 batches and gave only 2",
        ),
        (
            4,
            "data loader, batch 4 of epoch 1: the loader announced 3 batches and gave more",
        ),
    ] {
        let mut wrong = FnLoader::new(|_| Ok((0..given).map(|seed| Ok(batch(seed)))));
        wrong = wrong.with_num_batches(3);
        assert_eq!(
            first_line(train(&mut wrong, Length::Epochs(2), Ok)),
            message
        );
    }
}

#[test]
fn a_loaders_error_is_told_with_epoch_and_batch() {
    let mut failing = FnLoader::new(|epoch| {
        Ok((0..4).map(move |seed| match (epoch, seed) {
            (2, 2) => Err(Error::other("line 17 is damaged")),
            _ => Ok(batch(seed)),
        }))
    })
    .with_num_batches(4);
    assert_eq!(
        first_line(train(&mut failing, Length::Epochs(3), Ok)),
        "data loader, batch 3 of epoch 2: line 17 is damaged"
    );
    assert_eq!(
        first_line(train(&mut failing, Length::Steps(20), Ok)),
        "data loader, batch 3 of epoch 2: line 17 is damaged"
    );

    type Batches = std::vec::IntoIter<Result<Tensor>>;
    let mut closed = FnLoader::new(|epoch| -> Result<Batches> {
        match epoch {
            3 => Err(Error::other("the file is gone")),
            _ => Ok(vec![Ok(batch(0))].into_iter()),
        }
    });
    assert_eq!(
        first_line(train(&mut closed, Length::Steps(20), Ok)),
        "data loader, batch 1 of epoch 3: the file is gone"
    );
}

#[test]
fn a_postprocessors_error_is_not_taken_for_the_loaders() {
    let mut count = 0;
    let failing = |batch: Tensor| {
        count += 1;
        match count {
            5 => Err(Error::other("no token to replace")),
            _ => Ok(batch),
        }
    };
    assert_eq!(
        first_line(train(&mut loader(3), Length::Epochs(2), failing)),
        "data loader, batch 2 of epoch 2: batch_postprocessor: no token to replace"
    );
}

#[test]
fn libtorchs_refusal_of_a_batch_is_one_line() {
    let other = Tensor::zeros([9, 9], (Kind::Float, Device::Cpu));
    let refusing = |batch: Tensor| Ok(batch.f_matmul(&other)?);
    let error = train(&mut loader(1), Length::Epochs(1), refusing).unwrap_err();
    let shown = error.to_string();
    let start = "data loader, batch 1 of epoch 1: batch_postprocessor: tensor operation: ";
    assert!(shown.starts_with(start), "{shown}");
    assert_eq!(shown.lines().count(), 1, "{shown}");
}
