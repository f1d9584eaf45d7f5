//! When something is tried again, and after how long.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::fault::Fault;
use super::settings::Patience;
use crate::content::Cause;

/// The tries that one piece of work has.
pub(super) struct Retries {
    patience: Patience,
    failed: u32,
}

impl Retries {
    pub(super) fn new(patience: &Patience) -> Self {
        Self { patience: patience.clone(), failed: 0 }
    }

    /// Waits until it is time to try again. When that has no use, or was done often enough, the fault's cause.
    pub(super) async fn pause(&mut self, fault: Fault) -> Result<(), Cause> {
        self.failed += 1;
        if !fault.transient || self.failed >= self.patience.tries {
            return Err(fault.cause);
        }
        tokio::time::sleep(self.next_pause(fault.after)).await;
        Ok(())
    }

    /// The work has got on: all tries are to be had again.
    pub(super) fn got_on(&mut self) {
        self.failed = 0;
    }

    fn next_pause(&self, asked: Option<Duration>) -> Duration {
        let Patience { first_pause, longest_pause, .. } = self.patience;
        let doubled = first_pause.saturating_mul(1 << (self.failed - 1).min(16));
        // Clients that failed together must not all come back together.
        let pause = doubled.min(longest_pause).mul_f64(0.5 + fastrand::f64() / 2.0);
        asked.map_or(pause, |asked| asked.min(longest_pause).max(pause))
    }
}

/// Whether a registry that answers this may answer better in a while.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504)
}

/// How long the answer asks to wait (RFC 9110, section 10.2.3): seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let after = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(after("7"), Some(7));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:57 GMT"), Some(20));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), None);
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut retries = Retries::new(&Patience::default());
        let pause = |retries: &Retries, asked| retries.next_pause(asked).as_secs_f64();
        retries.failed = 1;
        assert!((0.25..=0.5).contains(&pause(&retries, None)));
        assert!((7.0..7.1).contains(&pause(&retries, Some(Duration::from_secs(7)))));
        assert!(pause(&retries, Some(Duration::MAX)) <= 60.0);
        retries.failed = 60;
        assert!((30.0..=60.0).contains(&pause(&retries, None)));
    }
}
