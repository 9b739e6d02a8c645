//! What is looked at and not learned from reaches logs and callbacks, and changes nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::Tensor;
use textbrewer::{
    CheckpointInfo, DistillationConfig, Distiller, GeneralDistiller, LossReport, MemorySink,
    OnNonFinite, Result, Sgd, StepInfo, TrainSummary,
};

use crate::common::observing::Observing;
use crate::common::tensorboard::{curves, event_files};
use crate::common::tiny::{Net, adapt, config, loader, numbers};

/// What callbacks were given: the last values and the means.
type Told = Vec<[BTreeMap<String, f64>; 2]>;

/// What is observed besides.
type And<'a> = &'a dyn Fn(&mut LossReport, &StepInfo);

/// What a training came to.
struct Trained {
    summary: TrainSummary,
    told: Told,
    memory: MemorySink,
    weights: Vec<f64>,
}

/// How it is done.
#[derive(Clone, Copy, Default)]
struct Asked {
    resumes: bool,
    on_non_finite: OnNonFinite,
}

/// Two epochs of four batches, two in a step; without a term if there is nothing to add to it.
fn train(
    folder: &Path,
    asked: Asked,
    and: Option<And<'_>>,
    flag: Option<&Arc<AtomicBool>>,
) -> Result<Trained> {
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let train_config = config(&folder.join("models"))
        .log_dir(folder.join("logs"))
        .gradient_accumulation_steps(2)
        .log_interval(3);
    let mut builder = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(train_config)
        .distill_config(DistillationConfig::default().diagnostics(asked.resumes.then_some(2)))
        .adaptor(adapt);
    if let Some(and) = and {
        builder = builder.term(Observing::new(and));
    }
    let mut distiller = builder.build()?;
    let told = RefCell::new(Told::new());
    let memory = MemorySink::new();
    let mut batches = loader(4);
    let mut run = distiller
        .train(&mut batches)
        .epochs(2)
        .optimizer(Sgd::new(0.1))
        .on_non_finite(asked.on_non_finite)
        .log_sink(memory.clone())
        .callback(|_: &Net, checkpoint: &CheckpointInfo| {
            let values = [&checkpoint.losses, &checkpoint.mean_losses];
            told.borrow_mut().push(values.map(BTreeMap::clone));
            Ok(())
        });
    if asked.resumes {
        run = run.resume_or_start();
    }
    if let Some(flag) = flag {
        run = run.stop_flag(Arc::clone(flag));
    }
    let summary = run.run()?;
    drop(distiller);
    Ok(Trained {
        summary,
        told: told.into_inner(),
        memory,
        weights: numbers(&student.variables),
    })
}

fn nothing(_: &mut LossReport, _: &StepInfo) {}

#[test]
fn they_are_logged_and_told_beside_the_losses_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let values = RefCell::new(Vec::new());
    let look = |report: &mut LossReport, _: &StepInfo| {
        let number = |value: &Tensor| value.double_value(&[]);
        let of_batch = report
            .observations()
            .map(|(name, value)| (name.to_owned(), number(value)));
        values.borrow_mut().push(BTreeMap::from_iter(of_batch));
    };
    let path = |name: &str| folder.path().join(name);
    let seen = train(&path("seen"), Asked::default(), Some(&look), None).unwrap();
    let unseen = train(&path("unseen"), Asked::default(), None, None).unwrap();
    assert_eq!(seen.weights, unseen.weights);

    let values = values.into_inner();
    assert_eq!(values.len(), 8);
    let sizes = values.iter().map(|batch| batch["size"]);
    assert!(sizes.clone().zip(sizes.skip(1)).all(|(a, b)| a != b));
    let log = seen.summary.log_dir.as_ref().unwrap();
    assert_eq!(event_files(log).len(), 1);
    let shown = curves(log);
    for name in ["best", "size"] {
        let of_batch = |batch: usize| values[batch][name];
        let every: Vec<_> = (0..8)
            .map(|batch| (batch as u64, of_batch(batch)))
            .collect();
        assert_eq!(seen.memory.curve(&format!("scalar/{name}")), every);
        // The mean of a step's batches.
        let mean = |step: usize| ((of_batch(2 * step) + of_batch(2 * step + 1)) / 2.0) as f32;
        let steps: Vec<_> = (0..4).map(|step| (step as i64, mean(step))).collect();
        assert_eq!(shown[&format!("scalar/{name}")], steps);
        for (epoch, [last, means]) in seen.told.iter().enumerate() {
            assert_eq!(last[name], of_batch(4 * epoch + 3));
            let of_epoch = (4 * epoch..4 * epoch + 4).map(of_batch);
            assert_eq!(means[name], of_epoch.sum::<f64>() / 4.0);
        }
        assert_eq!(seen.summary.losses[name], of_batch(7));
    }
    // All else is what it was.
    let mut losses = seen.told;
    for of_callback in losses.iter_mut().flatten() {
        of_callback.retain(|name, _| name != "best" && name != "size");
    }
    assert_eq!(losses, unseen.told);
}

/// In the first batch of each epoch it is NaN.
fn sometimes_nan(report: &mut LossReport, step: &StepInfo) {
    let value = match step.forward_step % 4 {
        0 => f32::NAN,
        batch => batch as f32,
    };
    report.observe("odd", Tensor::from_slice(&[value]));
    // A count is a number too.
    report.observe("count", Tensor::from(70_000 + step.forward_step as i64));
}

#[test]
fn one_that_is_nan_is_logged_and_ends_no_run() {
    let folder = tempfile::tempdir().unwrap();
    for on_non_finite in [
        OnNonFinite::Error,
        OnNonFinite::SkipStep,
        OnNonFinite::StopAndSave,
    ] {
        let asked = Asked {
            on_non_finite,
            ..Asked::default()
        };
        let folder = folder.path().join(format!("{on_non_finite:?}"));
        let trained = train(&folder, asked, Some(&sometimes_nan), None).unwrap();
        let Trained { summary, told, .. } = &trained;
        assert_eq!((summary.global_steps, &summary.non_finite), (4, &None));
        let odd = trained.memory.curve("scalar/odd");
        let is_nan: Vec<_> = odd.iter().map(|(_, value)| value.is_nan()).collect();
        let epoch = [true, false, false, false];
        assert_eq!(is_nan, [epoch, epoch].concat());
        // The mean leaves it out.
        let means: Vec<_> = told.iter().map(|[_, means]| means["odd"]).collect();
        assert_eq!(means, [2.0, 2.0]);
        assert_eq!(summary.losses["count"], 70_007.0);
    }
}

#[test]
fn a_resumed_run_tells_the_same_and_may_have_other_diagnostics() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let whole = train(&path("whole"), Asked::default(), Some(&sometimes_nan), None).unwrap();
    // The first of these steps has a NaN, the last one is in another epoch.
    for stopped_at in [0, 2, 5] {
        let flag = Arc::new(AtomicBool::new(false));
        let stop = |report: &mut LossReport, step: &StepInfo| {
            sometimes_nan(report, step);
            flag.fetch_or(step.forward_step == stopped_at, Ordering::Relaxed);
        };
        let folder = path(&stopped_at.to_string());
        let first = train(&folder, Asked::default(), Some(&stop), Some(&flag)).unwrap();
        assert!(first.summary.interrupted, "{stopped_at}");
        let resume = Asked {
            resumes: true,
            ..Asked::default()
        };
        let rest = train(&folder, resume, Some(&sometimes_nan), None).unwrap();
        assert_eq!(rest.summary.resumed_from, Some(stopped_at / 2 + 1));
        let mut losses = rest.summary.losses;
        assert!(losses.contains_key("best_agreement"), "{stopped_at}");
        // But for the diagnostics, which the whole run was not asked for.
        let is_known = |name: &String, _: &mut f64| whole.summary.losses.contains_key(name);
        losses.retain(is_known);
        let mut told: Told = first.told.into_iter().chain(rest.told).collect();
        for losses in told.iter_mut().flatten() {
            losses.retain(is_known);
        }
        assert_eq!(told, whole.told, "{stopped_at}");
        assert_eq!(losses, whole.summary.losses);
        assert_eq!(rest.weights, whole.weights);
    }
}

#[test]
fn a_name_that_is_taken_is_refused_with_the_term() {
    let folder = tempfile::tempdir().unwrap();
    let taken = "there is one of this name already; give it a name of its own";
    for (name, reason) in [
        ("total_loss", taken),
        ("unweighted_kd_loss", taken),
        ("best", taken),
        ("", "give it a name, under which it is logged"),
    ] {
        let observe = |report: &mut LossReport, _: &StepInfo| {
            report.observe(name, Tensor::from(1.0));
        };
        let trained = train(folder.path(), Asked::default(), Some(&observe), None);
        assert_eq!(
            trained.err().unwrap().to_string(),
            format!("term `observing`: observation `{name}`: {reason}")
        );
    }
    let observe = |report: &mut LossReport, _: &StepInfo| {
        report.observe("two", Tensor::from_slice(&[1.0, 2.0]));
    };
    let trained = train(folder.path(), Asked::default(), Some(&observe), None);
    assert_eq!(
        trained.err().unwrap().to_string(),
        "term `observing`: observation `two`: expected a single number (take the mean or the sum), \
         got shape [2]"
    );
    assert!(train(folder.path(), Asked::default(), Some(&nothing), None).is_ok());
}
