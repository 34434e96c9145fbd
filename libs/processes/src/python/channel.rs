use fishy_core::{Error, Result};
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The largest JSON of a frame.
const MAX_HEADER_BYTES: u32 = 1024 * 1024;

/// Frames between this process and a worker: the length of a JSON header (4 bytes, little-endian), that of the body
/// (8 bytes), both parts.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// One frame.
#[derive(Debug)]
pub struct Frame {
    /// What it says.
    pub header: Map<String, Value>,
    /// Tensors, in their binary form, one after the other.
    pub body: Vec<u8>,
}

impl Channel {
    pub(super) const fn new(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// Sends a frame.
    pub async fn send(&mut self, header: &Value, body: &[u8]) -> Result<()> {
        let header = header.to_string();
        let mut head = Vec::with_capacity(12 + header.len());
        let length = u32::try_from(header.len()).map_err(|_| Error::invalid("the header of a frame is too long"))?;
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(&(body.len() as u64).to_le_bytes());
        head.extend_from_slice(header.as_bytes());
        self.0.write_all(&head).await?;
        self.0.write_all(body).await?;
        Ok(())
    }

    /// The next frame; `None` when the worker is gone. An error for one that is broken, or larger than `max_body_bytes`:
    /// nothing can be read after it.
    pub async fn receive(&mut self, max_body_bytes: u64) -> Result<Option<Frame>> {
        let mut lengths = [0; 12];
        match self.0.read_exact(&mut lengths).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let (head, body) = lengths.split_at(4);
        let head = head.iter().rev().fold(0_u32, |length, byte| (length << 8) | u32::from(*byte));
        let body = body.iter().rev().fold(0_u64, |length, byte| (length << 8) | u64::from(*byte));
        if head > MAX_HEADER_BYTES || body > max_body_bytes {
            return Err(Error::exhausted(format!(
                "the answer of the model has {body} bytes, and it may have {max_body_bytes}"
            )));
        }
        let mut header = vec![0; head as usize];
        self.0.read_exact(&mut header).await?;
        let mut content = vec![0; body as usize];
        self.0.read_exact(&mut content).await?;
        let header = serde_json::from_slice(&header)
            .map_err(|error| Error::internal("a worker sent a frame that cannot be read").with_source(error))?;
        Ok(Some(Frame { header, body: content }))
    }

    /// Waits until the worker closes its end.
    pub async fn closed(&mut self) {
        while let Ok(Some(_)) = self.receive(0).await {}
    }
}
