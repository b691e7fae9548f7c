//! TLS for a part that has none: takes connections with a certificate of its own and passes on what is in them.
//!
//! The certificate is for `localhost` and 127.0.0.1, is made anew for each front, and nobody has signed it but itself:
//! whoever verifies certificates turns away, as from most cameras. An `Identity` is for servers whose clients verify.

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
        let acceptor = TlsAcceptor::from(Arc::new(configuration(&certificate()?)?));
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

/// Who a server is to clients that verify: a certificate for `localhost` and 127.0.0.1, signed by an authority that was
/// made for it alone.
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    /// The authority's certificate, PEM: what clients have to trust.
    pub(crate) authority: String,
}

impl Identity {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let place = |name: &str| dir.path().join(name);
        let (authority, key) = (place("authority.pem"), place("authority.key"));
        let authority_is = ["-subj", "/CN=framehaul test bed", "-addext", "keyUsage=critical,keyCertSign"];
        openssl(
            Command::new("openssl").args(NEW).args(authority_is).arg("-keyout").arg(&key).arg("-out").arg(&authority),
        )?;
        let mut sign = Command::new("openssl");
        sign.args(NEW).args(LOCALHOST).args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        sign.arg("-CA").arg(&authority).arg("-CAkey").arg(&key).args(["-keyout", "-", "-out", "-"]);
        let pem = openssl(&mut sign)?;
        let authority = std::fs::read_to_string(&authority).context("openssl has made no authority")?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(configuration(&pem)?)), authority })
    }
}

fn configuration(pem: &[u8]) -> anyhow::Result<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(pem).context("openssl has made no certificate")?;
    let key = PrivateKeyDer::from_pem_slice(pem).context("openssl has made no key")?;
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("no version of TLS to offer")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context("cannot use the certificate")
}

/// A new key and a certificate.
const NEW: [&str; 9] =
    ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
const LOCALHOST: [&str; 4] = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];

/// A new key and its self-signed certificate, both as PEM. They are never on disk.
fn certificate() -> anyhow::Result<Vec<u8>> {
    openssl(Command::new("openssl").args(NEW).args(LOCALHOST).args(["-keyout", "-", "-out", "-"]))
}

fn openssl(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let made = command.output().context("cannot start openssl: is it installed (Debian: openssl)?")?;
    ensure!(
        made.status.success(),
        "openssl made no certificate ({}): {}",
        made.status,
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(made.stdout)
}

#[cfg(test)]
mod tests {
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;

    /// Whether somebody who trusts this authority gets in.
    async fn gets_in(acceptor: &TlsAcceptor, authority: &str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(16_384);
        let connector = TlsConnector::from(Arc::new(client));
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
        client.is_ok() && server.is_ok()
    }

    #[tokio::test]
    async fn who_verifies_gets_in_with_the_right_authority_alone() {
        let (one, other) = (Identity::new().unwrap(), Identity::new().unwrap());
        assert!(gets_in(&one.acceptor, &one.authority).await);
        assert!(!gets_in(&one.acceptor, &other.authority).await);
    }
}
