//! The way by UDP: two pairs of ports, one that the server sends to and one that the client hears from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::bail;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::connection::Stream;

/// The longest datagram there is, bytes.
const MOST: usize = 65_535;
/// How often a pair of neighbouring ports is sought.
const TRIES: u32 = 200;

/// An even port and the one above it.
#[derive(Debug)]
struct Pair {
    rtp: Arc<UdpSocket>,
    rtcp: Arc<UdpSocket>,
    first: u16,
}

impl Pair {
    async fn bind() -> anyhow::Result<Self> {
        let bind = async |port| UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
        for _ in 0..TRIES {
            let any = bind(0).await?;
            let first = any.local_addr()?.port();
            if first % 2 == 1 {
                continue;
            }
            if let Ok(above) = bind(first + 1).await {
                return Ok(Self { rtp: Arc::new(any), rtcp: Arc::new(above), first });
            }
        }
        bail!("no pair of UDP ports is free")
    }
}

/// The ports of one SETUP.
#[derive(Debug)]
pub(super) struct Relay {
    to_server: Pair,
    to_client: Pair,
    /// The client's first port.
    client: u16,
}

impl Relay {
    /// Takes ports for a client that hears on `client` and the one above.
    pub(super) async fn bind(client: u16) -> anyhow::Result<Self> {
        Ok(Self { to_server: Pair::bind().await?, to_client: Pair::bind().await?, client })
    }

    /// The port that the server is told in place of the client's.
    pub(super) fn told_server(&self) -> u16 {
        self.to_server.first
    }

    /// The port that the client is told in place of the server's.
    pub(super) fn told_client(&self) -> u16 {
        self.to_client.first
    }

    /// The client's first port.
    pub(super) fn client(&self) -> u16 {
        self.client
    }

    /// Carries datagrams from now on, for as long as the tasks last.
    pub(super) fn carry(self, server: u16, client_ip: IpAddr, stream: &Arc<Stream>, tasks: &mut JoinSet<()>) {
        let Self { to_server, to_client, client } = self;
        let at_server = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let at_client = move |port| SocketAddr::from((client_ip, port));
        tasks.spawn(pass(to_client.rtp.clone(), to_server.rtp.clone(), at_server(server)));
        tasks.spawn(pass(to_client.rtcp.clone(), to_server.rtcp.clone(), at_server(server + 1)));
        tasks.spawn(pass(to_server.rtcp, to_client.rtcp, at_client(client + 1)));
        let stream = stream.clone();
        tasks.spawn(async move {
            let mut buffer = vec![0; MOST];
            // An error is the word that nobody listened to the datagram before: it changes nothing.
            loop {
                let Ok(length) = to_server.rtp.recv(&mut buffer).await else { continue };
                for packet in stream.spoil(&buffer[..length]) {
                    let _ = to_client.rtp.send_to(&packet, at_client(client)).await;
                }
            }
        });
    }
}

/// Passes datagrams on as they are.
async fn pass(from: Arc<UdpSocket>, by: Arc<UdpSocket>, to: SocketAddr) {
    let mut buffer = vec![0; MOST];
    loop {
        if let Ok(length) = from.recv(&mut buffer).await {
            let _ = by.send_to(&buffer[..length], to).await;
        }
    }
}
