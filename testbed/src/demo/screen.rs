//! What the demo shows while it runs: a table that is redrawn in its place on a terminal, a line now and then
//! elsewhere.

use std::io::{IsTerminal, Write};

use crate::clip::Codec;
use crate::daemon::Status;

/// Where there is no terminal, the table comes once in so many ticks.
const PLAIN_EVERY: u64 = 5;

/// What is known of a camera's codec, by its id.
pub(crate) type CodecOf = fn(&str) -> Option<Codec>;

/// Standard error, as a screen.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: bool,
    /// Lines of the table that stands at the bottom.
    drawn: usize,
    ticks: u64,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), drawn: 0, ticks: 0 }
    }

    /// Prints a text above the table.
    pub(crate) fn say(&mut self, text: &str) {
        self.write(&format!("{}{text}\n", self.erase()));
        self.drawn = 0;
    }

    /// Shows the cameras as they are now; to be called once a second.
    pub(crate) fn tick(&mut self, elapsed: u64, cameras: &[(String, Status)], codec_of: CodecOf) {
        let line = || cameras.iter().map(|camera| line(camera, codec_of)).collect::<Vec<_>>().join("; ");
        self.show(elapsed, || table(cameras, codec_of), line);
    }

    /// Shows a table in the place of the last one, or a line now and then; to be called once a second.
    pub(crate) fn show(&mut self, elapsed: u64, table: impl FnOnce() -> String, line: impl FnOnce() -> String) {
        if self.terminal {
            let table = table();
            self.write(&format!("{}{table}", self.erase()));
            self.drawn = table.lines().count();
        } else if self.ticks.is_multiple_of(PLAIN_EVERY) {
            self.write(&format!("{elapsed:>4} s  {}\n", line()));
        }
        self.ticks += 1;
    }

    /// Leaves the table where it is, for good.
    pub(crate) fn keep(&mut self) {
        self.drawn = 0;
    }

    /// The control sequence that removes the table: that many lines up, then everything from there on.
    fn erase(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}F\x1b[J", self.drawn) }
    }

    fn write(&self, text: &str) {
        // A screen that has gone is no reason to stop hauling.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Frames that are captured and not in the list yet.
fn lag(status: &Status) -> u64 {
    status.totals.captured.saturating_sub(status.watermark)
}

fn codec_name(id: &str, codec_of: CodecOf) -> &'static str {
    codec_of(id).map_or("?", Codec::name)
}

fn line((id, status): &(String, Status), codec_of: CodecOf) -> String {
    let (stored, lost, codec) = (status.totals.stored, status.totals.lost, codec_name(id, codec_of));
    format!("{id} ({codec}) {} {:.1} fps, stored {stored}, lag {}, lost {lost}", status.state, status.fps, lag(status))
}

fn table(cameras: &[(String, Status)], codec_of: CodecOf) -> String {
    let width = cameras.iter().map(|(id, _)| id.len()).max().unwrap_or(0).max("camera".len());
    let head = ["camera", "codec", "state", "fps", "stored", "lag", "lost"];
    let mut text = row(width, head);
    for (id, status) in cameras {
        let [fps, stored] = [format!("{:.1}", status.fps), status.totals.stored.to_string()];
        let [lag, lost] = [lag(status), status.totals.lost].map(|count| count.to_string());
        text += &row(width, [id, codec_name(id, codec_of), &status.state, &fps, &stored, &lag, &lost]);
        if let Some(message) = status.last_error.as_ref().and_then(|error| error["message"].as_str()) {
            // Cut short: a line that wraps would not be erased.
            text += &format!("  {:.76}\n", message.lines().next().unwrap_or_default());
        }
    }
    text
}

fn row(width: usize, [camera, codec, state, fps, stored, lag, lost]: [&str; 7]) -> String {
    format!("{camera:<width$}  {codec:<5}  {state:<12} {fps:>6} {stored:>8} {lag:>5} {lost:>6}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Totals;

    fn camera(id: &str, watermark: u64) -> (String, Status) {
        let totals = Totals { captured: 107, stored: 100, lost: 1, in_flight: 6 };
        let status = Status {
            state: "streaming".into(),
            generation: 1,
            session: Some(1),
            pid: Some(7),
            fps: 24.96,
            next_try_at: None,
            totals,
            watermark,
            last_error: None,
        };
        (id.into(), status)
    }

    #[test]
    fn a_camera_takes_one_row() {
        let mut failed = camera("yard", 107);
        failed.1.last_error = Some(serde_json::json!({"message": "nobody there\nreally"}));
        let codec_of: CodecOf = |id| (id == "yard").then_some(Codec::Mjpeg);
        assert_eq!(
            table(&[camera("main-1080p", 101), failed], codec_of),
            "camera      codec  state           fps   stored   lag   lost\n\
             main-1080p  ?      streaming      25.0      100     6      1\n\
             yard        mjpeg  streaming      25.0      100     0      1\n  \
               nobody there\n"
        );
        assert_eq!(line(&camera("yard", 101), codec_of), "yard (mjpeg) streaming 25.0 fps, stored 100, lag 6, lost 1");
    }
}
