//! Files from strangers: none crashes the process, takes memory without bound, reaches
//! outside its folder, or buries the message that says what is wrong with it.

#[path = "untrusted_cases/configurations.rs"]
mod configurations;
#[path = "untrusted_cases/folders.rs"]
mod folders;
#[path = "untrusted_cases/weights.rs"]
mod weights;

use std::fmt::Debug;

use textbrewer::Error;

/// The message of an error, which must be short enough to read and safe to print.
fn message<T: Debug>(what: &str, result: Result<T, Error>) -> String {
    let message = match result {
        Ok(value) => panic!("{what}: accepted: {value:.100?}"),
        Err(error) => error.to_string(),
    };
    assert!(message.len() < 8_000, "{what}: {} bytes", message.len());
    let is_control = |c: char| c.is_control() && c != '\n';
    assert!(!message.contains(is_control), "{what}: {message:?}");
    message
}
