//! Ctrl-C and SIGTERM while this process looks after others.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::{self, Handle};

/// The handlers that stay when nobody is looked after any more, for removing them would not
/// restore the system's own.
struct Idle {
    /// While it is set, both signals end the process, as they do without a handler.
    flag: Option<Arc<AtomicBool>>,
    /// How many look after processes.
    users: usize,
}

static IDLE: Mutex<Idle> = Mutex::new(Idle {
    flag: None,
    users: 0,
});

/// While it exists, the signals are told and do nothing else.
pub(super) struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    pub(super) fn begin(tell: impl Fn(i32) + Send + 'static) -> io::Result<Self> {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let flag = match &idle.flag {
            Some(flag) => Arc::clone(flag),
            None => {
                let flag = Arc::new(AtomicBool::new(false));
                for signal in [SIGINT, SIGTERM] {
                    flag::register_conditional_default(signal, Arc::clone(&flag))?;
                }
                idle.flag = Some(Arc::clone(&flag));
                flag
            }
        };
        let mut signals = iterator::Signals::new([SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let listen = move || signals.forever().for_each(tell);
        let thread = thread::Builder::new().name("textbrewer-signals".to_owned());
        let thread = Some(thread.spawn(listen)?);
        idle.users += 1;
        flag.store(false, Ordering::SeqCst);
        Ok(Signals { handle, thread })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        idle.users = idle.users.saturating_sub(1);
        if idle.users == 0
            && let Some(flag) = &idle.flag
        {
            flag.store(true, Ordering::SeqCst);
        }
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
