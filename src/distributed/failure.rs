//! What c10d says, in people's words.

use std::time::Duration;

use tch::TchError;

/// libtorch's message without its C++ stack.
pub(super) fn brief(error: &TchError) -> String {
    let text = match error {
        TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    // Gloo begins with the place in its source.
    let line = match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((_, said)) => said,
        None => line,
    };
    line.trim().to_owned()
}

/// What c10d says of a peer that has gone.
const GONE: [&str; 4] = [
    "connection closed",
    "connection reset",
    "broken pipe",
    "socket closed",
];
/// What it says of one that does not answer.
const LATE: [&str; 2] = ["timed out", "timeout"];

fn says(error: &TchError, parts: &[&str]) -> bool {
    let text = error.to_string().to_lowercase();
    parts.iter().any(|part| text.contains(part))
}

/// Whether the error is one of the work with other processes.
pub(super) fn tells_of_others(error: &TchError) -> bool {
    says(error, &GONE) || says(error, &LATE)
}

/// Why an operation with the others failed, where they have left no message.
pub(super) fn explained(error: &TchError, timeout: Duration) -> String {
    let said = brief(error);
    if says(error, &GONE) {
        return format!(
            "another process has ended or was killed; look at what it said last, or who started it ({said})"
        );
    }
    if says(error, &LATE) {
        let after = timeout.as_secs_f64();
        return format!(
            "another process did not answer within {after} s: it hangs, is that much slower, or \
             does something else ({said})"
        );
    }
    said
}
