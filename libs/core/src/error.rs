use std::fmt;

/// What kind of thing went wrong: a closed list, which every protocol translates in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The named thing does not exist.
    NotFound,
    /// A thing of that name exists already.
    AlreadyExists,
    /// The request is wrong in itself, whatever the state.
    InvalidArgument,
    /// The request is right, the state does not allow it.
    FailedPrecondition,
    /// Somebody else changed the same thing at the same time.
    Conflict,
    /// Nobody said who is asking, or not credibly.
    Unauthenticated,
    /// The one who asks may not do this.
    PermissionDenied,
    /// A bound was reached: size, rate, queue.
    ResourceExhausted,
    /// Something that is needed cannot be reached now; the same request may work later.
    Unavailable,
    /// A fault of ours. Its text is logged, never sent.
    Internal,
}

impl ErrorCode {
    /// The name used on the wire, for example `NOT_FOUND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Conflict => "CONFLICT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    /// The code of a name that [`as_str`](Self::as_str) gave.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// The HTTP status of our own API.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::InvalidArgument => 400,
            Self::FailedPrecondition => 412,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::ResourceExhausted => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// The nearest code of an HTTP status, for answers that carry no code of ours.
    pub const fn from_http_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            409 => Self::Conflict,
            412 => Self::FailedPrecondition,
            413 | 429 => Self::ResourceExhausted,
            400..=499 => Self::InvalidArgument,
            502..=504 => Self::Unavailable,
            _ => Self::Internal,
        }
    }

    /// Whether the same request may succeed later without a change.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::ResourceExhausted | Self::Conflict)
    }

    const ALL: [Self; 10] = [
        Self::NotFound,
        Self::AlreadyExists,
        Self::InvalidArgument,
        Self::FailedPrecondition,
        Self::Conflict,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::Unavailable,
        Self::Internal,
    ];
}

/// The error of all our crates: a code for the caller, a sentence for the person, and the cause for the log.
#[derive(Debug)]
pub struct Error {
    code: ErrorCode,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this code; `message` says what was wrong, with which value, and what would be right.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), source: None }
    }

    /// The named thing does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// A thing of that name exists already.
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::AlreadyExists, message)
    }

    /// The request is wrong in itself.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// The state does not allow the request.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::FailedPrecondition, message)
    }

    /// The one who asks may not do this.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::PermissionDenied, message)
    }

    /// A bound was reached.
    pub fn exhausted(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ResourceExhausted, message)
    }

    /// Something needed cannot be reached now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Adds the cause, which is logged and never sent.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts a sentence in front of the message: what was being done.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// The kind of error.
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// The sentence for the person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same request may succeed later without a change.
    pub const fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }

    /// The message with all causes behind it: for a log.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorCode::NotFound,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::ResourceExhausted,
            _ => ErrorCode::Internal,
        };
        Self::new(code, error.to_string()).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_that_parses_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
        }
    }

    #[test]
    fn the_chain_names_every_cause() {
        let error = Error::internal("cannot write").with_source(std::io::Error::other("disk is on fire"));
        assert_eq!(error.chain(), "cannot write: disk is on fire");
        assert_eq!(error.to_string(), "cannot write");
    }
}
