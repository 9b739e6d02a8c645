//! Settings for libtorch that cannot work, told in words of our own.
//!
//! This crate has nothing to do with libtorch. It is the one of textbrewer's that does not wait for
//! torch-sys, which ends in the compiler's errors about headers, or none at all. Cargo may still
//! build that first.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const REMEDY: &str = "correct it, or unset it and build with textbrewer's `cargow`, which sets \
    libtorch up; the chapter \"Libtorch\" of textbrewer's book has all ways";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The order is that of torch-sys.
    let found = if variable("CARGO_FEATURE_DOC_ONLY").is_some() {
        Ok(())
    } else if variable("LIBTORCH_USE_PYTORCH").is_some() {
        check_pytorch()
    } else if let Some(folder) = variable("LIBTORCH") {
        check_folder(&folder)
    } else {
        Ok(())
    };
    if let Err(message) = found {
        println!("cargo::error={message}");
        exit(1);
    }
}

fn check_folder(folder: &str) -> Result<(), String> {
    let of = |name: &str| PathBuf::from(variable(name).unwrap_or_else(|| folder.to_owned()));
    let (libraries, headers) = (
        of("LIBTORCH_LIB").join("lib"),
        of("LIBTORCH_INCLUDE").join("include"),
    );
    if !has_libtorch(&libraries) {
        let place = libraries.display();
        return Err(format!(
            "LIBTORCH={folder}: there is no libtorch in {place}: {REMEDY}"
        ));
    }
    if !headers.join("torch").is_dir() {
        let place = headers.display();
        return Err(format!(
            "LIBTORCH={folder}: there are no headers of libtorch in {place}: {REMEDY}"
        ));
    }
    Ok(())
}

fn has_libtorch(folder: &Path) -> bool {
    let Ok(mut files) = folder.read_dir() else {
        return false;
    };
    files.any(|file| {
        file.is_ok_and(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libtorch") || name.starts_with("torch")
        })
    })
}

/// The interpreter is the one that torch-sys asks.
fn check_pytorch() -> Result<(), String> {
    let name = match (variable("VIRTUAL_ENV"), cfg!(windows)) {
        (Some(_), _) => "python",
        (None, true) => "python.exe",
        (None, false) => "python3",
    };
    let run = Command::new(name).args(["-c", "import torch"]).output();
    match run {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or("it says nothing");
            Err(format!(
                "LIBTORCH_USE_PYTORCH is set, but {name} cannot import torch ({last}): {REMEDY}"
            ))
        }
        Err(error) => Err(format!(
            "LIBTORCH_USE_PYTORCH is set, but {name} does not run ({error}): {REMEDY}"
        )),
    }
}

fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).ok()
}
