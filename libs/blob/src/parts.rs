use bytes::{Bytes, BytesMut};
use fishy_core::Result;
use futures::{Stream, StreamExt};
use std::pin::Pin;

/// A piece of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Exactly the part size, unless it is the last.
    pub(crate) bytes: Bytes,
    /// Whether nothing follows.
    pub(crate) is_last: bool,
}

/// Cuts a stream of chunks of any size into parts of one size; holds one part and one chunk.
pub(crate) struct Parts<'a, S> {
    stream: Pin<&'a mut S>,
    size: usize,
    buffer: BytesMut,
    chunk: Bytes,
    has_ended: bool,
}

impl<'a, S: Stream<Item = Result<Bytes>>> Parts<'a, S> {
    pub(crate) fn new(stream: Pin<&'a mut S>, size: usize) -> Self {
        Self { stream, size: size.max(1), buffer: BytesMut::new(), chunk: Bytes::new(), has_ended: false }
    }

    /// The next part. An empty stream is one empty part; after the last one comes an empty one again.
    pub(crate) async fn next(&mut self) -> Result<Part> {
        loop {
            // Whether a full part is the last is known only once something follows it, or nothing does.
            while self.chunk.is_empty() && !self.has_ended {
                match self.stream.next().await {
                    Some(chunk) => self.chunk = chunk?,
                    None => self.has_ended = true,
                }
            }
            if self.has_ended || self.buffer.len() == self.size {
                let is_last = self.has_ended;
                return Ok(Part { bytes: self.buffer.split().freeze(), is_last });
            }
            let missing = self.size - self.buffer.len();
            self.buffer.extend_from_slice(&self.chunk.split_to(missing.min(self.chunk.len())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    async fn cut(chunks: &[&'static str], size: usize) -> Vec<(String, bool)> {
        let mut stream = std::pin::pin!(stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from(*chunk)))));
        let mut parts = Parts::new(stream.as_mut(), size);
        let mut cut = Vec::new();
        loop {
            let part = parts.next().await.unwrap();
            cut.push((String::from_utf8(part.bytes.to_vec()).unwrap(), part.is_last));
            if part.is_last {
                return cut;
            }
        }
    }

    #[tokio::test]
    async fn parts_are_full_and_the_last_is_known_as_such() {
        let part = |text: &str, is_last| (text.to_owned(), is_last);
        assert_eq!(cut(&[], 3).await, [part("", true)]);
        assert_eq!(cut(&["", "ab", ""], 3).await, [part("ab", true)]);
        assert_eq!(cut(&["abc"], 3).await, [part("abc", true)]);
        assert_eq!(cut(&["abcdefgh"], 3).await, [part("abc", false), part("def", false), part("gh", true)]);
        assert_eq!(cut(&["a", "bcd", "", "ef"], 3).await, [part("abc", false), part("def", true)]);
    }
}
