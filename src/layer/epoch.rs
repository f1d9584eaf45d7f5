//! The current time of a build, which does not read the clock.

use crate::error::Explain;

/// `SOURCE_DATE_EPOCH` is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SOURCE_DATE_EPOCH is `{0}`, which is not a number of seconds since 1970")]
pub struct EpochError(String);

impl Explain for EpochError {
    fn hint(&self) -> Option<String> {
        Some("unset it, or set it to something like 1700000000".into())
    }
}

/// The value of `SOURCE_DATE_EPOCH`, or the beginning of 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch(Option<i64>);

impl Epoch {
    /// Reads the value of `SOURCE_DATE_EPOCH`, if there is one.
    ///
    /// # Errors
    /// When it is not a number of seconds between 1970 and 9999.
    pub fn parse(value: Option<&str>) -> Result<Self, EpochError> {
        let Some(text) = value.filter(|text| !text.is_empty()) else { return Ok(Self(None)) };
        match text.parse() {
            Ok(seconds @ 0..=253_402_300_799) => Ok(Self(Some(seconds))),
            _ => Err(EpochError(text.to_owned())),
        }
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.unwrap_or(0)
    }

    /// Seconds since 1970, if the user set a time.
    #[must_use]
    pub fn stated(self) -> Option<i64> {
        self.0
    }

    /// The time in the format of RFC 3339, in UTC.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let time = chrono::DateTime::from_timestamp(self.seconds(), 0).unwrap_or_default();
        time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(Epoch::parse(None).unwrap().rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Epoch::parse(Some("1700000000")).unwrap().rfc3339(), "2023-11-14T22:13:20Z");
        assert_eq!(Epoch::parse(Some("")).unwrap().stated(), None);
        for bad in ["-1", "now", "1.5", "999999999999999"] {
            assert!(Epoch::parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
