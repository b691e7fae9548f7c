//! Cuts what a capture process writes into messages.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::wire::MAX_MESSAGE_BYTES;

/// Bytes of a message's length.
const LENGTH: usize = 4;

/// Gives each message without its length, in memory that is as large as it is and nobody else's: what it holds may be
/// kept for long, and is counted by its own length. Nothing of a message is copied but the piece that came with its length.
#[derive(Debug, Default)]
pub struct Cutter {
    /// While a message is read into memory of its own: the memory for what comes before one.
    before: Option<BytesMut>,
}

impl Decoder for Cutter {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, read: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let Some(length) = read.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_MESSAGE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
        }
        let whole = LENGTH + length;
        match self.before.take() {
            Some(before) if read.len() < whole => self.before = Some(before),
            Some(before) => {
                let mut message = std::mem::replace(read, before);
                message.advance(LENGTH);
                return Ok(Some(message.freeze()));
            }
            None if read.len() < whole => {
                // It is filled to its end and no further, because there is no more room in it.
                let mut own = BytesMut::with_capacity(whole);
                own.extend_from_slice(read);
                read.clear();
                self.before = Some(std::mem::replace(read, own));
            }
            None => {
                let message = Bytes::copy_from_slice(&read[LENGTH..whole]);
                read.advance(whole);
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio_util::codec::FramedRead;

    use super::*;

    fn written(message: &[u8]) -> Vec<u8> {
        [&u32::try_from(message.len()).unwrap().to_le_bytes(), message].concat()
    }

    #[tokio::test]
    async fn messages_of_any_length_come_out_as_they_went_in_however_the_pipe_cuts_them() {
        let mut rng = fastrand::Rng::with_seed(7);
        let lengths = [0, 1, 8_187, 8_188, 8_189, 150_000, 0, 3, 20_000, 8_192].into_iter();
        let lengths = lengths.chain((1..200).map(|n| n * n)).collect::<Vec<usize>>();
        let messages: Vec<Vec<u8>> = lengths.iter().map(|n| (0..*n).map(|_| rng.u8(..)).collect()).collect();
        for room in [1, 1_000, 8_192, 1 << 20] {
            let (mut pipe, output) = tokio::io::duplex(room);
            // One byte at a time takes long.
            let messages = if room == 1 { &messages[5..9] } else { &messages[..] };
            let all = messages.iter().flat_map(|message| written(message)).collect::<Vec<_>>();
            let writing = tokio::spawn(async move { pipe.write_all(&all).await });
            let mut cut = FramedRead::new(output, Cutter::default());
            for message in messages {
                let found = cut.next().await.unwrap().unwrap();
                assert!(found == message, "{room}: {} bytes", message.len());
                // Nothing has no memory.
                if !message.is_empty() {
                    let memory = found.try_into_mut().expect("it is nobody else's").capacity();
                    assert!(memory <= message.len() + LENGTH, "{room}: {memory} for {}", message.len());
                }
            }
            assert!(cut.next().await.is_none(), "{room}");
            writing.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_length_that_no_message_has_and_an_end_within_one_are_errors() {
        let long = u32::try_from(MAX_MESSAGE_BYTES + 1).unwrap().to_le_bytes();
        let cut_off = written(&[1; 20_000]);
        for bytes in [&long[..], &cut_off[..19_999], &cut_off[..100], &cut_off[..2]] {
            let mut cut = FramedRead::new(bytes, Cutter::default());
            assert!(cut.next().await.unwrap().is_err(), "{} bytes", bytes.len());
        }
    }
}
