//! The answers of the registry: bodies, headers, and errors in the form of the specification.

use std::io;

use axum::body::Body;
use axum::http::{HeaderName, Response, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use rustix::io::Errno;
use serde_json::{Value, json};

/// The header with the digest of the sent or written content.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Headers of an answer.
pub(super) type ResponseHeaders = Vec<(HeaderName, String)>;

/// The result of a request.
pub(super) type ApiResult = Result<Response<Body>, ApiError>;

/// An answer without a body.
pub(super) fn empty(status: StatusCode, headers: ResponseHeaders) -> Response<Body> {
    (status, AppendHeaders(headers), Body::empty()).into_response()
}

/// An answer with a body that is in memory.
pub(super) fn bytes(media_type: &str, mut headers: ResponseHeaders, body: impl Into<Vec<u8>>) -> Response<Body> {
    let body: Vec<u8> = body.into();
    headers.push((header::CONTENT_TYPE, media_type.to_owned()));
    headers.push((header::CONTENT_LENGTH, body.len().to_string()));
    (StatusCode::OK, AppendHeaders(headers), Body::from(body)).into_response()
}

/// An answer in JSON.
pub(super) fn json(headers: ResponseHeaders, body: &Value) -> Response<Body> {
    bytes("application/json", headers, body.to_string())
}

/// The specification's error codes, those that occur here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Unsupported,
    /// A fault of the server, for which the specification has no code.
    Unknown,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unsupported => "UNSUPPORTED",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The default HTTP status of the code.
    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestBlobUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The error of a request, as the client gets it.
#[derive(Debug)]
pub(super) struct ApiError {
    code: Code,
    status: StatusCode,
    message: String,
    /// The message for the observer, if it differs from that for the client.
    logged: Option<String>,
    headers: ResponseHeaders,
}

/// The message of an error for the observer, an extension of the answer.
#[derive(Debug, Clone)]
pub(super) struct Message(pub(super) String);

impl ApiError {
    /// An error with the status that its code usually has.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, status: code.status(), message: message.into(), logged: None, headers: Vec::new() }
    }

    /// The error of an incomplete body.
    pub(super) fn cut(code: Code, body: &str, error: &io::Error) -> Self {
        let cut = Self::new(code, format!("{body} is incomplete: {error}"));
        if error.kind() == io::ErrorKind::TimedOut { cut.status(408) } else { cut }
    }

    /// The same with another status.
    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).unwrap_or(self.status);
        self
    }

    /// The same with headers.
    pub(super) fn headers(mut self, headers: ResponseHeaders) -> Self {
        self.headers = headers;
        self
    }

    /// The same with another message for the observer: one that is no client's business.
    pub(super) fn logged(mut self, message: String) -> Self {
        self.logged = Some(message);
        self
    }

    /// The HTTP status.
    #[cfg(test)]
    pub(super) fn status_code(&self) -> u16 {
        self.status.as_u16()
    }
}

impl From<io::Error> for ApiError {
    fn from(error: io::Error) -> Self {
        let status = match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT) => StatusCode::INSUFFICIENT_STORAGE,
            // Too many files are open, which passes.
            Some(Errno::MFILE | Errno::NFILE) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, ..Self::new(Code::Unknown, format!("the layout cannot be read or written: {error}")) }
    }
}

impl From<crate::content::Cause> for ApiError {
    fn from(cause: crate::content::Cause) -> Self {
        match cause {
            crate::content::Cause::Io(error) => error.into(),
            other => Self::new(Code::Unknown, format!("the layout is damaged: {other}")),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let body = json!({"errors": [{"code": self.code.name(), "message": self.message}]});
        let mut response = json(self.headers, &body);
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Message(self.logged.unwrap_or(self.message)));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_a_status_of_its_own() {
        let full = ApiError::from(io::Error::from(Errno::NOSPC));
        assert_eq!(full.status_code(), 507);
        let other = ApiError::from(crate::content::Cause::Io(io::Error::from(io::ErrorKind::PermissionDenied)));
        assert_eq!(other.status_code(), 500);
    }
}
