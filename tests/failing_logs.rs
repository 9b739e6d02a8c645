//! Warnings: a log that cannot be written costs one and not the training, and so does what a
//! configuration leaves out.

mod common;

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use common::observing::Observing;
use common::tiny::{Net, Output, adapt, config, files, loader, square};
use tch::Tensor;
use textbrewer::losses::cross_entropy;
use textbrewer::{
    BasicTrainer, DistillationConfig, Distiller, Error, Flow, GeneralDistiller, LogSink,
    MemorySink, PresetSpec, Result, Sgd, TrainSummary, TrainingConfig,
};

/// Every warning of the process and what it tells otherwise; tests tell theirs by what stands in
/// them.
struct Warnings(Mutex<Vec<(log::Level, String)>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let message = (record.level(), record.args().to_string());
            self.0.lock().unwrap().push(message);
        }
    }

    fn flush(&self) {}
}

/// The warnings in which `part` stands.
fn warnings_with(part: &str) -> Vec<String> {
    messages_with(log::Level::Warn, part)
}

fn messages_with(wanted: log::Level, part: &str) -> Vec<String> {
    let all = WARNINGS.0.lock().unwrap();
    all.iter()
        .filter(|(level, text)| *level == wanted && text.contains(part))
        .map(|(_, text)| text.clone())
        .collect()
}

fn listen() {
    // The tests of this file share one logger; the first sets it.
    let _ = log::set_logger(&WARNINGS);
    log::set_max_level(log::LevelFilter::Info);
}

/// Sixty steps with twelve checkpoints, after each of which `then` is called.
fn train(
    train_config: TrainingConfig,
    sink: impl LogSink,
    mut then: impl FnMut(),
) -> Result<TrainSummary> {
    let student = Net::new(2, 4, 0.2);
    let mut batches = loader(5);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(train_config.log_interval(1))
        .adaptor(square)
        .build()?;
    let run = trainer.train(&mut batches).optimizer(Sgd::new(0.01));
    run.epochs(12)
        // One of these tests allows files of 2 KB; the state of a random generator has 5.
        .save_state(false)
        .log_sink(sink)
        .callback(|_, _| {
            then();
            Ok(())
        })
        .run()
}

/// Writes lines to a file.
struct Lines {
    file: File,
    attempts: Cell<u32>,
}

impl LogSink for &Lines {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        self.attempts.set(self.attempts.get() + 1);
        let written = writeln!(&self.file, "{tag} {value} {step}");
        written.map_err(|error| Error::other(format!("device that is full: {error}")))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The losses of an adaptor do not count without a weight, which nobody would see in the logs.
#[test]
fn losses_without_a_weight_are_told_of_once() {
    listen();
    let folder = tempfile::tempdir().unwrap();
    let told = || warnings_with("hard_label_weight is 0").len();
    let run = |distill_config: DistillationConfig| {
        let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
        let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
            .train_config(config(folder.path()))
            .distill_config(distill_config)
            .adaptor(|batch: &Tensor, output: &Output| {
                Ok(adapt(batch, output)?.losses(&output.logits.square()))
            })
            .build()
            .unwrap();
        let mut batches = loader(3);
        let run = distiller.train(&mut batches).epochs(2);
        run.optimizer(Sgd::new(0.01)).run().unwrap();
        told()
    };
    let scheduled = PresetSpec::new("linear_growth");
    let weighted = DistillationConfig::default().hard_label_weight(0.5);
    assert_eq!(run(weighted), 0);
    let scheduled = DistillationConfig::default().hard_label_weight_scheduler(scheduled);
    assert_eq!(run(scheduled), 0);
    assert_eq!(run(DistillationConfig::default()), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_told_of_once_and_not_tried_again() {
    listen();
    let folder = tempfile::tempdir().unwrap();
    let full = Lines {
        file: File::options().write(true).open("/dev/full").unwrap(),
        attempts: Cell::new(0),
    };
    let summary = train(config(folder.path()), &full, || {}).unwrap();
    assert_eq!(summary.global_steps, 60);
    assert_eq!(full.attempts.get(), 1);
    let told = warnings_with("device that is full");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].ends_with("; training continues without this log"),
        "{told:?}"
    );
}

#[test]
fn a_log_folder_that_is_deleted_in_the_middle_does_not_end_the_run() {
    listen();
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs-that-go-away");
    let memory = MemorySink::new();
    let train_config = config(&folder.path().join("models")).log_dir(&logs);
    let summary = train(train_config, memory.clone(), || {
        // The first time it is there.
        let _ = std::fs::remove_dir_all(&logs);
    })
    .unwrap();
    assert_eq!(summary.global_steps, 60);
    assert_eq!(memory.curve("scalar/total_loss").len(), 60);
    assert!(!logs.exists());
    assert!(warnings_with("logs-that-go-away").len() <= 1);
}

/// The child of the next test: its files may not grow beyond some kilobytes.
#[test]
fn child_with_small_files() {
    let Some(folder) = std::env::var_os("TEXTBREWER_SMALL_FILES") else {
        return;
    };
    listen();
    let folder = Path::new(&folder);
    let logs = folder.join("logs-that-are-full");
    let memory = MemorySink::new();
    let train_config = config(&folder.join("models")).log_dir(&logs);
    let summary = train(train_config, memory.clone(), || {}).unwrap();
    assert_eq!((summary.global_steps, summary.checkpoints.len()), (60, 12));
    assert_eq!(memory.curve("scalar/total_loss").len(), 60);
    let told = warnings_with("logs-that-are-full");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("training continues without this log"),
        "{told:?}"
    );
    std::fs::write(folder.join("done"), "").unwrap();
}

/// The system refuses to let a file grow, as on a full disk: with an error in the middle of a
/// record.
#[cfg(target_os = "linux")]
#[test]
fn an_event_file_that_cannot_grow_does_not_end_the_run() {
    let folder = tempfile::tempdir().unwrap();
    // The signal that would end the process is ignored; the write fails instead.
    let script = "trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact child_with_small_files";
    let output = std::process::Command::new("bash")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("TEXTBREWER_SMALL_FILES", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(folder.path().join("done").exists(), "{said}");
    assert_eq!(files(&folder.path().join("models")).len(), 12);
}

/// Runs of `steps` that resume in `folder`, where a callback ends those that reach `last`.
fn resume(folder: &Path, steps: u64, last: u64) -> Result<TrainSummary> {
    let student = Net::new(2, 4, 0.2);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder).ckpt_steps(1))
        .adaptor(square)
        .build()?;
    let mut batches = loader(5);
    let run = trainer.train(&mut batches).optimizer(Sgd::new(0.01));
    run.steps(steps)
        .callback(|_, info| {
            Ok(match info.global_step == last {
                true => Flow::Stop,
                false => Flow::Continue,
            })
        })
        .resume_or_start()
        .run()
}

#[test]
fn a_run_that_goes_on_says_where_and_one_that_is_over_warns() {
    listen();
    let folder = common::tiny::folder();
    let path = folder.path();
    let begun = |part: &str| messages_with(log::Level::Info, part);
    resume(path, 17, 0).unwrap();
    assert_eq!(begun("training for 17 ").len(), 1);
    assert!(warnings_with(&path.display().to_string()).is_empty());

    assert_eq!(resume(path, 17, 0).unwrap().global_steps, 17);
    let expected = format!(
        "the run in `{}` is complete at step 17: nothing is trained; for more, give more epochs or \
         steps, another `output_dir`, or `overwrite(true)` in place of resuming",
        path.display()
    );
    assert_eq!(warnings_with(&path.display().to_string()), [expected]);
    assert_eq!(begun("training for 17 ").len(), 1);

    assert_eq!(resume(path, 33, 19).unwrap().global_steps, 19);
    assert_eq!(begun("going on at step 17 of 33").len(), 1);
    assert!(begun("training for 33 ").is_empty());
    assert_eq!(resume(path, 33, 19).unwrap().global_steps, 19);
    let ended = "was ended by a callback or early stopping at step 19: nothing is trained";
    assert_eq!(warnings_with(ended).len(), 1);
    assert!(begun("going on at step 19 ").is_empty());
}

/// Thirty steps of which the first have no label that counts, with losses that are read every 8.
fn unlabelled(first: u32) -> Result<TrainSummary> {
    let folder = common::tiny::folder();
    let (teacher, student) = (Net::new(2, 4, 0.1), Net::new(2, 4, 0.2));
    let calls = Cell::new(0);
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()).ckpt_steps(30).log_interval(8))
        .distill_config(DistillationConfig::default().hard_label_weight(1.0))
        .teacher_adaptor(adapt)
        .student_adaptor(|batch: &Tensor, output: &Output| {
            calls.set(calls.get() + 1);
            let label = if calls.get() > first { 1i64 } else { -100 };
            let labels = Tensor::from_slice(&[label, label]).to_device(output.logits.device());
            let loss = cross_entropy(&output.logits, &labels)?;
            Ok(adapt(batch, output)?.losses(&loss))
        })
        // Two models may well never agree.
        .term(Observing::new(|report, _| {
            report.observe("nothing", Tensor::from(0f32));
        }))
        .build()?;
    let mut batches = loader(5);
    let run = distiller.train(&mut batches).optimizer(Sgd::new(0.01));
    run.steps(30).run()
}

#[test]
fn a_loss_that_is_0_in_all_batches_is_told_of_once() {
    listen();
    let told = || warnings_with("was exactly 0 in all");
    unlabelled(23).unwrap();
    assert!(told().is_empty(), "{:?}", told());
    unlabelled(30).unwrap();
    let expected = "`unweighted_hard_label_loss` was exactly 0 in all 24 batches so far: is every \
                    label -100, or every position masked?";
    assert_eq!(told(), [expected]);
}
