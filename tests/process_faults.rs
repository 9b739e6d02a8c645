//! What becomes of several processes when something goes wrong in one of them: each of them gets
//! an error that says what it was, and none waits for ever.
#![cfg(unix)]

mod common;

#[path = "fault_cases/scene.rs"]
mod scene;

#[path = "fault_cases/deaths.rs"]
mod deaths;
#[path = "fault_cases/differing.rs"]
mod differing;
#[path = "fault_cases/meeting.rs"]
mod meeting;
#[path = "fault_cases/one_fails.rs"]
mod one_fails;
#[path = "fault_cases/starts.rs"]
mod starts;
