//! Bodies of answers, as clients take them.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::connections::Pending;

/// The body of an answer. Dropping it, complete or not, ends the request.
pub(super) struct ResponseBody {
    body: Body,
    pending: Pending,
}

impl ResponseBody {
    pub(super) fn new(body: Body, pending: Pending) -> Self {
        Self { body, pending }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // A poll means that the client has read the previous piece.
        self.pending.waits_for_client(polled.is_ready());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
