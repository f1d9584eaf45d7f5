//! The header files of a `.dist-info` directory, WHEEL and METADATA (core metadata specification).

use super::error::WheelFault;

/// The headers in their order; text after the first empty line is dropped.
#[derive(Debug, Clone, Default)]
pub struct MetadataHeaders(Vec<(String, String)>);

impl MetadataHeaders {
    /// Parses headers; lines that begin with whitespace continue the previous value.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in text.lines().take_while(|line| !line.is_empty()) {
            if let Some((_, value)) = headers.last_mut()
                && line.starts_with([' ', '\t'])
            {
                value.push('\n');
                value.push_str(line.trim());
            } else if let Some((key, value)) = line.split_once(':') {
                headers.push((key.to_owned(), value.trim().to_owned()));
            }
        }
        Self(headers)
    }

    /// The first value of this name, ignoring case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of this name.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Whether WHEEL assigns the root to purelib and not to platlib.
pub(super) fn root_is_purelib(wheel: &MetadataHeaders) -> Result<bool, WheelFault> {
    let version = wheel.get("Wheel-Version").unwrap_or_default();
    if version.split('.').next() != Some("1") {
        return Err(WheelFault::WheelVersion(version.to_owned()));
    }
    Ok(wheel.get("Root-Is-Purelib").is_some_and(|value| value.eq_ignore_ascii_case("true")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let headers = MetadataHeaders::parse("Name: x\r\nlicense:  a\n  b\nTag: 1\nTag: 2\nnonsense\n\nBody: no\n");
        assert_eq!((headers.get("NAME"), headers.get("License"), headers.get("Body")), (Some("x"), Some("a\nb"), None));
        assert_eq!(headers.all("tag").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn wheel_versions() {
        let wheel = |text: &str| root_is_purelib(&MetadataHeaders::parse(text));
        assert!(wheel("Wheel-Version: 1.0\nRoot-Is-Purelib: True").unwrap());
        assert!(!wheel("Wheel-Version: 1.9\nRoot-Is-Purelib: false").unwrap());
        for bad in ["", "Wheel-Version: 2.0", "Wheel-Version: 10.0", "Wheel-Version: x"] {
            assert!(matches!(wheel(bad), Err(WheelFault::WheelVersion(_))), "{bad}");
        }
    }
}
