//! What ends one try at a download, and whether another may bring more.

use std::time::Duration;

use super::FetchCause;
use crate::http::{HttpError, HttpResponse, RetryAdvice, RetryableError};
use crate::python::redacted;

/// A try that failed.
#[derive(Debug)]
pub(super) struct FetchFailure {
    pub cause: FetchCause,
    /// Where another try may bring more.
    advice: Option<RetryAdvice>,
}

impl FetchFailure {
    /// A failure that may pass.
    pub(super) fn transient(cause: FetchCause) -> Self {
        Self { cause, advice: Some(RetryAdvice::default()) }
    }

    /// The response as a refusal.
    pub(super) fn refusal(response: &HttpResponse) -> Self {
        let cause = FetchCause::Status { status: response.status(), retry_after: None };
        Self { cause, advice: response.retry_advice() }
    }
}

impl From<FetchCause> for FetchFailure {
    /// A failure that stays one, however often it is tried.
    fn from(cause: FetchCause) -> Self {
        Self { cause, advice: None }
    }
}

impl From<HttpError> for FetchFailure {
    fn from(error: HttpError) -> Self {
        let transient = error.is_transient();
        let cause = match error {
            HttpError::Io(error) => FetchCause::Io(error),
            HttpError::Transport(error) => FetchCause::Network { reason: redacted(&error.reason) },
            other => FetchCause::Network { reason: redacted(&other.to_string()) },
        };
        if transient { Self::transient(cause) } else { cause.into() }
    }
}

impl RetryableError for FetchFailure {
    fn retry_advice(&self) -> Option<RetryAdvice> {
        self.advice
    }

    fn postponed(mut self, after: Duration) -> Self {
        if let FetchCause::Status { retry_after, .. } = &mut self.cause {
            *retry_after = Some(after);
        }
        self
    }
}
