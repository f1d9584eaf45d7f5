//! Failed attempts of a download.

use std::time::Duration;

use super::FetchCause;
use crate::http::{HttpError, HttpResponse, RetryAdvice, RetryableError};
use crate::python::redacted;

/// A failed attempt.
#[derive(Debug)]
pub(super) struct FetchFailure {
    pub cause: FetchCause,
    /// When to try again; `None` if the failure is permanent.
    advice: Option<RetryAdvice>,
}

impl FetchFailure {
    /// A transient failure.
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
    /// A permanent failure.
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
