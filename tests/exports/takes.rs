//! How fast tasks are taken of very many.

use std::time::Duration;

use serde_json::json;

/// So many wait.
pub const TASKS: usize = 100_000;
/// So many of them are taken.
pub const TAKES: usize = 10_000;
/// By so many at once.
pub const CLIENTS: usize = 12;
/// A third of what `make accept` asks for, and three times as long: this machine may be busy.
const LEAST_A_SECOND: f64 = 1_000.0 / 3.0;
const P99: Duration = Duration::from_millis(60);

/// A take: how long it lasted, its number, and the task.
pub type Take = (Duration, u64, String);

/// Each number and each task came once, and soon enough; tells the figure.
#[track_caller]
pub fn judge(what: &str, mut takes: Vec<Take>, took: Duration) {
    let mut numbers: Vec<u64> = takes.iter().map(|(_, number, _)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=TAKES as u64).collect::<Vec<_>>(), "each number once");
    let mut tasks: Vec<&String> = takes.iter().map(|(.., task)| task).collect();
    tasks.sort();
    tasks.dedup();
    assert_eq!(tasks.len(), TAKES, "each task once");
    takes.sort();
    let ms = |place: usize| (takes[place].0.as_secs_f64() * 100_000.0).round() / 100.0;
    let (rate, p99) = (TAKES as f64 / took.as_secs_f64(), takes[TAKES * 99 / 100].0);
    let figure = json!({
        "takes_of": what, "waiting": TASKS, "takes": TAKES, "at_once": CLIENTS, "a_second": rate.round(),
        "median_ms": ms(TAKES / 2), "p99_ms": ms(TAKES * 99 / 100), "longest_ms": ms(TAKES - 1),
    });
    println!("\n{figure}");
    assert!(rate >= LEAST_A_SECOND && p99 <= P99, "{figure}");
}
