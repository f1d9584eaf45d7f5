//! A host, and what this process knows about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::HttpClient;
use super::error::HttpError;
use super::request::HttpRequest;
use super::response::HttpResponse;
use super::retry::{HostPause, Retries, RetryPolicy};

/// The state of a host: whether it has ever answered, and when the next request may be sent.
#[derive(Default)]
pub(crate) struct HttpHost {
    answered: AtomicBool,
    pause: Arc<HostPause>,
}

impl HttpHost {
    /// One exchange with this host, after its pause.
    pub(crate) async fn send(
        &self,
        client: &HttpClient,
        mut request: HttpRequest<'_>,
    ) -> Result<HttpResponse, HttpError> {
        self.pause.wait().await;
        request.known = self.answered.load(Ordering::Relaxed);
        let response = client.send(&request).await;
        self.answered.fetch_or(response.is_ok(), Ordering::Relaxed);
        response
    }

    /// Whether the host requested a pause.
    #[cfg(test)]
    pub(crate) fn is_paused(&self) -> bool {
        self.pause.is_set()
    }

    /// The attempts of one operation at this host.
    pub(crate) fn retries(&self, policy: &RetryPolicy) -> Retries {
        Retries::new(policy, Arc::clone(&self.pause))
    }
}
