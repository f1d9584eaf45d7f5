//! `--memory` and `--memory-swap`.

use std::fmt;
use std::str::FromStr;

use super::flag_error::FlagError;
use super::values::Size;

/// Docker's minimum of `--memory`: 6 MiB.
pub(crate) const LEAST_MEMORY: Size = Size(6 << 20);

/// `--memory-swap`: the limit of memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySwap {
    /// No limit of swap.
    Unlimited,
    /// The limit in bytes, including `--memory`; 0 is docker's default.
    Limited(Size),
}

impl FromStr for MemorySwap {
    type Err = FlagError;

    /// Parses a size, or -1 for no limit.
    fn from_str(text: &str) -> Result<Self, FlagError> {
        match text {
            "-1" => Ok(Self::Unlimited),
            size => size.parse().map(Self::Limited).map_err(|_| FlagError::MemorySwap(text.to_owned())),
        }
    }
}

impl fmt::Display for MemorySwap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("-1"),
            Self::Limited(size) => size.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_memory_and_swap_is_a_size_or_none() {
        for text in ["", "x", "-2", "-1b", "--1", " 1"] {
            let error = text.parse::<MemorySwap>().unwrap_err();
            assert_eq!(error, FlagError::MemorySwap(text.into()));
            assert!(error.hint().unwrap().contains("-1"));
        }
    }
}
