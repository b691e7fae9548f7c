//! TLS for a part that has none: takes connections with a certificate of its own and passes on what is in them.
//!
//! The certificate is for `localhost` and 127.0.0.1, is made anew for each front, and nobody has signed it but itself:
//! whoever verifies certificates turns away, as from most cameras.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A TCP port of 127.0.0.1 that speaks TLS in front of one that does not, on a thread of its own. Dropping it cuts all
/// connections.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsFront {
    /// Listens on any free port; what comes goes on to `target` of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no certificate can be made, or there is no free port.
    pub fn start(target: u16) -> anyhow::Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(configuration()?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        listener.set_nonblocking(true).context("cannot make the listening socket non-blocking")?;
        let port = listener.local_addr().context("cannot read the listening socket's address")?.port();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot build the TLS front's runtime")?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener).context("cannot hand the socket to the runtime")?
        };
        let (stop, stopped) = oneshot::channel();
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
        let thread = std::thread::Builder::new()
            .name("testbed-tls".into())
            .spawn(move || run(&runtime, &listener, &acceptor, target, stopped))
            .context("cannot start the TLS front's thread")?;
        Ok(Self { port, stop: Some(stop), thread: Some(thread) })
    }

    /// The TCP port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        // The thread may have ended by itself, and then there is nobody to tell.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the TLS front's thread had panicked");
        }
    }
}

/// Accepts connections until told to stop. The connections end with the runtime, which is dropped on return.
fn run(
    runtime: &Runtime,
    listener: &tokio::net::TcpListener,
    acceptor: &TlsAcceptor,
    target: SocketAddr,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        tokio::select! {
            () = accept(listener, acceptor, target) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: &tokio::net::TcpListener, acceptor: &TlsAcceptor, target: SocketAddr) {
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, most likely: nothing tells us when there is one again.
                eprintln!("cannot accept a connection, trying again in 50 ms: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let acceptor = acceptor.clone();
        // A client that does not like the certificate, or a connection that breaks, is the client's business.
        tokio::spawn(async move {
            let mut inside = acceptor.accept(socket).await?;
            let mut outside = TcpStream::connect(target).await?;
            copy_bidirectional(&mut inside, &mut outside).await
        });
    }
}

fn configuration() -> anyhow::Result<ServerConfig> {
    let pem = certificate()?;
    let certificate = CertificateDer::from_pem_slice(&pem).context("openssl has made no certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&pem).context("openssl has made no key")?;
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("no version of TLS to offer")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context("cannot use the certificate")
}

/// A new key and its self-signed certificate, both as PEM. They are never on disk.
fn certificate() -> anyhow::Result<Vec<u8>> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", "-", "-out", "-"])
        .output()
        .context("cannot start openssl: is it installed (Debian: openssl)?")?;
    ensure!(
        made.status.success(),
        "openssl made no certificate ({}): {}",
        made.status,
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(made.stdout)
}
