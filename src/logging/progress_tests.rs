use super::*;
use crate::logging::screen::Terminal;
use indicatif::{ProgressDrawTarget, TermLike};
use std::io;
use std::sync::{Arc, Mutex};

/// A terminal in memory, which wraps lines that are too long. (`indicatif` has one, with crates
/// that each example would be built with.)
#[derive(Debug, Clone)]
struct Memory(Arc<Mutex<Grid>>);

#[derive(Debug)]
struct Grid {
    columns: usize,
    lines: Vec<Vec<char>>,
    /// Where the next character stands in the last line.
    column: usize,
}

impl Terminal for Memory {
    fn target(&self) -> ProgressDrawTarget {
        ProgressDrawTarget::term_like(Box::new(self.clone()))
    }

    fn columns(&self) -> usize {
        self.0.lock().unwrap().columns
    }

    fn new_line(&self) {
        self.print("\n");
    }
}

impl TermLike for Memory {
    fn width(&self) -> u16 {
        self.columns() as u16
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.print(text);
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.print(&format!("{text}\n"));
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        let mut grid = self.0.lock().unwrap();
        grid.column = 0;
        grid.lines.last_mut().unwrap().clear();
        Ok(())
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        assert_eq!(lines, 0, "the bar has one line");
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        unreachable!()
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        unreachable!()
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        unreachable!()
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn new(columns: usize) -> Self {
        Memory(Arc::new(Mutex::new(Grid {
            columns,
            lines: vec![vec![]],
            column: 0,
        })))
    }

    fn screen(&self) -> Screen {
        Screen::new(Some(Box::new(self.clone())))
    }

    /// As any other part of the program would.
    fn print(&self, text: &str) {
        let grid = &mut *self.0.lock().unwrap();
        for letter in text.chars() {
            if letter == '\n' || grid.column == grid.columns {
                grid.lines.push(Vec::new());
                grid.column = 0;
            }
            if letter != '\n' {
                let line = grid.lines.last_mut().unwrap();
                line.truncate(grid.column);
                line.push(letter);
                grid.column += 1;
            }
        }
    }

    /// Without spaces at the ends, and without empty lines at the end.
    fn lines(&self) -> Vec<String> {
        let grid = self.0.lock().unwrap();
        let lines = grid.lines.iter().map(String::from_iter);
        let mut lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }
}

const WIDTHS: [usize; 3] = [60, 80, 200];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Step 5000 of 10000 after 1000 seconds.
fn halfway() -> Progress {
    let mut progress = Progress::new(10_000);
    progress.speed = Some(Speed::begin(0, seconds(0)));
    progress.step(2, 5000, seconds(1000));
    progress.loss = Some(0.25);
    progress
}

/// What stands in a terminal of so many columns.
fn line(progress: &Progress, columns: usize, now: Duration) -> String {
    let terminal = Memory::new(columns);
    let bar = indicatif::ProgressBar::with_draw_target(None, terminal.target());
    progress.draw(&bar, columns, now);
    let lines = terminal.lines();
    assert!(lines.len() <= 1, "{lines:?}");
    lines.concat()
}

#[test]
fn the_line_fits_the_terminal() {
    let lines = WIDTHS.map(|columns| line(&halfway(), columns, seconds(1000)));
    assert_eq!(
        lines[2],
        "epoch 2  ████████████████████░░░░░░░░░░░░░░░░░░░░  5000/10000  loss 0.2500  \
         5.00 steps/s  ETA 16m 40s"
    );
    assert_eq!(
        lines[1],
        "epoch 2  █████████░░░░░░░░░░  5000/10000  loss 0.2500  5.00 steps/s  ETA 16m 40s"
    );
    assert_eq!(
        lines[0],
        "epoch 2  ██████░░░░░░░  5000/10000  loss 0.2500  ETA 16m 40s"
    );
    // And as the terminal becomes narrower still.
    for columns in 1..200 {
        let line = line(&halfway(), columns, seconds(1000));
        assert!(columns < 10 || line.contains("5000/10000"), "{line}");
    }
    assert_eq!(
        line(&halfway(), 40, seconds(1000)),
        "5000/10000  loss 0.2500  ETA 16m 40s"
    );
    assert_eq!(
        line(&halfway(), 25, seconds(1000)),
        "5000/10000  loss 0.2500"
    );
}

#[test]
fn times_are_shown_in_two_units() {
    let shown = [0, 59, 60, 3599, 3600, 86_399, 90_000].map(|time| duration(seconds(time)));
    assert_eq!(
        shown,
        [
            "0s", "59s", "1m 00s", "59m 59s", "1h 00m", "23h 59m", "1d 01h"
        ]
    );
}

#[test]
fn a_run_that_has_not_done_a_step_knows_no_time() {
    let mut progress = Progress::new(0);
    progress.speed = Some(Speed::begin(0, seconds(0)));
    assert!(line(&progress, 79, seconds(9)).ends_with("  0/0  ETA --"));
}

#[test]
fn messages_are_whole_and_leave_no_bar_behind() {
    for width in WIDTHS {
        let terminal = Memory::new(width);
        let screen = terminal.screen();
        let bar = ProgressBar::on(&screen, 10);
        bar.begin(1, 0);
        for step in 1..=3 {
            bar.step(1, step);
            bar.loss(0.25);
            // The crate, a logger, or a hook with `suspend`.
            screen.without(None, || terminal.print(&format!("saved gs{step}\n")));
            // A callback, which waits for a thread that has something to say.
            bar.suspend(|| {
                terminal.print(&format!("accuracy {step}\n"));
                let other = || screen.without(None, || terminal.print("a warning\n"));
                std::thread::scope(|scope| scope.spawn(other).join().unwrap());
                terminal.print("evaluated\n");
            });
        }
        bar.step(2, 10);
        bar.finish();
        terminal.print("done\n");
        let lines = terminal.lines();
        let expected = (1..=3).flat_map(|step| {
            let [saved, accuracy] = [format!("saved gs{step}"), format!("accuracy {step}")];
            [
                saved,
                accuracy,
                "a warning".to_owned(),
                "evaluated".to_owned(),
            ]
        });
        assert_eq!(lines[..12], expected.collect::<Vec<_>>(), "{width}");
        assert!(lines[12].starts_with("epoch 2  ████"), "{lines:?}");
        assert!(lines[12].contains("  10/10  loss 0.2500  "), "{lines:?}");
        assert!(lines[12].ends_with("  took 0s"), "{lines:?}");
        assert_eq!(lines[13..], ["done"]);
    }
}

#[test]
fn the_line_is_there_until_it_is_put_away_and_again_afterwards() {
    let terminal = Memory::new(80);
    let screen = terminal.screen();
    let bar = ProgressBar::on(&screen, 10);
    // Nothing before the run has begun, as it may be refused.
    screen.without(None, || ());
    assert!(terminal.lines().is_empty());
    bar.begin(1, 4);
    let shown = terminal.lines();
    assert!(shown[0].starts_with("epoch 1  ") && shown[0].ends_with("  4/10  ETA --"));
    let during = bar.suspend(|| {
        bar.step(1, 5);
        let nested = screen.without(None, || terminal.lines());
        (nested, terminal.lines())
    });
    assert_eq!(during, (vec![], vec![]));
    assert!(terminal.lines()[0].contains("  5/10  "));
    // Even after a panic, during which `indicatif` draws nothing.
    let action = std::panic::AssertUnwindSafe(|| screen.without(None, || panic!("on purpose")));
    std::panic::catch_unwind(action).unwrap_err();
    bar.suspend(|| ());
    assert!(terminal.lines()[0].contains("  5/10  "));
}

#[test]
fn a_run_inside_a_callback_has_the_line() {
    let terminal = Memory::new(80);
    let screen = terminal.screen();
    let outer = ProgressBar::on(&screen, 10);
    outer.begin(3, 0);
    outer.suspend(|| {
        let inner = ProgressBar::on(&screen, 7);
        inner.begin(1, 0);
        assert!(terminal.lines()[0].contains("  0/7  "));
        inner.finish();
    });
    let lines = terminal.lines();
    assert!(lines[0].contains("  0/7  took "), "{lines:?}");
    assert!(lines[1].starts_with("epoch 3  "), "{lines:?}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_run_that_fails_leaves_its_line_and_one_that_never_began_leaves_none() {
    let terminal = Memory::new(80);
    let screen = terminal.screen();
    drop(ProgressBar::on(&screen, 10));
    assert!(terminal.lines().is_empty());
    let bar = ProgressBar::on(&screen, 10);
    bar.begin(1, 0);
    bar.step(3, 4);
    drop(bar);
    terminal.print("Error\n");
    let lines = terminal.lines();
    assert!(lines[0].starts_with("epoch 3  ") && lines[0].contains("  4/10  "));
    assert_eq!(lines[1..], ["Error"]);
}

#[test]
fn without_a_terminal_nothing_is_drawn() {
    let screen = Screen::new(None);
    let bar = ProgressBar::on(&screen, 10);
    assert_eq!(bar.id, None);
    bar.begin(1, 0);
    bar.step(1, 1);
    assert_eq!(bar.suspend(|| 3), 3);
    bar.finish();
}

#[test]
fn losses_of_any_size_can_be_read() {
    let shown = [0.0, 0.25, 12.5, 1e-5, 2.5e7, f64::NAN].map(number);
    assert_eq!(
        shown,
        ["0.0000", "0.2500", "12.5000", "1.000e-5", "2.500e7", "NaN"]
    );
}
