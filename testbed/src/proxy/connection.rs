//! One connection, from its client's first byte to its end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::bodies::Bodies;
use super::script::{Ending, Fate, Script, Way};
use super::server::Shared;

/// Bytes that are taken at once. With what the kernel holds, the most that waits in a connection.
const SLICE: usize = 16 * 1024;
/// The first byte of a TLS record of a handshake, RFC 8446 section 5.1.
const HANDSHAKE: u8 = 0x16;
/// How often it is looked whether a client has gone whose bytes nobody reads.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What both directions know.
struct Line<'a> {
    shared: &'a Shared,
    number: u64,
    /// Bytes were swallowed: what follows them has no meaning any more.
    broken: AtomicBool,
    slowed: AtomicBool,
    /// The client has hung up: what of it is still to be read asks for nothing any more.
    gone: AtomicBool,
    /// An answer is on its way that comes slowly.
    answering: AtomicBool,
    /// When the client's first byte came that nothing has answered.
    asked: Mutex<Option<Instant>>,
}

/// Why a connection ends.
enum End {
    /// By the script, with a reset.
    Reset,
    /// By the script, or because one of the ends is gone.
    Closed,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Closed
    }
}

/// Carries a connection to its end.
pub(super) async fn serve(mut client: TcpStream, shared: &Shared, number: u64) {
    let line = Line {
        shared,
        number,
        broken: AtomicBool::new(false),
        slowed: AtomicBool::new(false),
        gone: AtomicBool::new(false),
        answering: AtomicBool::new(false),
        asked: Mutex::new(None),
    };
    if !line.wait_for_leave(&mut client).await {
        return;
    }
    let mut server = match TcpStream::connect(&shared.target).await {
        Ok(server) => server,
        Err(error) => {
            let so_far = shared.stats(|stats| {
                stats.unreachable += 1;
                stats.unreachable
            });
            if so_far == 1 {
                eprintln!("cannot reach {}, connections to it are closed: {error}", shared.target);
            }
            return;
        }
    };
    for socket in [&client, &server] {
        if let Err(error) = socket.set_nodelay(true) {
            eprintln!("cannot switch off Nagle's algorithm, bytes may be late: {error}");
        }
    }
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = Pump::new(&line, Way::ToServer, from_client, to_server);
        let down = Pump::new(&line, Way::ToClient, from_server, to_client);
        tokio::try_join!(up.run(), down.run())
    };
    line.client_gone();
    if let Err(End::Reset) = end {
        for socket in [&client, &server] {
            // The kernel then throws away what is unsent and sends a reset.
            if let Err(error) = socket.set_zero_linger() {
                eprintln!("cannot prepare a reset, the connection will end in order: {error}");
            }
        }
    }
}

impl Line<'_> {
    /// Whether the connection may go on to its target. While the script has it swallowed, its client is never answered.
    async fn wait_for_leave(&self, client: &mut TcpStream) -> bool {
        let mut script = self.shared.script.subscribe();
        loop {
            let fate = Fate::of(&script.borrow_and_update(), self.number, Way::ToServer);
            if !fate.blackhole && !fate.tls_stall {
                return true;
            }
            let mut first = [0];
            let read = tokio::select! {
                // The script first: what is sent after it has changed must not meet the old one.
                biased;
                changed = script.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return false,
                },
                read = client.peek(&mut first) => read,
            };
            match read {
                Ok(1..) if fate.blackhole => self.swallowed(),
                Ok(1..) if first[0] == HANDSHAKE => self.shared.stats(|stats| stats.injected.tls_stalls += 1),
                Ok(1..) => return true,
                Ok(0) | Err(_) => return false,
            }
            self.client_asks();
            // To its end, whatever the script says then: what is swallowed is gone.
            let mut buffer = vec![0; SLICE];
            while let Ok(1..) = client.read(&mut buffer).await {}
            self.client_gone();
            return false;
        }
    }

    fn swallowed(&self) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            self.shared.stats(|stats| stats.injected.blackholed += 1);
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client_asks(&self) {
        if !self.gone.load(Ordering::Relaxed) {
            self.asked().get_or_insert_with(Instant::now);
        }
    }

    fn client_is_answered(&self) {
        *self.asked() = None;
    }

    /// The connection is at its end, or the client has hung up.
    fn client_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
        if let Some(since) = self.asked().take() {
            self.shared.unanswered(since.into_std());
        }
    }
}

/// One direction.
struct Pump<'a> {
    line: &'a Line<'a>,
    way: Way,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    script: watch::Receiver<Arc<Script>>,
    fate: Fate,
    passed: u64,
    /// When bytes were last passed on.
    last: Option<Instant>,
    bodies: Bodies,
    /// Where the body that is passing is to be changed.
    flip: Option<(u64, u8)>,
    /// The receiver was told that nothing more comes.
    closed: bool,
}

impl<'a> Pump<'a> {
    fn new(line: &'a Line<'a>, way: Way, from: ReadHalf<'a>, to: WriteHalf<'a>) -> Pump<'a> {
        let mut script = line.shared.script.subscribe();
        let fate = Fate::of(&script.borrow_and_update(), line.number, way);
        let bodies = Bodies::new();
        Pump { line, way, from, to, script, fate, passed: 0, last: None, bodies, flip: None, closed: false }
    }

    async fn run(mut self) -> Result<(), End> {
        let mut buffer = vec![0; SLICE];
        loop {
            self.end_in_time().await?;
            let most = self.slice();
            let count = tokio::select! {
                biased;
                changed = self.script.changed() => {
                    self.heed(changed)?;
                    continue;
                }
                read = self.from.read(&mut buffer[..most]) => read?,
            };
            if count == 0 {
                return self.sender_is_done().await;
            }
            if self.way == Way::ToServer {
                self.line.client_asks();
            }
            if self.fate.blackhole {
                self.line.swallowed();
            }
            if self.closed || self.line.broken.load(Ordering::Relaxed) {
                continue;
            }
            self.pass(&mut buffer[..count]).await?;
        }
    }

    /// Takes note of a script that has changed. There is none any more when the proxy ends.
    fn heed(&mut self, changed: Result<(), watch::error::RecvError>) -> Result<(), End> {
        changed.map_err(|_| End::Closed)?;
        self.fate = Fate::of(&self.script.borrow_and_update(), self.line.number, self.way);
        self.fate.blackhole |= self.fate.blackhole_standing;
        Ok(())
    }

    /// Ends what has passed as many bytes as it was to.
    async fn end_in_time(&mut self) -> Result<(), End> {
        let Some((_, how)) = self.fate.ending.filter(|(at, _)| self.passed >= *at && !self.closed) else {
            return Ok(());
        };
        let shared = self.line.shared;
        match how {
            Ending::Cut => {
                shared.stats(|stats| stats.injected.cuts += 1);
                Err(End::Closed)
            }
            Ending::Reset => {
                shared.stats(|stats| stats.injected.resets += 1);
                Err(End::Reset)
            }
            Ending::HalfClose => {
                shared.stats(|stats| stats.injected.half_closes += 1);
                self.closed = true;
                Ok(self.to.shutdown().await?)
            }
        }
    }

    /// How many bytes may be taken at once: up to where it ends, and a tenth of a second's worth.
    fn slice(&self) -> usize {
        let to_end = self.fate.ending.filter(|_| !self.closed).map_or(u64::MAX, |(at, _)| at - self.passed);
        let paced = self.fate.rate.map_or(u64::MAX, |rate| (rate / 10).max(1));
        (SLICE as u64).min(to_end).min(paced) as usize
    }

    /// Passes the sender's end on, unless its bytes are swallowed as well.
    async fn sender_is_done(&mut self) -> Result<(), End> {
        // Who ends while a slow answer is still coming has had enough of it.
        if self.way == Way::ToServer && self.line.answering.load(Ordering::Relaxed) {
            self.line.client_gone();
        }
        if self.line.broken.load(Ordering::Relaxed) {
            return Err(End::Closed);
        }
        Ok(self.to.shutdown().await?)
    }

    async fn pass(&mut self, bytes: &mut [u8]) -> Result<(), End> {
        self.spoil(bytes);
        // What follows closely has waited with what came before it.
        if self.fate.latency > Duration::ZERO && self.last.is_none_or(|last| last.elapsed() >= self.fate.latency) {
            self.line.shared.stats(|stats| stats.injected.latencies += 1);
            sleep(self.fate.latency).await;
        }
        self.to.write_all(bytes).await?;
        self.last = Some(Instant::now());
        self.passed += bytes.len() as u64;
        let (way, count) = (self.way, bytes.len() as u64);
        self.line.shared.stats(|stats| match way {
            Way::ToServer => stats.bytes_to_server += count,
            Way::ToClient => stats.bytes_to_client += count,
        });
        if self.way == Way::ToClient {
            // What is held back must come to its end; of the rest the first byte is enough.
            let answering = self.fate.rate.is_some() && self.bodies.is_amid();
            self.line.answering.store(answering, Ordering::Relaxed);
            if !answering {
                self.line.client_is_answered();
            }
        }
        match self.fate.rate {
            Some(rate) => self.keep_pace(Duration::from_secs_f64(count as f64 / rate as f64)).await,
            None => Ok(()),
        }
    }

    /// Changes a bit, where it is time for that.
    fn spoil(&mut self, bytes: &mut [u8]) {
        for piece in self.bodies.pieces(bytes) {
            if piece.offset == 0 {
                self.flip = self.fate.flip();
            }
            let Some((at, bit)) = self.flip else { continue };
            let place = at.checked_sub(piece.offset).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = place.and_then(|place| bytes[piece.bytes].get_mut(place)) {
                *byte ^= bit;
                self.flip = None;
                self.line.shared.stats(|stats| stats.injected.flips += 1);
            }
        }
    }

    /// Waits, unless the script changes. That a client has gone is noticed, although what it has sent is not read.
    async fn keep_pace(&mut self, wait: Duration) -> Result<(), End> {
        if !self.line.slowed.swap(true, Ordering::Relaxed) {
            self.line.shared.stats(|stats| stats.injected.slowed += 1);
        }
        let nap = sleep(wait);
        tokio::pin!(nap);
        let mut there = self.way == Way::ToServer;
        loop {
            tokio::select! {
                () = &mut nap => return Ok(()),
                changed = self.script.changed() => return self.heed(changed),
                () = hung_up(&self.from), if there => {
                    self.line.client_gone();
                    there = false;
                }
            }
        }
    }
}

/// Ready when the other end has closed the connection, although there may be bytes of it that were not read.
async fn hung_up(from: &ReadHalf<'_>) {
    while from.ready(Interest::READABLE).await.is_ok_and(|ready| !ready.is_read_closed()) {
        sleep(LOOK_EVERY).await;
    }
}
