//! A host that requests go to, and what this process has learnt of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::HttpClient;
use super::error::HttpError;
use super::request::HttpRequest;
use super::response::HttpResponse;
use super::retry::{HostPause, Retries, RetryPolicy};

/// A host that requests go to: whether it has ever answered, and when it may be asked again.
#[derive(Default)]
pub(crate) struct HttpHost {
    answered: AtomicBool,
    pause: Arc<HostPause>,
}

impl HttpHost {
    /// One exchange with this host, once it may be asked.
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

    /// Whether it has asked to be left alone.
    #[cfg(test)]
    pub(crate) fn is_paused(&self) -> bool {
        self.pause.is_set()
    }

    /// The tries that one piece of work has here.
    pub(crate) fn retries(&self, policy: &RetryPolicy) -> Retries {
        Retries::new(policy, Arc::clone(&self.pause))
    }
}
