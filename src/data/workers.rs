//! Threads that take jobs in turn.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Threads that take jobs in turn. Dropping them waits for the jobs that they were given.
pub(super) struct Workers {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// `threads` is at least 1.
    pub(super) fn start(threads: usize) -> Result<Self> {
        let (sender, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        let mut workers = Workers {
            jobs: Some(sender),
            threads: Vec::new(),
        };
        for _ in 0..threads {
            let jobs = Arc::clone(&jobs);
            let builder = thread::Builder::new().name("map".to_owned());
            let thread = builder.spawn(move || work(&jobs)).map_err(|error| {
                Error::other(format!("no thread to convert batches in: {error}"))
            })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub(super) fn give(&self, job: Job) -> Result<()> {
        let lost = || Error::other("the threads that convert batches are gone; make a new loader");
        let jobs = self.jobs.as_ref().ok_or_else(lost)?;
        jobs.send(job).map_err(|_| lost())
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // Only one thread waits for a job, the others wait for it.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // Jobs catch their panics.
            let _ = thread.join();
        }
    }
}
