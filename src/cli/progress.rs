//! How far long work is, on a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::table::{cut, terminal};

/// How often it is shown.
const EVERY: Duration = Duration::from_millis(200);

/// How wide a bar is.
const BAR: usize = 30;

/// How many lines are shown, less one. There is one terminal, and whoever has something to say that stays clears it.
static BELOW: AtomicUsize = AtomicUsize::new(0);

/// A line, or some, on the terminal that says how far it is; none where standard error goes elsewhere.
pub struct Line {
    terminal: bool,
    shown: Option<Instant>,
}

impl Line {
    pub fn new() -> Self {
        Self { terminal: Self::is_shown(), shown: None }
    }

    /// Whether there is a terminal to show it.
    pub fn is_shown() -> bool {
        io::stderr().is_terminal()
    }

    /// Shows a text in the place of the one before, unless that was just now.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        if !self.terminal || self.shown.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let width = terminal().map(|(width, _)| width);
        let text: Vec<String> = text().lines().map(|line| cut(line, width)).collect();
        let mut shown = to_the_first(BELOW.swap(text.len().saturating_sub(1), Relaxed));
        let _ = write!(shown, "{}\x1b[J", text.join("\x1b[K\r\n"));
        let _ = write!(io::stderr(), "{shown}");
    }

    /// Takes it away, for something that stays.
    pub fn clear(&mut self) {
        if self.shown.take().is_some() {
            clear();
        }
    }
}

/// Takes away what a [`Line`] may show, whoever has it.
pub fn clear() {
    if Line::is_shown() {
        let _ = write!(io::stderr(), "{}\x1b[J", to_the_first(BELOW.swap(0, Relaxed)));
    }
}

/// Moves the cursor to the first of the lines that are shown.
fn to_the_first(below: usize) -> String {
    if below == 0 { "\r".to_owned() } else { format!("\r\x1b[{below}A") }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A bar that is filled as far as it is done.
pub fn bar(done: u64, of: u64) -> String {
    let filled = BAR * usize::try_from(100 * done.min(of) / of.max(1)).unwrap_or(0) / 100;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR - filled))
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (100_000, "100,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
