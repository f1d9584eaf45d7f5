//! `--memory` and `--memory-swap`.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::error::SpecError;
use super::request::Request;
use super::spec::Host;
use super::values::{Size, ValueError};

/// Docker's least value of `--memory`: 6 MiB.
pub(crate) const LEAST_MEMORY: Size = Size(6 << 20);

/// `--memory-swap`: the most memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySwap {
    /// Swap is not limited.
    Unlimited,
    /// So many bytes, `--memory` included; 0 is docker's default.
    Limited(Size),
}

impl FromStr for MemorySwap {
    type Err = ValueError;

    /// Reads a size, or -1 for no limit.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "-1" => Ok(Self::Unlimited),
            size => size.parse().map(Self::Limited).map_err(|_| ValueError::MemorySwap(text.to_owned())),
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

/// Refuses limits that docker refuses.
pub(crate) fn check(request: &Request) -> Result<(), SpecError> {
    let memory = request.memory.filter(|memory| memory.0 > 0);
    match (memory, request.memory_swap) {
        (Some(memory), _) if memory < LEAST_MEMORY => Err(SpecError::Memory(memory)),
        (None, Some(MemorySwap::Limited(swap))) if swap.0 > 0 => Err(SpecError::SwapAlone(swap)),
        (Some(memory), Some(MemorySwap::Limited(swap))) if swap.0 > 0 && swap < memory => {
            Err(SpecError::SwapBelowMemory { memory, swap })
        }
        _ => Ok(()),
    }
}

/// `linux.resources.memory`, if there is a limit. Unless `--memory-swap` says otherwise the container may use as much
/// swap as memory, as in docker.
pub(crate) fn limits(request: &Request, host: &Host, warnings: &mut Vec<String>) -> Option<Value> {
    let memory = request.memory.filter(|memory| memory.0 > 0)?;
    let swap = match request.memory_swap {
        Some(MemorySwap::Unlimited) => return Some(json!({"limit": memory.0})),
        Some(MemorySwap::Limited(swap)) if swap.0 > 0 => swap.0,
        _ => memory.0.saturating_mul(2).min(i64::MAX.unsigned_abs()),
    };
    if host.runs_here && host.cannot_limit_swap {
        warnings.push(format!("--memory {memory} does not limit swap: this machine's cgroups have no limit for it"));
        return Some(json!({"limit": memory.0}));
    }
    Some(json!({"limit": memory.0, "swap": swap}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(memory: &str, swap: Option<&str>) -> Request {
        let memory = memory.parse().ok();
        Request { memory, memory_swap: swap.map(|text| text.parse().unwrap()), ..Request::default() }
    }

    #[test]
    fn swap_is_limited_as_in_docker() {
        for (memory, swap, expected) in [
            ("64m", None, json!({"limit": 64 << 20, "swap": 128 << 20})),
            ("64m", Some("0"), json!({"limit": 64 << 20, "swap": 128 << 20})),
            ("64m", Some("64m"), json!({"limit": 64 << 20, "swap": 64 << 20})),
            ("64m", Some("1g"), json!({"limit": 64 << 20, "swap": 1 << 30})),
            ("64m", Some("-1"), json!({"limit": 64 << 20})),
            ("5000000000000000000", None, json!({"limit": 5_000_000_000_000_000_000_u64, "swap": i64::MAX})),
            ("0", None, Value::Null),
            ("0", Some("-1"), Value::Null),
            ("", Some("-1"), Value::Null),
            ("", Some("0"), Value::Null),
        ] {
            let request = request(memory, swap);
            assert!(check(&request).is_ok(), "{memory} {swap:?}");
            let found = limits(&request, &Host::default(), &mut Vec::new()).unwrap_or_default();
            assert_eq!(found, expected, "{memory} {swap:?}");
        }
    }

    #[test]
    fn limits_that_docker_refuses() {
        let refused = |memory: &str, swap: Option<&str>| check(&request(memory, swap)).unwrap_err().to_string();
        assert!(refused("4m", None).contains("too little"));
        assert!(refused("4m", Some("-1")).contains("too little"));
        assert_eq!(refused("64m", Some("32m")), "--memory-swap 32m is below --memory 64m");
        assert_eq!(refused("64m", Some("1k")), "--memory-swap 1k is below --memory 64m");
        for memory in ["", "0"] {
            assert_eq!(refused(memory, Some("64m")), "--memory-swap 64m is given without --memory");
        }
        for text in ["", "x", "-2", "-1b", "--1", " 1"] {
            let error = text.parse::<MemorySwap>().unwrap_err();
            assert_eq!(error, ValueError::MemorySwap(text.into()));
            assert!(error.hint().unwrap().contains("-1"));
        }
    }

    #[test]
    fn a_kernel_without_a_limit_for_swap_is_told() {
        let host = Host { cannot_limit_swap: true, runs_here: true, ..Host::default() };
        let mut warnings = Vec::new();
        assert_eq!(limits(&request("64m", None), &host, &mut warnings), Some(json!({"limit": 64 << 20})));
        assert!(warnings[0].contains("does not limit swap"), "{warnings:?}");
        warnings.clear();
        let elsewhere = Host { runs_here: false, ..host.clone() };
        let json = limits(&request("64m", None), &elsewhere, &mut warnings).unwrap();
        assert_eq!((json["swap"].as_u64(), warnings.len()), (Some(128 << 20), 0));
        limits(&request("64m", Some("-1")), &host, &mut warnings);
        assert_eq!(warnings.len(), 0);
    }
}
