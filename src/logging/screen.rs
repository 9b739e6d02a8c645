//! The last line of the terminal, which the progress bars of all runs share.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use console::Term;

use super::progress::Progress;

/// The time between two drawings.
const PAUSE: Duration = Duration::from_millis(100);

/// A terminal as a bar needs it. What it cannot do costs the line and not the training.
pub(super) trait Output: Send {
    fn width(&self) -> usize;
    /// Empties the line in which the cursor is, and goes to its beginning.
    fn clear_line(&self);
    fn write(&self, text: &str);
}

impl Output for Term {
    fn width(&self) -> usize {
        // A terminal that does not tell has 80 columns.
        self.size_checked()
            .map_or(80, |(_, columns)| columns.into())
    }

    fn clear_line(&self) {
        let _ = Term::clear_line(self);
    }

    fn write(&self, text: &str) {
        let _ = self.write_str(text);
        let _ = self.flush();
    }
}

/// The last line of a terminal. Of the bars that are not away it shows the newest.
///
/// Nothing but a drawing holds the lock, so that what runs while a bar is away may take any time,
/// wait for other threads, train, or take bars away itself.
#[derive(Clone)]
pub(super) struct Screen(Arc<Mutex<Shared>>);

struct Shared {
    /// None where there is no terminal.
    output: Option<Box<dyn Output>>,
    bars: Vec<Bar>,
    last_id: u64,
    /// How many actions under way want no bar at all.
    away: usize,
    /// Whether the line has something in it.
    is_drawn: bool,
    drawn_at: Option<Instant>,
}

struct Bar {
    id: u64,
    progress: Progress,
    /// How many actions under way do not want this bar.
    away: usize,
    began: Instant,
}

impl Bar {
    fn write(&self, output: &dyn Output, now: Instant) {
        // In the last column some terminals go to the next line.
        let columns = output.width().saturating_sub(1);
        output.clear_line();
        output.write(&self.progress.line(columns, now - self.began));
    }
}

static STDERR: LazyLock<Screen> = LazyLock::new(|| {
    let term = Term::buffered_stderr();
    let can_draw = term.is_term() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    Screen::new(can_draw.then(|| Box::new(term) as Box<dyn Output>))
});

impl Screen {
    /// Standard error.
    pub(super) fn stderr() -> &'static Screen {
        &STDERR
    }

    pub(super) fn new(output: Option<Box<dyn Output>>) -> Self {
        Screen(Arc::new(Mutex::new(Shared {
            output,
            bars: Vec::new(),
            last_id: 0,
            away: 0,
            is_drawn: false,
            drawn_at: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a bar, if there is a terminal.
    pub(super) fn add(&self, progress: Progress) -> Option<u64> {
        let mut shared = self.lock();
        shared.output.as_ref()?;
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
        let mut begins = false;
        if let Some(bar) = shared.bars.iter_mut().find(|bar| bar.id == id) {
            begins = !bar.progress.has_begun();
            change(&mut bar.progress, now - bar.began);
        }
        if begins || shared.drawn_at.is_none_or(|at| now - at >= PAUSE) {
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
        shared.clear();
        let now = Instant::now();
        if shared.away == 0
            && bar.away == 0
            && bar.progress.has_begun()
            && let Some(output) = &shared.output
        {
            bar.write(output.as_ref(), now);
            output.write("\n");
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
        if is_away {
            self.clear();
        } else {
            self.draw(Instant::now());
        }
    }

    fn clear(&mut self) {
        if self.is_drawn
            && let Some(output) = &self.output
        {
            output.clear_line();
            output.write("");
        }
        self.is_drawn = false;
    }

    fn draw(&mut self, now: Instant) {
        let at_hand = |bar: &&Bar| self.away == 0 && bar.away == 0 && bar.progress.has_begun();
        if let (Some(output), Some(bar)) = (&self.output, self.bars.iter().rev().find(at_hand)) {
            bar.write(output.as_ref(), now);
            (self.is_drawn, self.drawn_at) = (true, Some(now));
        }
    }
}
