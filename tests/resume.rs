//! Runs that are interrupted and go on as if they had not been.

mod common;

#[path = "resume_cases/differences.rs"]
mod differences;
#[path = "resume_cases/evaluations.rs"]
mod evaluations;
#[path = "resume_cases/exact.rs"]
mod exact;
#[path = "resume_cases/extended.rs"]
mod extended;
#[path = "resume_cases/hooks.rs"]
mod hooks;
#[path = "resume_cases/keeping.rs"]
mod keeping;
#[path = "resume_cases/loaders.rs"]
mod loaders;
#[path = "resume_cases/non_finite.rs"]
mod non_finite;
#[path = "resume_cases/refused.rs"]
mod refused;
#[path = "resume_cases/taid.rs"]
mod taid;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// libtorch's generator is one for the process: who looks at it has to be alone.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}
