//! Folders that cannot be written, and weights that do not fit.

use std::path::Path;

use textbrewer::weights::{LoadOptions, load_file};
use textbrewer::{
    BasicTrainer, Distiller, Error, Result, Sgd, TrainSummary, TrainingConfig, weights,
};

use crate::common::tiny::{Net, config, files, first_line, loader, numbers, square};

fn train(
    student: &Net,
    train_config: TrainingConfig,
    callback: impl FnMut(&Net, &textbrewer::CheckpointInfo) -> Result<()>,
) -> Result<TrainSummary> {
    BasicTrainer::builder(student, &student.variables)
        .train_config(train_config)
        .adaptor(square)
        .build()?
        .train(&mut loader(3))
        .optimizer(Sgd::new(0.1))
        .callback(callback)
        .epochs(2)
        .run()
}

fn checkpoint(student: &Net, folder: &Path) -> std::path::PathBuf {
    let summary = train(student, config(folder), |_, _| Ok(())).unwrap();
    summary.checkpoints.last().unwrap().clone()
}

#[test]
fn folders_that_cannot_be_made_end_the_run_before_it_trains() {
    let folder = tempfile::tempdir().unwrap();
    // Not even a superuser can make a folder below a file.
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "").unwrap();
    let below = file.join("run");
    let student = Net::new(2, 4, 0.2);
    let before = numbers(&student.variables);

    let result = train(&student, config(&below), |_, _| Ok(()));
    assert!(matches!(&result, Err(Error::Io { .. })), "{result:?}");
    let shown = first_line(result);
    assert!(shown.starts_with(&below.display().to_string()), "{shown}");
    assert!(
        shown.ends_with("; choose a folder that can be written (`output_dir`)"),
        "{shown}"
    );

    let train_config = config(&folder.path().join("models")).log_dir(&below);
    let result = train(&student, train_config, |_, _| Ok(()));
    assert!(matches!(&result, Err(Error::Log { .. })), "{result:?}");
    let shown = first_line(result);
    let start = format!("log folder {}: ", below.display());
    assert!(shown.starts_with(&start), "{shown}");
    assert!(
        shown.ends_with("; choose a folder that can be written (`log_dir`)"),
        "{shown}"
    );
    assert_eq!(numbers(&student.variables), before);
}

#[test]
fn a_folder_that_goes_away_during_the_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let student = Net::new(2, 4, 0.2);
    let result = train(&student, config(&models), |_, info| {
        let removed = std::fs::remove_dir_all(info.path.parent().unwrap());
        removed.map_err(Error::other)
    });
    assert!(matches!(&result, Err(Error::Io { .. })), "{result:?}");
    let shown = first_line(result);
    let start = format!(
        "{}: the folder was deleted during the run",
        models.display()
    );
    assert!(shown.starts_with(&start), "{shown}");
    assert!(shown.contains("(`output_dir`)"), "{shown}");
    // Made anew it would hide that the first checkpoint is gone.
    assert!(!models.exists());
}

#[test]
fn a_checkpoint_cut_short_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let path = checkpoint(&student, folder.path());
    let whole = std::fs::read(&path).unwrap();
    let other = Net::new(2, 4, 0.9);
    let before = numbers(&other.variables);
    let name = path.display();
    for (length, reason) in [
        (
            0,
            "is not a safetensors file: 0 bytes are too few for a header".to_owned(),
        ),
        (40, "is cut short: the header needs ".to_owned()),
        (
            whole.len() - 1,
            format!(
                "is cut short: its tensors need {} bytes, {} are there",
                before.len() * 4,
                before.len() * 4 - 1
            ),
        ),
    ] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let shown = first_line(load_file(&other.variables, &path, &LoadOptions::new()));
        assert!(shown.starts_with(&format!("{name}: {reason}")), "{shown}");
    }
    assert_eq!(numbers(&other.variables), before);
}

#[test]
fn weights_of_another_model_are_refused_with_every_difference() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let path = checkpoint(&student, folder.path());
    let other = Net::new(3, 5, 0.9);
    let before = numbers(&other.variables);
    let error = load_file(&other.variables, &path, &LoadOptions::new()).unwrap_err();
    let shown = error.to_string();
    let expected = [
        format!(
            "{} does not fit the model; nothing was loaded. 7 difference(s):",
            path.display()
        ),
        "  `head.weight`: shape [2, 4], the model expects [2, 5]".to_owned(),
        "  `layers.0.bias`: shape [4], the model expects [5]".to_owned(),
        "  `layers.0.weight`: shape [4, 3], the model expects [5, 3]".to_owned(),
        "  `layers.1.bias`: shape [4], the model expects [5]".to_owned(),
        "  `layers.1.weight`: shape [4, 4], the model expects [5, 5]".to_owned(),
        "  `layers.2.bias`: missing".to_owned(),
        "  `layers.2.weight`: missing".to_owned(),
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    assert_eq!(numbers(&other.variables), before);

    // As many bytes of another kind of file.
    std::fs::write(&path, b"PK\x03\x04 a zip archive").unwrap();
    let shown = first_line(weights::read(&path));
    assert!(shown.contains("is a PyTorch pickle"), "{shown}");
    assert_eq!(files(folder.path()), ["gs3.safetensors", "gs6.safetensors"]);
}
