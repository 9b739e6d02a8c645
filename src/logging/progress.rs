//! The progress bar of a run.

use std::time::Duration;

use indicatif::ProgressStyle;

use super::screen::Screen;
use super::speed::Speed;

/// A line on the terminal with epoch, step, loss, steps per second and the time left.
///
/// It is drawn on standard error, and only when that is a terminal. The line stays after
/// the end.
pub(crate) struct ProgressBar {
    screen: Screen,
    /// None where nothing is drawn.
    id: Option<u64>,
}

impl ProgressBar {
    /// A line for a run of `total_steps`.
    pub(crate) fn new(total_steps: u64) -> Self {
        ProgressBar::on(Screen::stderr(), total_steps)
    }

    /// A line that is not drawn.
    pub(crate) fn hidden() -> Self {
        ProgressBar {
            screen: Screen::stderr().clone(),
            id: None,
        }
    }

    fn on(screen: &Screen, total_steps: u64) -> Self {
        ProgressBar {
            screen: screen.clone(),
            id: screen.add(Progress::new(total_steps)),
        }
    }

    fn update(&self, change: impl FnOnce(&mut Progress, Duration)) {
        if let Some(id) = self.id {
            self.screen.update(id, change);
        }
    }

    /// Begins at this step: what was done before took none of this run's time.
    pub(crate) fn begin(&self, epoch: u64, global_step: u64) {
        self.update(|progress, now| {
            progress.speed = Some(Speed::begin(global_step, now));
            progress.step(epoch, global_step, now);
        });
    }

    /// Shows that `global_step` optimizer steps are done; epochs count from 1.
    pub(crate) fn step(&self, epoch: u64, global_step: u64) {
        self.update(|progress, now| progress.step(epoch, global_step, now));
    }

    /// Shows the last loss that was read.
    pub(crate) fn loss(&self, loss: f64) {
        self.update(|progress, _| progress.loss = Some(loss));
    }

    /// Takes the line away while `action` runs, so that it can print, and train with a bar of
    /// its own.
    pub(crate) fn suspend<R>(&self, action: impl FnOnce() -> R) -> R {
        match self.id {
            Some(_) => self.screen.without(self.id, action),
            None => action(),
        }
    }

    /// Draws the line for the last time.
    pub(crate) fn finish(self) {
        self.update(|progress, _| progress.is_finished = true);
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.screen.remove(id);
        }
    }
}

/// How far a run is, as a line.
#[derive(Debug)]
pub(super) struct Progress {
    total: u64,
    epoch: u64,
    step: u64,
    loss: Option<f64>,
    /// None until the run has begun.
    speed: Option<Speed>,
    is_finished: bool,
}

/// The widths of the bar itself.
const SHORTEST: usize = 10;
const LONGEST: usize = 40;

impl Progress {
    fn new(total: u64) -> Self {
        Progress {
            total,
            epoch: 1,
            step: 0,
            loss: None,
            speed: None,
            is_finished: false,
        }
    }

    /// Whether there is something to show.
    pub(super) fn has_begun(&self) -> bool {
        self.speed.is_some()
    }

    fn step(&mut self, epoch: u64, step: u64, now: Duration) {
        (self.epoch, self.step) = (epoch.max(1), step);
        if let Some(speed) = &mut self.speed {
            speed.note(step, now);
        }
    }

    /// Draws the line as it is after this time, in at most so many columns.
    pub(super) fn draw(&self, bar: &indicatif::ProgressBar, columns: usize, now: Duration) {
        let style = ProgressStyle::with_template(&self.template(columns, now))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("█░"));
        bar.update(|state| {
            state.set_len(self.total);
            state.set_pos(self.step);
        });
    }

    /// The line, with a place for the bar: where the columns are too few, the bar becomes shorter,
    /// then the speed goes, the bar, the epoch, the time, and the loss.
    fn template(&self, columns: usize, now: Duration) -> String {
        let epoch = format!("epoch {}", self.epoch);
        let position = format!("{}/{}", self.step, self.total);
        let loss = self.loss.map(|loss| format!("loss {}", number(loss)));
        let speed = self.speed.as_ref();
        let rate = speed.and_then(|speed| match self.is_finished {
            true => speed.overall(self.step, now),
            false => speed.current(self.step, now),
        });
        let left = self.total.saturating_sub(self.step) as f64;
        let time = match (self.is_finished, rate) {
            (true, _) => format!("took {}", duration(now)),
            (false, None) => "ETA --".to_owned(),
            (false, Some(rate)) => match Duration::try_from_secs_f64(left / rate) {
                Ok(eta) => format!("ETA {}", duration(eta)),
                Err(_) => "ETA --".to_owned(),
            },
        };
        let rate = rate.map(|rate| format!("{} steps/s", digits(rate)));
        // In the order of the line, with what goes first.
        let mut parts = vec![
            (3, epoch),
            (2, " ".repeat(SHORTEST)),
            (6, position),
            (5, loss.unwrap_or_default()),
            (1, rate.unwrap_or_default()),
            (4, time),
        ];
        parts.retain(|(_, part)| !part.is_empty());
        let width = |parts: &[(u8, String)]| {
            let widths = parts.iter().map(|(_, part)| part.len() + GAP.len());
            widths.sum::<usize>() - GAP.len()
        };
        while width(&parts) > columns && parts.len() > 1 {
            let first = parts.iter().map(|(order, _)| *order).min();
            parts.retain(|(order, _)| Some(*order) != first);
        }
        let room = columns.saturating_sub(width(&parts));
        if let Some((_, bar)) = parts.iter_mut().find(|(order, _)| *order == 2) {
            *bar = format!("{{bar:{}}}", (SHORTEST + room).min(LONGEST));
        } else if let [(_, last)] = parts.as_mut_slice() {
            last.truncate(columns);
        }
        let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
        parts.join(GAP)
    }
}

const GAP: &str = "  ";

/// Four digits after the point; exponents where that would show only zeros or too many digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e6).contains(&size) || !value.is_finite() {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

/// A speed with about three digits.
fn digits(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The two largest units of a time: `1d 02h`, `1h 05m`, `2m 03s`, `9s`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
