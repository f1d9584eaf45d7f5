//! The Python versions that a wheel supports (`Requires-Python` in its METADATA).

use pep440_rs::{Version, VersionSpecifiers};

use super::error::WheelFault;

/// Checks a `Requires-Python` against every possible patch release of `python`, major and minor. An invalid version
/// specifier matches all versions, as in pip.
pub(super) fn check(requires: &str, (major, minor): (u32, u32)) -> Result<(), WheelFault> {
    let Ok(specifiers) = requires.parse::<VersionSpecifiers>() else { return Ok(()) };
    let mut patches = (0..100).map(|patch| Version::new([major.into(), minor.into(), patch]));
    if patches.any(|version| specifiers.contains(&version)) {
        return Ok(());
    }
    Err(WheelFault::RequiresPython { requires: requires.to_owned(), base: format!("{major}.{minor}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_and_what_does_not() {
        for fits in [">=3.8", ">=3.11.4", "!=3.11.0", "<3.12", "~=3.9", "", "nonsense"] {
            assert!(check(fits, (3, 11)).is_ok(), "{fits}");
        }
        for other in [">=3.12", "<3.11", "==3.10.*", "!=3.11.*"] {
            assert!(check(other, (3, 11)).is_err(), "{other}");
        }
    }
}
