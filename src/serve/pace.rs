//! Bodies of requests, from clients that may be slow but have to go on.

use std::io;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout};

use crate::content::ByteStream;

/// The minimum number of bytes in each waiting period of the server.
const LEAST: usize = 1024;

/// The body as a stream. It ends in [`io::ErrorKind::TimedOut`] if the server has waited for `patience` and received
/// fewer than [`LEAST`] bytes.
pub(super) fn paced(body: ByteStream, patience: Duration) -> ByteStream {
    let next = move |state: Option<(ByteStream, Duration, usize)>| async move {
        let (mut body, left, came) = state?;
        let begun = Instant::now();
        match timeout(left, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => {
                let (left, came) = (left.saturating_sub(begun.elapsed()), came + piece.len());
                let (left, came) = if came >= LEAST { (patience, 0) } else { (left, came) };
                Some((Ok(piece), Some((body, left, came))))
            }
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Err(_) => Some((Err(io::Error::new(io::ErrorKind::TimedOut, "the client sends too slowly")), None)),
        }
    };
    stream::unfold(Some((body, patience, 0)), next).boxed()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Receives a body of pieces of `size` bytes, each after a `pause`.
    async fn receive(count: usize, size: usize, pause: Duration) -> io::Result<usize> {
        let body = stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::from(vec![0; size]))
        });
        let mut body = paced(body.boxed(), PATIENCE);
        let mut came = 0;
        while let Some(piece) = body.next().await {
            came += piece?.len();
        }
        Ok(came)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_arrives_and_one_that_trickles_does_not() {
        assert_eq!(receive(50, 1024, Duration::from_secs(59)).await.unwrap(), 50 * 1024);
        assert_eq!(receive(10_000, 20, Duration::from_secs(1)).await.unwrap(), 200_000);
        assert_eq!(receive(10, 1, Duration::from_secs(1)).await.unwrap(), 10);
        for (size, pause) in [(1, 1), (100, 10), (1024, 61)] {
            let error = receive(1000, size, Duration::from_secs(pause)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_server_takes_does_not_count() {
        let body = stream::iter((0..100).map(|_| Ok(Bytes::from_static(b"x"))));
        let mut body = paced(body.boxed(), PATIENCE);
        while let Some(piece) = body.next().await {
            assert!(piece.is_ok());
            tokio::time::sleep(PATIENCE).await;
        }
    }
}
