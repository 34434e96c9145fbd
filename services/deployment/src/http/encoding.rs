//! `Content-Encoding` of requests and `Accept-Encoding` of answers: gzip and deflate (RFC 9110; deflate is zlib's form).

use std::io::Read;

use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use fishy_core::{Error, Result};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};

use crate::service::blocking;

/// Below this, packing costs more than the bytes it saves.
const MIN_PACKED_BYTES: usize = 1024;
/// What is larger is packed and unpacked away from the async threads.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

/// The body without its encoding, of `limit` bytes at most.
pub(crate) async fn unpack(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else { return Ok(body) };
    let encoding = match encoding.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
        b"" | b"identity" => return Ok(body),
        b"gzip" | b"x-gzip" => Encoding::Gzip,
        b"deflate" => Encoding::Deflate,
        _ => {
            return Err(Error::invalid(format!(
                "content encoding {encoding:?} is not known: send gzip, deflate or none"
            )));
        }
    };
    if body.len() < LARGE_BYTES / 8 {
        return unpack_now(encoding, &body, limit);
    }
    blocking(move || unpack_now(encoding, &body, limit)).await
}

fn unpack_now(encoding: Encoding, body: &[u8], limit: usize) -> Result<Bytes> {
    let mut unpacked = Vec::with_capacity(body.len().saturating_mul(3).min(limit));
    let bound = limit as u64 + 1;
    let read = match encoding {
        Encoding::Gzip => GzDecoder::new(body).take(bound).read_to_end(&mut unpacked),
        Encoding::Deflate => ZlibDecoder::new(body).take(bound).read_to_end(&mut unpacked),
    };
    read.map_err(|error| Error::invalid(format!("the body is no {} data: {error}", encoding.as_str())))?;
    if unpacked.len() > limit {
        return Err(Error::exhausted("the unpacked request body is larger than server.max_body_bytes allows"));
    }
    Ok(unpacked.into())
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Encoding {
    Gzip,
    Deflate,
}

impl Encoding {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The first one of a list that we know; one with a weight of zero is refused by the caller.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let list = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
        list.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next()?;
            let is_refused = parts.any(|part| {
                part.strip_prefix("q=")
                    .and_then(|weight| weight.parse::<f32>().ok())
                    .is_some_and(|weight| weight <= 0.0)
            });
            match name.to_ascii_lowercase().as_str() {
                _ if is_refused => None,
                "gzip" => Some(Self::Gzip),
                "deflate" => Some(Self::Deflate),
                _ => None,
            }
        })
    }
}

/// The body in an encoding that the caller accepts, and the header that says so.
pub(crate) async fn pack(headers: &HeaderMap, body: Vec<u8>) -> Result<(Bytes, Option<HeaderValue>)> {
    let Some(encoding) = Encoding::accepted(headers).filter(|_| body.len() >= MIN_PACKED_BYTES) else {
        return Ok((body.into(), None));
    };
    let packed = if body.len() < LARGE_BYTES / 8 {
        pack_now(encoding, &body)?
    } else {
        blocking(move || pack_now(encoding, &body)).await?
    };
    Ok((packed, Some(HeaderValue::from_static(encoding.as_str()))))
}

fn pack_now(encoding: Encoding, body: &[u8]) -> Result<Bytes> {
    let mut packed = Vec::with_capacity(body.len() / 2);
    match encoding {
        Encoding::Gzip => GzEncoder::new(body, Compression::fast()).read_to_end(&mut packed),
        Encoding::Deflate => ZlibEncoder::new(body, Compression::fast()).read_to_end(&mut packed),
    }?;
    Ok(packed.into())
}

/// Sets the header that [`pack`] gave.
pub(crate) fn set_encoding(response: &mut Response, encoding: Option<HeaderValue>) {
    if let Some(encoding) = encoding {
        response.headers_mut().insert(CONTENT_ENCODING, encoding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: axum::http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[tokio::test]
    async fn what_is_packed_unpacks_and_bombs_do_not_go_off() {
        for name in ["gzip", "deflate"] {
            let body = vec![7_u8; 100_000];
            let (packed, encoding) = pack(&headers(ACCEPT_ENCODING, name), body.clone()).await.unwrap();
            assert!(packed.len() < 1000 && encoding.is_some_and(|encoding| encoding == name));
            let unpacked = unpack(&headers(CONTENT_ENCODING, name), packed.clone(), 100_000).await.unwrap();
            assert_eq!(unpacked, body);
            let bomb = unpack(&headers(CONTENT_ENCODING, name), packed.clone(), 99_999).await.unwrap_err();
            assert_eq!(bomb.code(), fishy_core::ErrorCode::ResourceExhausted);
            let cut = unpack(&headers(CONTENT_ENCODING, name), packed.slice(..20), 100_000).await.unwrap_err();
            assert_eq!(cut.code(), fishy_core::ErrorCode::InvalidArgument);
        }
        assert!(unpack(&headers(CONTENT_ENCODING, "br"), Bytes::new(), 10).await.is_err());
    }

    #[test]
    fn the_callers_first_choice_counts() {
        let accepted = |list| Encoding::accepted(&headers(ACCEPT_ENCODING, list));
        assert_eq!(accepted("gzip, deflate"), Some(Encoding::Gzip));
        assert_eq!(accepted("br, deflate;q=0.5"), Some(Encoding::Deflate));
        assert_eq!(accepted("gzip;q=0"), None);
        assert_eq!(accepted("identity"), None);
    }
}
