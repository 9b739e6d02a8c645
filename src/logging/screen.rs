//! The last line of the terminal, which the progress bars of all runs share.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressDrawTarget;

use super::progress::Progress;

/// The time between two drawings.
const PAUSE: Duration = Duration::from_millis(100);

/// A terminal as a bar needs it.
pub(super) trait Terminal: Send {
    /// Where `indicatif` draws.
    fn target(&self) -> ProgressDrawTarget;
    /// The number of its columns, which `indicatif` keeps to itself.
    fn columns(&self) -> usize;
    /// Goes on below the line, which `indicatif` leaves to what is written next.
    fn new_line(&self);
}

struct Stderr;

impl Terminal for Stderr {
    fn target(&self) -> ProgressDrawTarget {
        ProgressDrawTarget::stderr()
    }

    fn columns(&self) -> usize {
        // A terminal that does not tell has 80.
        let size = console::Term::stderr().size_checked();
        size.map_or(80, |(_, columns)| columns.into())
    }

    fn new_line(&self) {
        // Where it cannot be written, no line is.
        let _ = writeln!(std::io::stderr());
    }
}

/// The last line of a terminal. Of the bars that are not away it shows the newest.
///
/// Nothing but a drawing holds the lock, so that what runs while a bar is away may take any time,
/// wait for other threads, train, or take bars away itself.
#[derive(Clone)]
pub(super) struct Screen(Arc<Mutex<Shared>>);

struct Shared {
    /// None where nothing can be drawn.
    line: Option<Line>,
    bars: Vec<Bar>,
    last_id: u64,
    /// How many actions under way want no bar at all.
    away: usize,
}

struct Line {
    terminal: Box<dyn Terminal>,
    /// What is in it, since when. Dropped, it empties the line.
    drawn: Option<(indicatif::ProgressBar, Instant)>,
}

impl Line {
    fn show(&mut self, bar: &Bar, now: Instant) {
        let (drawn, at) = self.drawn.get_or_insert_with(|| {
            let target = self.terminal.target();
            (indicatif::ProgressBar::with_draw_target(None, target), now)
        });
        let columns = self.terminal.columns();
        bar.progress.draw(drawn, columns, now - bar.began);
        *at = now;
    }
}

struct Bar {
    id: u64,
    progress: Progress,
    /// How many actions under way do not want this bar.
    away: usize,
    began: Instant,
}

impl Bar {
    /// Whether it may be drawn while so many actions want no bar at all.
    fn is_at_hand(&self, away: usize) -> bool {
        away == 0 && self.away == 0 && self.progress.has_begun()
    }
}

static STDERR: LazyLock<Screen> = LazyLock::new(|| {
    let can_draw = !Stderr.target().is_hidden();
    Screen::new(can_draw.then(|| Box::new(Stderr) as Box<dyn Terminal>))
});

impl Screen {
    /// Standard error.
    pub(super) fn stderr() -> &'static Screen {
        &STDERR
    }

    pub(super) fn new(terminal: Option<Box<dyn Terminal>>) -> Self {
        Screen(Arc::new(Mutex::new(Shared {
            line: terminal.map(|terminal| Line {
                terminal,
                drawn: None,
            }),
            bars: Vec::new(),
            last_id: 0,
            away: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a bar, if there is a terminal.
    pub(super) fn add(&self, progress: Progress) -> Option<u64> {
        let mut shared = self.lock();
        shared.line.as_ref()?;
        shared.last_id += 1;
        let id = shared.last_id;
        shared.bars.push(Bar {
            id,
            progress,
            away: 0,
            began: Instant::now(),
        });
        Some(id)
    }

    /// Changes a bar, and draws it if the last drawing is some time ago.
    pub(super) fn update(&self, id: u64, change: impl FnOnce(&mut Progress, Duration)) {
        let mut shared = self.lock();
        let now = Instant::now();
        if let Some(bar) = shared.bars.iter_mut().find(|bar| bar.id == id) {
            change(&mut bar.progress, now - bar.began);
        }
        let drawn = shared.line.as_ref().and_then(|line| line.drawn.as_ref());
        if drawn.is_none_or(|(_, at)| now - *at >= PAUSE) {
            shared.draw(now);
        }
    }

    /// Removes a bar, whose line stays as it is now.
    pub(super) fn remove(&self, id: u64) {
        let mut shared = self.lock();
        let Some(index) = shared.bars.iter().position(|bar| bar.id == id) else {
            return;
        };
        let bar = shared.bars.remove(index);
        let now = Instant::now();
        let is_at_hand = bar.is_at_hand(shared.away);
        if let Some(line) = &mut shared.line
            && is_at_hand
        {
            line.show(&bar, now);
            if let Some((drawn, _)) = line.drawn.take() {
                drawn.abandon();
                line.terminal.new_line();
            }
        }
        shared.draw(now);
    }

    /// Takes one bar, or all of them, off the screen while `action` runs.
    pub(super) fn without<R>(&self, id: Option<u64>, action: impl FnOnce() -> R) -> R {
        self.lock().put_away(id, true);
        let _back = Back(self, id);
        action()
    }
}

/// Brings bars back, even if the action panics.
struct Back<'a>(&'a Screen, Option<u64>);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.0.lock().put_away(self.1, false);
    }
}

impl Shared {
    fn put_away(&mut self, id: Option<u64>, is_away: bool) {
        let count = match id {
            None => Some(&mut self.away),
            Some(id) => {
                let bar = self.bars.iter_mut().find(|bar| bar.id == id);
                bar.map(|bar| &mut bar.away)
            }
        };
        if let Some(count) = count {
            *count = if is_away {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
        }
        if !is_away {
            self.draw(Instant::now());
        } else if let Some(line) = &mut self.line {
            line.drawn = None;
        }
    }

    fn draw(&mut self, now: Instant) {
        let mut newest_first = self.bars.iter().rev();
        let bar = newest_first.find(|bar| bar.is_at_hand(self.away));
        if let (Some(line), Some(bar)) = (&mut self.line, bar) {
            line.show(bar, now);
        }
    }
}
