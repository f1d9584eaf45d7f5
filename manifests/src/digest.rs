//! Content digests (image-spec, descriptor.md, "Digests").

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

/// The digest of a blob's bytes, `sha256:<64 lower-case hex digits>` or `sha512:<128>`.
///
/// Ordered and hashed by its text. A value of this type is always valid; clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

/// Text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest (expected sha256: and 64 hex digits, or sha512: and 128)")]
pub struct DigestError(pub String);

impl Digest {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(&Sha256::digest(bytes).into())
    }

    /// The digest with the raw SHA-256 `hash`.
    #[must_use]
    pub fn from_sha256(hash: &[u8; 32]) -> Self {
        Self(format!("sha256:{}", hex::encode(hash)).into())
    }

    /// The digest with the raw SHA-512 `hash`.
    #[must_use]
    pub fn from_sha512(hash: &[u8; 64]) -> Self {
        Self(format!("sha512:{}", hex::encode(hash)).into())
    }

    /// `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(algorithm, _)| algorithm)
    }

    /// The hexadecimal part, lower case.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The first 12 hex digits, for messages.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The tag for the list of referrers of the manifest with this digest, for registries without the referrers API
    /// (distribution-spec, "Referrers Tag Schema").
    #[must_use]
    pub fn referrers_tag(&self) -> String {
        format!("{}-{:.64}", self.algorithm(), self.hex())
    }

    /// The whole text, with the algorithm.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let length = match text.split_once(':') {
            Some(("sha256", _)) => 64,
            Some(("sha512", _)) => 128,
            _ => return Err(DigestError(text.to_owned())),
        };
        let hex = &text[7..];
        if hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.into()))
        } else {
            Err(DigestError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.as_str().to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A hasher of content.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher for this algorithm: `sha256` or `sha512`.
    #[must_use]
    pub fn new(algorithm: &str) -> Option<Self> {
        match algorithm {
            "sha256" => Some(Self::Sha256(Sha256::new())),
            "sha512" => Some(Self::Sha512(Sha512::new())),
            _ => None,
        }
    }

    /// A hasher for the algorithm of `digest`.
    #[must_use]
    pub fn like(digest: &Digest) -> Self {
        // A digest has one of the known algorithms.
        Self::new(digest.algorithm()).unwrap_or_default()
    }

    /// The algorithm's name.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The state for [`Hasher::restore`], with which another process can continue. It contains the last bytes, up to
    /// 127.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        match self {
            Self::Sha256(hasher) => hasher.serialize().to_vec(),
            Self::Sha512(hasher) => hasher.serialize().to_vec(),
        }
    }

    /// Restores a [`Hasher::state`] for this algorithm. `None` if the state is invalid.
    #[must_use]
    pub fn restore(algorithm: &str, state: &[u8]) -> Option<Self> {
        match algorithm {
            "sha256" => Some(Self::Sha256(restored(state)?)),
            "sha512" => Some(Self::Sha512(restored(state)?)),
            _ => None,
        }
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::from_sha256(&hasher.finalize().into()),
            Self::Sha512(hasher) => Digest::from_sha512(&hasher.finalize().into()),
        }
    }
}

impl Default for Hasher {
    /// SHA-256, the usual algorithm.
    fn default() -> Self {
        Self::Sha256(Sha256::new())
    }
}

fn restored<H: SerializableState>(state: &[u8]) -> Option<H> {
    H::deserialize(&SerializedState::<H>::try_from(state).ok()?).ok()
}

/// The digest of a layer's *uncompressed* tar (image-spec, config.md, "Layer DiffID").
///
/// A separate type, so that it is not confused with the blob's digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a chain of layers (image-spec, config.md, "Layer ChainID"): equal chains have equal filesystems.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chain ids of each of `layers`, lowest first.
    #[must_use]
    pub fn of(layers: &[DiffId]) -> Vec<Self> {
        let mut chains: Vec<Self> = Vec::with_capacity(layers.len());
        for layer in layers {
            chains.push(match chains.last() {
                None => Self(layer.0.clone()),
                Some(below) => Self(Digest::of(format!("{} {layer}", below.0).as_bytes())),
            });
        }
        chains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_chain_is_the_layers_in_their_order() {
        let [a, b] = ["a", "b"].map(|text| DiffId(Digest::of(text.as_bytes())));
        let chain = |layers: &[&DiffId]| ChainId::of(&layers.iter().map(|&l| l.clone()).collect::<Vec<_>>());
        let two = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(chain(&[&a, &b]), [ChainId(a.0.clone()), ChainId(two.clone())]);
        let three = ChainId(Digest::of(format!("{two} {a}").as_bytes()));
        assert_eq!(chain(&[&a, &b, &a])[2], three);
        assert_ne!(chain(&[&b, &a])[1], chain(&[&a, &b])[1]);
        assert_eq!(ChainId::of(&[]), []);
    }

    #[test]
    fn hashes_and_parses() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap().short(), "e3b0c44298fc");
    }

    #[test]
    fn a_hash_goes_on_from_its_state() {
        for algorithm in ["sha256", "sha512"] {
            for length in [0, 1, 64, 127, 128, 1000] {
                let bytes = vec![7; length];
                let mut whole = Hasher::new(algorithm).unwrap();
                whole.update(&bytes);
                let mut rest = Hasher::restore(algorithm, &whole.state()).unwrap();
                for hasher in [&mut whole, &mut rest] {
                    hasher.update(b"and more");
                }
                assert_eq!(rest.finish(), whole.finish());
            }
            let state = Hasher::new(algorithm).unwrap().state();
            assert!(Hasher::restore(algorithm, &state[1..]).is_none());
            assert!(Hasher::restore(algorithm, &vec![255; state.len()]).is_none());
        }
        assert!(Hasher::restore("md5", &[]).is_none());
    }

    #[test]
    fn refuses_what_is_no_digest() {
        for bad in [
            "",
            "sha256:",
            "sha256:e3b0",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &EMPTY.to_uppercase(),
            &EMPTY[7..],
            "sha256:../../../../etc/passwdxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_of_referrers_are_those_of_the_schema() {
        let long = Digest::from_sha512(&[0xab; 64]);
        assert_eq!(long.referrers_tag(), format!("sha512-{}", "ab".repeat(32)));
        assert_eq!(Digest::of(b"").referrers_tag(), Digest::of(b"").as_str().replace(':', "-"));
    }
}
