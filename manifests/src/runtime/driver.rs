//! The NVIDIA driver: its version, and the CUDA that it supports.

use std::fmt;
use std::str::FromStr;

use super::flag_error::FlagError;

/// A version in NVIDIA's order: numbers separated by dots; final zeros do not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(Vec<u64>);

impl Number {
    /// Parses digits and dots that start with a digit; `None` for any other text.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let parts = text.split('.').filter(|part| !part.is_empty());
        let parts = parts.map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten());
        Some(Self::of(parts.collect::<Option<_>>()?))
    }

    fn of(mut parts: Vec<u64>) -> Self {
        while parts.last() == Some(&0) {
            parts.pop();
        }
        Self(parts)
    }

    /// The first two numbers.
    pub(crate) fn major_minor(&self) -> (u64, u64) {
        let part = |index| self.0.get(index).copied().unwrap_or(0);
        (part(0), part(1))
    }
}

impl From<Cuda> for Number {
    fn from(cuda: Cuda) -> Self {
        Self::of(vec![cuda.0, cuda.1])
    }
}

/// A version of CUDA, major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cuda(pub u64, pub u64);

impl Cuda {
    /// The oldest driver that supports it, as `MAJOR.MINOR`; `None` if unknown.
    #[must_use]
    pub fn oldest_driver(self) -> Option<String> {
        let row = BRANCHES.iter().find(|(_, newest)| *newest >= self);
        row.map(|((major, minor), _)| format!("{major}.{minor}"))
    }
}

impl fmt::Display for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The branches of the driver: the first public version for Linux, and the newest CUDA that the whole branch supports
/// (the toolkit's release notes, "CUDA Toolkit and Corresponding Driver Versions").
const BRANCHES: [((u64, u64), Cuda); 32] = [
    ((346, 46), Cuda(7, 0)),
    ((352, 31), Cuda(7, 5)),
    ((367, 48), Cuda(8, 0)),
    ((384, 81), Cuda(9, 0)),
    ((387, 26), Cuda(9, 1)),
    ((396, 26), Cuda(9, 2)),
    ((410, 48), Cuda(10, 0)),
    ((418, 39), Cuda(10, 1)),
    ((440, 33), Cuda(10, 2)),
    ((450, 36), Cuda(11, 0)),
    ((455, 23), Cuda(11, 1)),
    ((460, 27), Cuda(11, 2)),
    ((465, 19), Cuda(11, 3)),
    ((470, 42), Cuda(11, 4)),
    ((495, 29), Cuda(11, 5)),
    ((510, 39), Cuda(11, 6)),
    ((515, 43), Cuda(11, 7)),
    ((520, 61), Cuda(11, 8)),
    ((525, 60), Cuda(12, 0)),
    ((530, 30), Cuda(12, 1)),
    ((535, 54), Cuda(12, 2)),
    ((545, 23), Cuda(12, 3)),
    ((550, 54), Cuda(12, 4)),
    ((555, 42), Cuda(12, 5)),
    ((560, 28), Cuda(12, 6)),
    ((565, 57), Cuda(12, 7)),
    ((570, 26), Cuda(12, 8)),
    ((575, 51), Cuda(12, 9)),
    ((580, 65), Cuda(13, 0)),
    ((590, 44), Cuda(13, 1)),
    ((595, 45), Cuda(13, 2)),
    ((610, 43), Cuda(13, 3)),
];

/// The drivers of JetPack, which have their own numbers, and the CUDA of each: JetPack 4 and 5 by the version of Linux
/// for Tegra, JetPack 6 by that of a branch of which no other machine has drivers.
const JETPACK: [((u64, u64), Cuda); 5] = [
    ((32, 0), Cuda(10, 2)),
    ((34, 0), Cuda(11, 4)),
    ((35, 0), Cuda(11, 4)),
    ((540, 0), Cuda(12, 2)),
    ((540, 4), Cuda(12, 6)),
];

/// The newest CUDA that a driver supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supported {
    /// The version.
    pub newest: Cuda,
    /// Whether the branch is newer than all known ones, and may support newer versions.
    pub or_newer: bool,
}

/// A driver version, such as 535.104.05.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverVersion {
    text: String,
    number: Number,
}

impl DriverVersion {
    /// Parses `/proc/driver/nvidia/version` of the closed or the open kernel module.
    #[must_use]
    pub fn from_proc(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("NVRM version:"))?;
        // The words before the version, such as the module and the machine (x86_64), are not digits and dots.
        line.split_whitespace().find(|word| word.contains('.'))?.parse().ok()
    }

    /// The CUDA versions in NVIDIA's table; `None` for older drivers than the table's.
    #[must_use]
    pub fn cuda(&self) -> Option<Supported> {
        if let Some(newest) = self.jetpack() {
            return Some(Supported { newest, or_newer: false });
        }
        let (branch, _) = self.number.major_minor();
        let row = BRANCHES.iter().rposition(|((first, _), _)| *first <= branch)?;
        let ((first, _), newest) = BRANCHES[row];
        Some(Supported { newest, or_newer: row + 1 == BRANCHES.len() && first != branch })
    }

    /// The CUDA of a JetPack driver.
    fn jetpack(&self) -> Option<Cuda> {
        let (branch, minor) = self.number.major_minor();
        let row = JETPACK.iter().rev().find(|((major, first), _)| *major == branch && *first <= minor);
        row.map(|(_, cuda)| *cuda)
    }

    /// Whether it is a JetPack driver, which only a newer JetPack replaces.
    #[must_use]
    pub fn is_jetpack(&self) -> bool {
        self.jetpack().is_some()
    }

    /// The first number of the version.
    #[must_use]
    pub fn branch(&self) -> u64 {
        self.number.major_minor().0
    }

    pub(crate) fn number(&self) -> &Number {
        &self.number
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for DriverVersion {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let number = Number::read(text).filter(|number| number.major_minor().0 > 0);
        let number = number.ok_or_else(|| FlagError::Driver(text.to_owned()))?;
        Ok(Self { text: text.to_owned(), number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_nvidia_does() {
        let number = |text| Number::read(text).unwrap();
        for (less, more) in
            [("470", "470.57"), ("470.57.02", "535"), ("9.9", "10.0"), ("535.54.03", "535.104"), ("1", "1.0.1")]
        {
            assert!(number(less) < number(more), "{less} {more}");
        }
        assert_eq!(number("12"), number("12.0.0"));
        assert_eq!(number("12."), number("12"));
        assert_eq!(number("535.054"), number("535.54"));
        for bad in ["", ".", ".5", "a", "5a", "5.a", "-1", "5.-1", "99999999999999999999", "1 2", "+1"] {
            assert_eq!(Number::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn both_kernel_modules_say_their_version() {
        for (text, version) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n\
                 GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n",
                Some("535.104.05"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.42.06  Release Build  (abuild@host)  Thu Jul \
                 11 12:00:00 UTC 2024\nGCC version:  gcc version 7.5.0 (SUSE Linux) \n",
                Some("555.42.06"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile)\n\
                 GCC version:  collect2: error: ld returned 1 exit status\n",
                Some("540.4.0"),
            ),
            ("NVRM version: NVIDIA UNIX x86_64 Kernel Module 390.48 Thu Mar 22 00:42:57 PDT 2018", Some("390.48")),
            ("NVRM version: NVIDIA UNIX x86_64 Kernel Module", None),
            ("GCC version:  gcc version 11.4.0", None),
            ("", None),
        ] {
            let found = DriverVersion::from_proc(text).map(|driver| driver.to_string());
            assert_eq!(found.as_deref(), version, "{text}");
        }
    }

    #[test]
    fn a_branch_supports_its_cuda() {
        let cuda = |driver: &str| {
            let cuda = driver.parse::<DriverVersion>().unwrap().cuda();
            cuda.map(|cuda| format!("{}{}", cuda.newest, if cuda.or_newer { "+" } else { "" }))
        };
        for (driver, expected) in [
            ("304.137", None),
            ("361.93", Some("7.5")),
            ("384.81", Some("9.0")),
            ("390.157", Some("9.1")),
            ("418.226.00", Some("10.1")),
            ("435.21", Some("10.1")),
            ("440.33", Some("10.2")),
            ("450.80.02", Some("11.0")),
            ("455.23", Some("11.1")),
            ("460.27", Some("11.2")),
            ("465.19", Some("11.3")),
            ("470.42", Some("11.4")),
            ("470.256.02", Some("11.4")),
            ("495.29", Some("11.5")),
            ("510.39", Some("11.6")),
            ("515.43", Some("11.7")),
            ("520.61", Some("11.8")),
            ("525.60", Some("12.0")),
            ("530.30", Some("12.1")),
            ("535.54", Some("12.2")),
            // JetPack 4, 5, 6.0, 6.1 and 7
            ("32.7.4", Some("10.2")),
            ("35.3.1", Some("11.4")),
            ("540.3.0", Some("12.2")),
            ("540.4.0", Some("12.6")),
            ("540.5.0", Some("12.6")),
            ("580.00", Some("13.0")),
            ("545.23", Some("12.3")),
            ("550.54", Some("12.4")),
            ("555.42", Some("12.5")),
            ("560.28", Some("12.6")),
            ("565.57", Some("12.7")),
            ("570.26", Some("12.8")),
            ("575.51", Some("12.9")),
            ("580.65.06", Some("13.0")),
            ("590.44.01", Some("13.1")),
            ("595.71.05", Some("13.2")),
            ("610.43.02", Some("13.3")),
            ("999", Some("13.3+")),
        ] {
            assert_eq!(cuda(driver).as_deref(), expected, "{driver}");
        }
        assert!(BRANCHES.is_sorted());
        assert_eq!(Cuda(12, 4).oldest_driver().as_deref(), Some("550.54"));
        assert_eq!(Cuda(99, 0).oldest_driver(), None);
        for bad in ["", "x", "0", "535.x", "v535"] {
            assert!(bad.parse::<DriverVersion>().unwrap_err().hint().is_some(), "{bad}");
        }
    }
}
