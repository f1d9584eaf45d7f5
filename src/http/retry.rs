//! Retry policy: when a request is repeated, and after which pause.
//!
//! All repeated operations use [`Retries::run`]: it makes an attempt, and another one after a pause if the cause of the
//! failure is transient. Attempts report their progress with [`Retries::advance_to`].

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How often requests are repeated, and the pauses between them.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Maximum number of attempts, including the first.
    pub tries: u32,
    /// The pause before the second attempt; it doubles afterwards. Up to half of it is random.
    pub first_pause: Duration,
    /// The longest pause. If a host asks for a longer one, the request fails.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let (first_pause, longest_pause) = (Duration::from_millis(500), Duration::from_secs(60));
        Self { tries: 6, first_pause, longest_pause }
    }
}

/// An error of an attempt that may be repeated.
pub(crate) trait RetryableError: Sized {
    /// When another attempt may succeed; `None` if it would fail in the same way.
    fn retry_advice(&self) -> Option<RetryAdvice>;

    /// The same error, for a host that asks for a pause longer than the longest one.
    fn postponed(self, after: Duration) -> Self;
}

/// Advice of a failed attempt for the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RetryAdvice {
    /// How long the host asks to wait.
    pub after: Option<Duration>,
    /// Whether the pause applies to all requests to the host.
    pub whole_host: bool,
}

impl RetryAdvice {
    /// The advice for a response with this status and `Retry-After`; `None` if the status is not transient.
    pub(crate) fn of(status: StatusCode, after: Option<Duration>) -> Option<Self> {
        is_transient(status).then_some(Self { after, whole_host: status == StatusCode::TOO_MANY_REQUESTS })
    }
}

/// The pause of a host that answered 429 (RFC 6585, section 4), for all requests to it.
#[derive(Default)]
pub(super) struct HostPause(Mutex<Option<Instant>>);

impl HostPause {
    /// Extends the pause to at least this duration from now.
    fn extend(&self, pause: Duration) {
        let at = Instant::now() + pause;
        let mut end = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *end = Some(end.map_or(at, |known| known.max(at)));
    }

    /// Whether the host ever requested a pause.
    #[cfg(test)]
    pub(super) fn is_set(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }

    /// Waits until the pause ends.
    pub(super) async fn wait(&self) {
        let end = || *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = end().filter(|end| *end > Instant::now()) {
            tokio::time::sleep_until(end.into()).await;
        }
    }
}

/// The attempts of one operation.
pub(crate) struct Retries {
    policy: RetryPolicy,
    host: Arc<HostPause>,
    /// Failed attempts since the last progress.
    failed: AtomicU32,
    /// The furthest position of the operation.
    furthest: AtomicU64,
}

impl Retries {
    /// `host` is the pause of the host.
    pub(super) fn new(policy: &RetryPolicy, host: Arc<HostPause>) -> Self {
        Self { policy: policy.clone(), host, failed: AtomicU32::new(0), furthest: AtomicU64::new(0) }
    }

    /// Makes attempts until one succeeds, with pauses between them. State that attempts change is in a `Mutex`, because
    /// a closure cannot lend it to its future.
    ///
    /// # Errors
    /// The error of the last attempt: when it is permanent, when all attempts are used up, or when the host asks for a
    /// longer pause than the policy allows.
    pub(crate) async fn run<T, E, F>(&self, attempt: impl Fn() -> F) -> Result<T, E>
    where
        E: RetryableError,
        F: Future<Output = Result<T, E>>,
    {
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => self.pause(error).await?,
            }
        }
    }

    /// Reports that the operation reached this position. Progress resets the count of failed attempts.
    pub(crate) fn advance_to(&self, position: u64) {
        if self.furthest.fetch_max(position, Ordering::Relaxed) < position {
            self.failed.store(0, Ordering::Relaxed);
        }
    }

    /// Waits until the next attempt, or returns the error if there is none.
    async fn pause<E: RetryableError>(&self, error: E) -> Result<(), E> {
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(advice) = error.retry_advice() else { return Err(error) };
        if let Some(after) = advice.after.filter(|after| *after > self.policy.longest_pause) {
            return Err(error.postponed(after));
        }
        if failed >= self.policy.tries {
            return Err(error);
        }
        let pause = self.policy.pause(failed, advice.after);
        if advice.whole_host {
            self.host.extend(pause);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

impl RetryPolicy {
    /// The pause after this number of failed attempts. `asked` is the pause that the host asks for, at most the longest
    /// one.
    fn pause(&self, failed: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << (failed - 1).min(16));
        // Random, so that clients that failed together do not repeat together.
        let pause = doubled.min(self.longest_pause).mul_f64(0.5 + fastrand::f64() / 2.0);
        asked.map_or(pause, |asked| asked.max(pause))
    }
}

/// A pause for messages.
pub(crate) fn in_words(pause: Duration) -> String {
    let seconds = pause.as_secs();
    if seconds < 300 { format!("{seconds} seconds") } else { format!("{} minutes", seconds.div_ceil(60)) }
}

/// Whether a later request may get another status than this one.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504)
}

/// The pause that the response asks for (RFC 9110, section 10.2.3): seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    /// A failed attempt.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum FailedAttempt {
        Lasting,
        Transient(Option<u64>),
        Postponed(Duration),
    }

    impl RetryableError for FailedAttempt {
        fn retry_advice(&self) -> Option<RetryAdvice> {
            let Self::Transient(after) = *self else { return None };
            Some(RetryAdvice { after: after.map(Duration::from_secs), whole_host: after.is_some() })
        }

        fn postponed(self, after: Duration) -> Self {
            Self::Postponed(after)
        }
    }

    fn retries() -> Retries {
        let policy = RetryPolicy { first_pause: Duration::from_millis(1), ..RetryPolicy::default() };
        Retries::new(&policy, Arc::default())
    }

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
        let policy = RetryPolicy::default();
        let pause = |failed, asked| policy.pause(failed, asked).as_secs_f64();
        assert!((0.25..=0.5).contains(&pause(1, None)));
        assert!((7.0..7.1).contains(&pause(1, Some(Duration::from_secs(7)))));
        assert!((30.0..=60.0).contains(&pause(60, None)));
    }

    #[tokio::test]
    async fn who_asks_for_too_long_a_pause_is_left_alone() {
        let attempts = AtomicU32::new(0);
        let retries = retries();
        let ran = retries.run(|| {
            attempts.fetch_add(1, Ordering::Relaxed);
            ready(Err::<(), _>(FailedAttempt::Transient(Some(61))))
        });
        assert_eq!(ran.await, Err(FailedAttempt::Postponed(Duration::from_secs(61))));
        assert_eq!(attempts.into_inner(), 1);
        assert_eq!(
            [90, 299, 300, 21_601].map(|seconds| in_words(Duration::from_secs(seconds))),
            ["90 seconds", "299 seconds", "5 minutes", "361 minutes"]
        );
    }

    #[tokio::test]
    async fn tries_are_given_back_when_the_work_gets_on() {
        let (retries, attempts) = (retries(), AtomicU64::new(0));
        let ran = retries.run(|| {
            // The first eight attempts make progress, the others do not.
            retries.advance_to((attempts.fetch_add(1, Ordering::Relaxed) + 1).min(8));
            ready(Err::<(), _>(FailedAttempt::Transient(None)))
        });
        assert_eq!(ran.await, Err(FailedAttempt::Transient(None)));
        assert_eq!(attempts.into_inner(), 8 + 5);
    }

    #[tokio::test]
    async fn what_lasts_is_not_tried_again_and_what_succeeds_ends_it() {
        let outcomes = Mutex::new(vec![Err(FailedAttempt::Lasting), Ok(7), Err(FailedAttempt::Transient(None))]);
        let (retries, next) = (retries(), || ready(outcomes.lock().unwrap().pop().unwrap()));
        assert_eq!(retries.run(next).await, Ok(7));
        assert_eq!(retries.run(next).await, Err(FailedAttempt::Lasting));
    }

    #[tokio::test]
    async fn a_host_that_had_enough_is_left_alone_by_all() {
        let host = Arc::<HostPause>::default();
        let retries = Retries::new(
            &RetryPolicy { first_pause: Duration::from_millis(1), ..RetryPolicy::default() },
            Arc::clone(&host),
        );
        let outcomes = Mutex::new(vec![Ok(()), Err(FailedAttempt::Transient(Some(1)))]);
        let next = || ready(outcomes.lock().unwrap().pop().unwrap());
        let begun = Instant::now();
        let other = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            host.wait().await;
            begun.elapsed()
        };
        let (ran, waited) = tokio::join!(retries.run(next), other);
        ran.unwrap();
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
    }
}
