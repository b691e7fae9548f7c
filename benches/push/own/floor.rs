//! The floor: requests that were prepared, over connections that are kept, in one thread. No order, no retry, no
//! checksum.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::{Buf as _, Bytes};
use futures_util::future::try_join_all;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Settings, Uploader};

/// A connection.
trait Line: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Line for T {}

pub(super) struct Floor {
    runtime: Runtime,
    address: SocketAddr,
    tls: Option<TlsConnector>,
    bucket: String,
    pictures: Vec<Bytes>,
    prefix: String,
    at_once: usize,
    given: usize,
    lines: RefCell<Vec<Box<dyn Line>>>,
}

impl Floor {
    pub(super) fn new(settings: &Settings, pictures: Vec<Bytes>) -> anyhow::Result<Self> {
        let (scheme, address) = settings.endpoint.split_once("://").context("an endpoint without a scheme")?;
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            address: address.parse().with_context(|| format!("the address `{address}`"))?,
            tls: if scheme == "https" { Some(connector()?) } else { None },
            bucket: settings.bucket.clone(),
            pictures,
            prefix: String::new(),
            at_once: 1,
            given: 0,
            lines: RefCell::default(),
        })
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Line>> {
        let socket = TcpStream::connect(self.address).await.context("cannot connect")?;
        socket.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(socket),
            Some(tls) => Box::new(tls.connect(ServerName::from(self.address.ip()), socket).await?),
        })
    }

    /// One after the other over one connection, as long as there are more.
    async fn carry(&self, requests: &[(Bytes, Bytes)], next: &Cell<usize>) -> anyhow::Result<()> {
        let mut line: Option<Box<dyn Line>> = None;
        let mut answer = Vec::with_capacity(4_096);
        while let Some((head, body)) = requests.get(next.replace(next.get() + 1)) {
            if line.is_none() {
                let kept = self.lines.borrow_mut().pop();
                line = Some(match kept {
                    Some(kept) => kept,
                    None => self.connect().await?,
                });
            }
            let line = line.as_mut().context("there is one")?;
            line.write_all_buf(&mut head.clone().chain(body.clone())).await?;
            line.flush().await?;
            read_answer(line, &mut answer).await?;
        }
        self.lines.borrow_mut().extend(line);
        Ok(())
    }
}

impl Uploader for Floor {
    fn open(&mut self, prefix: &str, at_once: usize) -> anyhow::Result<()> {
        let _context = self.runtime.enter();
        self.lines.borrow_mut().clear();
        (self.prefix, self.at_once, self.given) = (prefix.to_owned(), at_once, 0);
        Ok(())
    }

    fn burst(&mut self, frames: usize) -> anyhow::Result<()> {
        let request = |(nth, body): (usize, &Bytes)| {
            let (address, bucket, prefix, number) = (self.address, &self.bucket, &self.prefix, self.given + nth + 1);
            let head = format!(
                "POST /upload/storage/v1/b/{bucket}/o?uploadType=media&ifGenerationMatch=0\
                 &name={prefix}%2F{number:012}.jpg HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            (Bytes::from(head), body.clone())
        };
        let requests: Vec<_> = self.pictures.iter().cycle().take(frames).enumerate().map(request).collect();
        let next = Cell::new(0);
        let lines = (0..self.at_once.min(frames)).map(|_| self.carry(&requests, &next));
        self.runtime.block_on(try_join_all(lines))?;
        self.given += frames;
        Ok(())
    }
}

/// Reads an answer to its end, which must say that the object is stored.
async fn read_answer(line: &mut (impl AsyncRead + Unpin + ?Sized), answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    let mut wanted = usize::MAX;
    while answer.len() < wanted {
        ensure!(line.read_buf(answer).await? > 0, "the connection was closed");
        if wanted == usize::MAX
            && let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let text = std::str::from_utf8(&answer[..head])?.to_ascii_lowercase();
            ensure!(text.starts_with("http/1.1 200 "), "{text}");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            wanted = head + 4 + length.context("an answer without its length")?.trim().parse::<usize>()?;
        }
    }
    ensure!(answer.len() == wanted, "more than an answer");
    Ok(())
}

/// Trusts whom the environment names, as everybody else here does.
fn connector() -> anyhow::Result<TlsConnector> {
    let path = std::env::var_os("SSL_CERT_FILE").context("SSL_CERT_FILE names nobody to trust")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&path)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
