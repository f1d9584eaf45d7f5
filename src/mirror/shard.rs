//! Shards: division of a mirror among several runners.

use std::fmt;
use std::str::FromStr;

use ociforge_manifests::Digest;

/// One of `count` shards of all images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `count`.
    index: u64,
    count: u64,
}

impl Shard {
    /// Whether the image of this full name, `HOST/REPOSITORY:TAG`, belongs to the shard. The SHA-256 of the name, as a
    /// number, selects exactly one shard, independent of the other images.
    #[must_use]
    pub fn takes(self, name: &str) -> bool {
        let digest = Digest::of(name.as_bytes());
        let number = u64::from_str_radix(&digest.hex()[..16], 16).unwrap_or_default();
        number % self.count == self.index - 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if 1 <= index && index <= count => Ok(Self { index, count }),
            _ => Err("expected I/N with I from 1 to N, such as 1/4".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_in_one_share() {
        let shards: Vec<Shard> = (1..=4).map(|index| format!("{index}/4").parse().unwrap()).collect();
        let mut taken = [0; 4];
        for n in 0..400 {
            let name = format!("nvcr.io/nvidia/pytorch:{n}");
            let takers: Vec<_> = (0..4).filter(|index| shards[*index].takes(&name)).collect();
            assert_eq!(takers.len(), 1, "{name}");
            taken[takers[0]] += 1;
        }
        assert!(taken.iter().all(|count| (70..130).contains(count)), "{taken:?}");
        // Runners of different versions must agree: the SHA-256 begins with 19036b930b308e14.
        assert!(shards[0].takes("nvcr.io/nvidia/pytorch:22.12-py3"));
    }

    #[test]
    fn shares_are_counted_from_one() {
        for bad in ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", ""] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
        assert_eq!("4/4".parse::<Shard>().unwrap().to_string(), "4/4");
    }
}
