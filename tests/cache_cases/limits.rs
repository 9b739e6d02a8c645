//! Limits, and what cannot be kept.

use tch::{Tensor, nn};
use textbrewer::distiller::Task;
use textbrewer::{
    AdaptorOutput, BasicDistiller, DataLoader, Error, MultiTaskDistiller, TaskLoader, from_fn,
};

use crate::common::device::device;
use crate::common::tiny::{adapt, config, first_line, loader};
use crate::{Epochs, Steps, logits_only, nets, run};

#[test]
fn the_limit_is_kept_and_its_error_names_the_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let variables = nn::VarStore::new(device());
    let logits = variables.root().zeros("logits", &[1, 200_000]);
    let teacher = from_fn(|_: &Tensor, _| Ok(logits.ones_like()));
    let student = from_fn(|_: &Tensor, _| Ok(logits.shallow_clone()));
    let adaptor = |_: &Tensor, logits: &Tensor| Ok(AdaptorOutput::new().logits(logits));
    let train = |limit| {
        let mut distiller = BasicDistiller::builder(&teacher, &student, &variables)
            .train_config(config(folder.path()))
            .distill_config(logits_only(true).cache_limit_mb(limit))
            .adaptor(adaptor)
            .build()?;
        run(&mut distiller, &mut loader(2), Epochs(2), |run| run)
    };
    let error = train(1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "teacher cache: output 2 would make it 2 MB, over `cache_limit_mb` = 1; \
         raise it, store them smaller (`cache_dtype`), or leave caching off"
    );
    let Error::CacheLimit {
        outputs,
        bytes,
        limit,
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((outputs, bytes, limit), (1, 1_600_000, 1 << 20));
    assert_eq!(train(2).unwrap().0.cache_bytes, Some(1_600_000));
}

#[test]
fn what_may_never_end_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let task = Task::new().teacher(&teacher, adapt).student_adaptor(adapt);
    let mut tasks = MultiTaskDistiller::builder(&student, &student.variables)
        .task("qa", task)
        .train_config(config(folder.path()))
        .distill_config(logits_only(true))
        .build()
        .unwrap();
    let unkept = || loader(3).map(Ok);
    let mut stream = TaskLoader::new().task("qa", unkept());
    let reason = "is_caching_logits: the loader may be endless, so its batches cannot be kept; \
                  give each of the loaders that it draws from as `loader.fixed()`, or leave \
                  caching off";
    let refused = run(&mut tasks, &mut stream, Steps(4), |run| run);
    assert_eq!(first_line(refused), reason);
    // What is refused was not begun.
    assert_eq!(teacher.calls(), 0);

    // Kept batches would not stay the same behind a postprocessor.
    let mut kept = TaskLoader::new().task("qa", unkept().fixed());
    let refused = run(&mut tasks, &mut kept, Steps(4), |run| {
        run.batch_postprocessor(Ok)
    });
    let reason = "is_caching_logits: batch_postprocessor may change a batch in another way each \
                  time, and the loader may be endless";
    let shown = first_line(refused);
    assert!(shown.starts_with(reason), "{shown}");
    run(&mut tasks, &mut kept, Steps(4), |run| run).unwrap();
    assert_eq!(teacher.calls(), 3);
}
