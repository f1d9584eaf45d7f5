//! Groups wheels into layers.
//!
//! A changed wheel must change only one layer, and no layer of a large wheel. So each large wheel has its own layer.
//! Small wheels share a few layers, and only the *name* of a wheel selects its layer: its version and the other wheels
//! have no effect.

use ociforge_manifests::Digest;

/// The minimum size of a wheel with its own layer, in bytes.
const LARGE: u64 = 4 << 20;

/// The number of layers of small wheels.
const BUCKETS: u64 = 8;

/// The maximum number of layers of large wheels in one step. Overlay filesystems accept about 127 layers in all, and a
/// base such as NVIDIA's has 60.
const MAX_LARGE: usize = 40;

/// Groups items with a normalized name and a size in bytes: first the large ones, by name, then the buckets. The items
/// of a group are sorted by name.
pub(crate) fn group<T>(mut wheels: Vec<T>, name: impl Fn(&T) -> &str, size: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    wheels.sort_by(|a, b| name(a).cmp(name(b)));
    let mut bound = LARGE;
    // Doubling gives similar sets of wheels the same bound.
    while wheels.iter().filter(|wheel| size(wheel) >= bound).count() > MAX_LARGE {
        bound *= 2;
    }
    let (large, small): (Vec<T>, Vec<T>) = wheels.into_iter().partition(|wheel| size(wheel) >= bound);
    let mut groups: Vec<Vec<T>> = large.into_iter().map(|wheel| vec![wheel]).collect();
    let mut buckets: Vec<Vec<T>> = (0..BUCKETS).map(|_| Vec::new()).collect();
    for wheel in small {
        buckets[bucket(name(&wheel))].push(wheel);
    }
    groups.extend(buckets.into_iter().filter(|bucket| !bucket.is_empty()));
    groups
}

fn bucket(name: &str) -> usize {
    let hash = u64::from_str_radix(&Digest::of(name.as_bytes()).hex()[..8], 16).unwrap_or(0);
    usize::try_from(hash % BUCKETS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(wheels: &[(&'static str, u64)]) -> Vec<Vec<&'static str>> {
        let groups = group(wheels.to_vec(), |wheel| wheel.0, |wheel| wheel.1);
        groups.into_iter().map(|group| group.into_iter().map(|wheel| wheel.0).collect()).collect()
    }

    #[test]
    fn a_small_wheel_changes_no_other_layer() {
        let before = groups(&[("torch", 1 << 30), ("tqdm", 80_000), ("fire", 90_000), ("numpy", 20 << 20)]);
        let after = groups(&[("numpy", 20 << 20), ("fire", 1), ("torch", 1 << 30), ("tqdm", 80_000), ("six", 9)]);
        assert_eq!(before[..2], [["numpy"], ["torch"]]);
        assert_eq!(after[..2], before[..2]);
        let of = |groups: &[Vec<&'static str>], name| groups.iter().position(|group| group.contains(&name)).is_some();
        assert!(["tqdm", "fire", "six"].iter().all(|name| of(&after, *name)));
    }

    #[test]
    fn there_are_never_too_many_layers() {
        let names: Vec<String> = (0..300).map(|n| format!("p{n}")).collect();
        let wheels: Vec<_> = names.iter().zip(1..).map(|(name, n)| (name.as_str(), n << 20)).collect();
        let groups = group(wheels, |wheel| wheel.0, |wheel| wheel.1);
        assert!(groups.len() <= MAX_LARGE + 8, "{}", groups.len());
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 300);
    }
}
