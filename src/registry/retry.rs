//! When something is tried again, and after how long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::fault::Fault;
use super::settings::Patience;
use crate::content::Cause;

/// When a host may be asked again that answered 429 (RFC 6585, section 4) to one of many.
#[derive(Default)]
pub(super) struct Resume(Mutex<Option<Instant>>);

impl Resume {
    /// Lets all who ask the host wait at least this long.
    fn after(&self, pause: Duration) {
        let at = Instant::now() + pause;
        let mut resume = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *resume = Some(resume.map_or(at, |known| known.max(at)));
    }

    /// Waits until the host may be asked.
    pub(super) async fn wait(&self) {
        let at = || *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(at) = at().filter(|at| *at > Instant::now()) {
            tokio::time::sleep_until(at.into()).await;
        }
    }
}

/// The tries that one piece of work has.
pub(super) struct Retries {
    patience: Patience,
    resume: Arc<Resume>,
    failed: u32,
}

impl Retries {
    /// `resume` is that of the host.
    pub(super) fn new(patience: &Patience, resume: Arc<Resume>) -> Self {
        Self { patience: patience.clone(), resume, failed: 0 }
    }

    /// Waits until it is time to try again. When that has no use, or was done often enough, the fault's cause.
    pub(super) async fn pause(&mut self, fault: Fault) -> Result<(), Cause> {
        self.failed += 1;
        if let Some(after) = fault.after.filter(|after| fault.transient && *after > self.patience.longest_pause) {
            return Err(come_back(fault.cause, after));
        }
        if !fault.transient || self.failed >= self.patience.tries {
            return Err(fault.cause);
        }
        let pause = self.next_pause(fault.after);
        if fault.status == Some(StatusCode::TOO_MANY_REQUESTS) {
            self.resume.after(pause);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The work has got on: all tries are to be had again.
    pub(super) fn got_on(&mut self) {
        self.failed = 0;
    }

    /// `asked` is at most the longest pause.
    fn next_pause(&self, asked: Option<Duration>) -> Duration {
        let Patience { first_pause, longest_pause, .. } = self.patience;
        let doubled = first_pause.saturating_mul(1 << (self.failed - 1).min(16));
        // Clients that failed together must not all come back together.
        let pause = doubled.min(longest_pause).mul_f64(0.5 + fastrand::f64() / 2.0);
        asked.map_or(pause, |asked| asked.max(pause))
    }
}

/// The cause of a refusal whose `Retry-After` is too far off to wait for.
fn come_back(cause: Cause, after: Duration) -> Cause {
    let Cause::Status { registry, status, detail, hint } = cause else { return cause };
    let seconds = after.as_secs();
    let after = if seconds < 300 { format!("{seconds} seconds") } else { format!("{} minutes", seconds.div_ceil(60)) };
    let also = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    Cause::Status { registry, status, detail, hint: Some(format!("the registry asks to come back in {after}{also}")) }
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
    use crate::error::Explain;
    use crate::registry::fault::Subject;

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
        let mut retries = Retries::new(&Patience::default(), Arc::default());
        let pause = |retries: &Retries, asked| retries.next_pause(asked).as_secs_f64();
        retries.failed = 1;
        assert!((0.25..=0.5).contains(&pause(&retries, None)));
        assert!((7.0..7.1).contains(&pause(&retries, Some(Duration::from_secs(7)))));
        retries.failed = 60;
        assert!((30.0..=60.0).contains(&pause(&retries, None)));
    }

    #[tokio::test]
    async fn who_asks_for_too_long_a_pause_is_left_alone() {
        let refused = |seconds| Fault {
            after: Some(Duration::from_secs(seconds)),
            ..Fault::refusal("r.example", Subject::Blob, StatusCode::TOO_MANY_REQUESTS, b"")
        };
        let mut retries = Retries::new(&Patience::default(), Arc::default());
        for (seconds, said) in [(90, "in 90 seconds; wait a while"), (21_601, "in 361 minutes; wait a while")] {
            let hint = retries.pause(refused(seconds)).await.unwrap_err().of("x").hint().unwrap();
            assert!(hint.starts_with(&format!("the registry asks to come back {said}")), "{hint}");
        }
    }
}
