use std::path::PathBuf;

use bytes::Bytes;
use fishy_core::{Error, Result};
use http::header::{HOST, HeaderValue};
use http::{Request, Response, request};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where a process takes requests.
#[derive(Debug)]
pub(super) enum Endpoint {
    Socket(PathBuf),
    Port(u16),
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Sent {
    Answered(Response<Bytes>),
    /// The process takes no connection: it has not seen the request.
    NotTaken,
    /// It may have seen the request, and gave no whole answer.
    Broken(String),
}

impl Endpoint {
    /// Whether a connection is taken.
    pub(super) async fn connect(&self) -> Result<()> {
        match self {
            Self::Socket(path) => drop(UnixStream::connect(path).await?),
            Self::Port(port) => drop(TcpStream::connect(("127.0.0.1", *port)).await?),
        }
        Ok(())
    }

    /// Sends one request, on a connection of its own, and reads the whole answer.
    pub(super) async fn send(&self, head: &request::Parts, body: Bytes, max_answer_bytes: usize) -> Sent {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("localhost"));
        let exchanged = match self {
            Self::Socket(path) => match UnixStream::connect(path).await {
                Ok(stream) => exchange(stream, request, max_answer_bytes).await,
                Err(_) => return Sent::NotTaken,
            },
            Self::Port(port) => match TcpStream::connect(("127.0.0.1", *port)).await {
                Ok(stream) => exchange(stream, request, max_answer_bytes).await,
                Err(_) => return Sent::NotTaken,
            },
        };
        exchanged.map_or_else(|error| Sent::Broken(error.chain()), Sent::Answered)
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    max_answer_bytes: usize,
) -> Result<Response<Bytes>> {
    let broken = |error: hyper::Error| Error::unavailable("the connection broke").with_source(error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let asked = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, max_answer_bytes).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Error::unavailable(format!(
                    "its answer has more than {max_answer_bytes} bytes (deployment.programs.max_answer_bytes)"
                ))
            } else {
                Error::unavailable("its answer broke off").with_source(error)
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::pin!(connection, asked);
    tokio::select! {
        answered = &mut asked => answered,
        ended = &mut connection => match ended {
            // What it read is still to be taken.
            Ok(()) => asked.await,
            Err(error) => Err(broken(error)),
        },
    }
}
