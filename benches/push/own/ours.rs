//! framehaul's library, as a program embeds it.

use anyhow::{Context, ensure};
use bytes::Bytes;
use framehaul::config::{Credentials, Destination};
use framehaul::push::{Entries, Picture, Pictures, Push};
use tokio::runtime::Runtime;

use super::{Settings, Uploader};

pub(super) struct Ours {
    runtime: Runtime,
    endpoint: String,
    bucket: String,
    pictures: Vec<Picture>,
    prefix: String,
    push: Option<(Pictures, Entries)>,
    given: u64,
}

impl Ours {
    pub(super) fn new(settings: &Settings, pictures: &[Bytes]) -> anyhow::Result<Self> {
        let pictures = pictures.iter().map(|jpeg| Ok(Picture::new(jpeg.clone())?)).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            // As the command line has it.
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            endpoint: settings.endpoint.clone(),
            bucket: settings.bucket.clone(),
            pictures,
            prefix: String::new(),
            push: None,
            given: 0,
        })
    }
}

impl Uploader for Ours {
    fn open(&mut self, prefix: &str, at_once: usize) -> anyhow::Result<()> {
        if let Some((pictures, entries)) = self.push.take() {
            drop(pictures);
            let summary = self.runtime.block_on(entries.finish())?;
            ensure!(summary.is_complete(), "not all is stored: {summary:?}");
        }
        let destination = Destination::Gcs {
            bucket: self.bucket.clone(),
            prefix: format!("{prefix}/"),
            endpoint: Some(self.endpoint.clone()),
            credentials: Credentials::Anonymous,
        };
        let push = Push::new(destination).concurrency(at_once);
        self.push = Some(self.runtime.block_on(push.start())?);
        (self.prefix, self.given) = (prefix.to_owned(), 0);
        Ok(())
    }

    fn burst(&mut self, frames: usize) -> anyhow::Result<()> {
        let (pictures, entries) = self.push.as_mut().context("it is not open")?;
        let give = async {
            for picture in self.pictures.iter().cycle().take(frames) {
                pictures.send(picture.clone()).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let (base, prefix, first) = (&self.bucket, &self.prefix, self.given + 1);
        let list = async {
            for nth in first..first + frames as u64 {
                let entry = entries.next().await.context("the push has ended")?;
                let expected = format!("gs://{base}/{prefix}/{nth:012}.jpg");
                ensure!(entry.url() == Some(&expected), "{expected}: {entry:?}");
            }
            Ok(())
        };
        self.runtime.block_on(async { tokio::try_join!(give, list) })?;
        self.given += frames as u64;
        Ok(())
    }
}
