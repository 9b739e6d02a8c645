//! Files that others wrote, as files of a teacher, and the way back.

use std::path::Path;
use std::sync::Mutex;

#[path = "teacher_file_others_cases/class_scores.rs"]
mod class_scores;
#[path = "teacher_file_others_cases/npy.rs"]
mod npy;
#[path = "teacher_file_others_cases/top_k_lines.rs"]
mod top_k_lines;

/// Every warning of the process; tests find theirs by the folder that stands in them.
struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// From now on warnings are kept.
fn listen() {
    // The tests share one logger; the first sets it.
    let _ = log::set_logger(&WARNINGS);
    log::set_max_level(log::LevelFilter::Warn);
}

/// The warnings so far that name a file in this folder. Call [`listen`] before.
fn warnings_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let all = WARNINGS.0.lock().unwrap();
    all.iter()
        .filter(|warning| warning.contains(&folder))
        .cloned()
        .collect()
}
