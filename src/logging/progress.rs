//! The progress bar of a run.

use std::fmt::Write;

use indicatif::{HumanDuration, ProgressDrawTarget, ProgressFinish, ProgressState, ProgressStyle};

/// A line on the terminal with epoch, step, loss, steps per second and the time left.
///
/// It is drawn on standard error, and only when that is a terminal. The line stays after
/// the end.
#[derive(Debug)]
pub(crate) struct ProgressBar {
    bar: indicatif::ProgressBar,
}

impl ProgressBar {
    /// A line for a run of `total_steps`.
    pub(crate) fn new(total_steps: u64) -> Self {
        ProgressBar::on(ProgressDrawTarget::stderr(), total_steps)
    }

    fn on(target: ProgressDrawTarget, total_steps: u64) -> Self {
        let bar = indicatif::ProgressBar::with_draw_target(Some(total_steps), target)
            .with_style(style())
            .with_finish(ProgressFinish::Abandon);
        ProgressBar { bar }
    }

    /// Draws nothing from now on.
    #[must_use]
    pub(crate) fn hidden(self) -> Self {
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
        self
    }

    /// Shows that `global_step` optimizer steps are done; epochs count from 1.
    pub(crate) fn step(&self, epoch: u64, global_step: u64) {
        self.bar.set_prefix(format!("epoch {epoch}"));
        self.bar.set_position(global_step);
    }

    /// Shows the last loss that was read.
    pub(crate) fn loss(&self, loss: f64) {
        self.bar.set_message(format!("loss {}", number(loss)));
    }

    /// Takes the line away while `action` runs, so that it can print.
    ///
    /// `action` must not use this progress bar.
    pub(crate) fn suspend<R>(&self, action: impl FnOnce() -> R) -> R {
        self.bar.suspend(action)
    }

    /// Draws the line for the last time.
    pub(crate) fn finish(&self) {
        self.bar.abandon();
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix}  {bar:24} {pos}/{len}  {msg}  {rate} steps/s  {eta}";
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        // An error of the terminal costs the line and not the training.
        let _ = write!(out, "{:.2}", state.per_sec());
    };
    let eta = |state: &ProgressState, out: &mut dyn Write| {
        let left = HumanDuration(state.eta());
        let _ = match (state.is_finished(), state.pos()) {
            (true, _) => write!(out, "took {:#}", HumanDuration(state.elapsed())),
            (false, 0) => write!(out, "ETA --"),
            _ => write!(out, "ETA {left:#}"),
        };
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", rate)
        .with_key("eta", eta)
}

/// Four digits after the point; exponents where that would show only zeros or too many digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e6).contains(&size) || !value.is_finite() {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal of one line that remembers what it showed.
    #[derive(Debug, Clone, Default)]
    struct Terminal(Arc<Mutex<Screen>>);

    #[derive(Debug, Default)]
    struct Screen {
        line: String,
        shown: Vec<String>,
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().line.push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().line.clear();
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            let mut screen = self.0.lock().unwrap();
            let line = screen.line.trim().to_owned();
            screen.shown.push(line);
            Ok(())
        }
    }

    impl Terminal {
        fn progress(&self, total: u64) -> ProgressBar {
            ProgressBar::on(ProgressDrawTarget::term_like(Box::new(self.clone())), total)
        }

        fn line(&self) -> String {
            self.0.lock().unwrap().line.trim().to_owned()
        }
    }

    #[test]
    fn the_line_shows_epoch_step_loss_speed_and_time_left() {
        let terminal = Terminal::default();
        let progress = terminal.progress(10);
        progress.step(2, 5);
        progress.loss(0.25);
        progress.bar.tick();
        let line = terminal.line();
        assert!(line.starts_with("epoch 2  ████████████"), "{line}");
        assert!(line.contains(" 5/10  loss 0.2500  "), "{line}");
        assert!(line.contains(" steps/s  ETA "), "{line}");
        progress.finish();
        let line = terminal.line();
        assert!(line.contains(" steps/s  took "), "{line}");
    }

    #[test]
    fn the_line_is_away_while_a_callback_prints() {
        let terminal = Terminal::default();
        let progress = terminal.progress(10);
        progress.step(1, 1);
        let during = progress.suspend(|| terminal.line());
        assert_eq!(during, "");
        assert!(
            terminal.line().starts_with("epoch 1"),
            "{}",
            terminal.line()
        );
    }

    #[test]
    fn a_run_that_fails_leaves_its_line() {
        let terminal = Terminal::default();
        let progress = terminal.progress(10);
        progress.step(3, 4);
        drop(progress);
        assert!(terminal.line().contains(" 4/10 "), "{}", terminal.line());
    }

    #[test]
    fn a_hidden_bar_draws_nothing() {
        let terminal = Terminal::default();
        let progress = terminal.progress(10).hidden();
        terminal.0.lock().unwrap().shown.clear();
        progress.step(1, 1);
        progress.loss(1.0);
        assert_eq!(progress.suspend(|| 3), 3);
        progress.finish();
        assert!(
            terminal
                .0
                .lock()
                .unwrap()
                .shown
                .iter()
                .all(String::is_empty)
        );
    }

    #[test]
    fn losses_of_any_size_can_be_read() {
        let shown = [0.0, 0.25, 12.5, 1e-5, 2.5e7, f64::NAN].map(number);
        assert_eq!(
            shown,
            ["0.0000", "0.2500", "12.5000", "1.000e-5", "2.500e7", "NaN"]
        );
    }
}
