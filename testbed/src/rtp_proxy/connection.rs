//! One client: its control connection, and the streams that go with it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;

use super::datagrams::Relay;
use super::faults::Faults;
use super::ledger::Sent;
use super::messages::{Item, Message, Splitter, interleave};
use super::server::Shared;
use super::transport;

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1_024;

/// A client's stream, whichever way it takes.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Arc<Shared>,
    faults: Mutex<Faults>,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, number: u64) -> Self {
        let faults = Mutex::new(Faults::new(shared.script.clone(), number));
        Self { shared, faults }
    }

    fn faults<T>(&self, look: impl FnOnce(&mut Faults) -> T) -> T {
        look(&mut self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What passes in the place of an RTP packet.
    pub(super) fn spoil(&self, packet: &[u8]) -> Vec<Vec<u8>> {
        self.shared.stats(|stats| self.faults(|faults| faults.spoil(packet, stats)))
    }

    fn spoil_interleaved(&self, channel: u8, packet: &[u8]) -> Vec<u8> {
        // RTP has the even channels, RTCP the odd ones, as everybody assigns them.
        if channel % 2 == 1 {
            return interleave(channel, packet);
        }
        self.shared.stats(|stats| self.faults(|faults| faults.spoil_interleaved(channel, packet, stats)))
    }

    fn describe(&self, text: &str) -> String {
        self.shared.stats(|stats| self.faults(|faults| faults.describe(text, stats)))
    }

    /// What became of its pictures.
    pub(super) fn sent(&self) -> Vec<Sent> {
        self.faults(|faults| faults.ledger.pictures().to_vec())
    }
}

/// Requests whose answers are to be rewritten, by CSeq: SETUP over UDP with its ports, PLAY without.
type Pending = Arc<Mutex<HashMap<String, Option<Relay>>>>;

/// Carries a client until either side has closed.
pub(super) async fn serve(client: TcpStream, stream: Arc<Stream>) -> anyhow::Result<()> {
    let target = &stream.shared.target;
    let server = TcpStream::connect(target).await.with_context(|| format!("cannot connect to {target}"))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let client_ip = client.peer_addr()?.ip();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let pending = Pending::default();
    tokio::select! {
        result = requests(from_client, to_server, &pending) => result,
        result = answers(from_server, to_client, &pending, client_ip, &stream) => result,
    }
}

async fn read(from: &mut OwnedReadHalf, splitter: &mut Splitter, buffer: &mut [u8]) -> anyhow::Result<bool> {
    let count = from.read(buffer).await?;
    splitter.take(&buffer[..count]);
    Ok(count > 0)
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, pending: &Pending) -> anyhow::Result<()> {
    let (mut splitter, mut buffer) = (Splitter::default(), vec![0; CHUNK]);
    while read(&mut from, &mut splitter, &mut buffer).await? {
        while let Some(item) = splitter.next()? {
            let bytes = match item {
                Item::Packet { channel, packet } => interleave(channel, &packet),
                Item::Message(message) => request(message, pending).await?.bytes(),
            };
            to.write_all(&bytes).await?;
        }
    }
    Ok(())
}

async fn request(mut message: Message, pending: &Pending) -> anyhow::Result<Message> {
    let Some(number) = message.header("CSeq").map(str::to_owned) else { return Ok(message) };
    let relay = if message.is_request("SETUP")
        && let Some(value) = message.header("Transport").map(str::to_owned)
        && let Some(client) = transport::port(&value, "client_port")
    {
        let relay = Relay::bind(client).await?;
        message.set_header("Transport", &transport::with_ports(&value, "client_port", relay.told_server()));
        Some(relay)
    } else if message.is_request("PLAY") {
        None
    } else {
        return Ok(message);
    };
    pending.lock().unwrap_or_else(PoisonError::into_inner).insert(number, relay);
    Ok(message)
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    pending: &Pending,
    client_ip: IpAddr,
    stream: &Arc<Stream>,
) -> anyhow::Result<()> {
    let (mut splitter, mut buffer) = (Splitter::default(), vec![0; CHUNK]);
    // End with the connection.
    let mut tasks = JoinSet::new();
    while read(&mut from, &mut splitter, &mut buffer).await? {
        let mut bytes = Vec::new();
        while let Some(item) = splitter.next()? {
            match item {
                Item::Packet { channel, packet } => bytes.extend(stream.spoil_interleaved(channel, &packet)),
                Item::Message(message) => {
                    bytes.extend(answer(message, pending, client_ip, stream, &mut tasks)?.bytes());
                }
            }
        }
        to.write_all(&bytes).await?;
    }
    Ok(())
}

fn answer(
    mut message: Message,
    pending: &Pending,
    client_ip: IpAddr,
    stream: &Arc<Stream>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Message> {
    if !message.is_answer() {
        return Ok(message);
    }
    if message.header("Content-Type").is_some_and(|kind| kind.starts_with("application/sdp")) {
        let text = stream.describe(&String::from_utf8_lossy(&message.body));
        message.set_body(text.into_bytes());
    }
    let number = message.header("CSeq").unwrap_or_default();
    let Some(relay) = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(number) else {
        return Ok(message);
    };
    let good = message.head.split(' ').nth(1) == Some("200");
    match relay {
        None if good => stream.shared.stats(|stats| stats.plays += 1),
        Some(relay) if good => {
            let value = message.header("Transport").unwrap_or_default().to_owned();
            let server = transport::port(&value, "server_port").context("the server names no port of its own")?;
            let value = transport::with_ports(&value, "client_port", relay.client());
            message.set_header("Transport", &transport::with_ports(&value, "server_port", relay.told_client()));
            relay.carry(server, client_ip, stream, tasks);
        }
        _ => {}
    }
    Ok(message)
}
