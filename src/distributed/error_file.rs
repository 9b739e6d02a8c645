//! What ended this process, told to torchrun.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use log::Level;

use crate::logging;

const TARGET: &str = "textbrewer::distributed";

/// Writes what ended this process to the file that torchrun names, if there is one; torchrun
/// shows the earliest as the cause of all. Where it cannot be written, nothing else is lost.
///
/// Do not write that another process is gone: the reason is what that one wrote.
pub(crate) fn write(text: &str) {
    if let Some(path) = std::env::var_os("TORCHELASTIC_ERROR_FILE").filter(|path| !path.is_empty())
    {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs());
        if let Err(error) = write_to(Path::new(&path), text, seconds) {
            let path = Path::new(&path).display();
            logging::log(Level::Debug, TARGET, format_args!("{path}: {error}"));
        }
    }
}

/// As `torch.distributed.elastic.multiprocessing.errors.ErrorHandler.record_exception` has it.
/// Without its `py_callstack` torchrun shows the message.
fn write_to(path: &Path, text: &str, seconds: u64) -> io::Result<()> {
    let told = serde_json::json!({
        "message": {"message": text, "extraInfo": {"timestamp": seconds.to_string()}}
    });
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // What is there was written earlier, and is the cause of what came after it.
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(told.to_string().as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_written_as_torchrun_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attempt_0").join("1").join("error.json");
        write_to(&path, "`kd` is NaN\nat step 3", 1_700_000_000).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        let expected = r#"{"message":{"message":"`kd` is NaN\nat step 3","extraInfo":{"timestamp":"1700000000"}}}"#;
        assert_eq!(written, expected);
        write_to(&path, "what came of it", 1_700_000_001).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error_for_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(write_to(&file.join("error.json"), "text", 0).is_err());
    }
}
