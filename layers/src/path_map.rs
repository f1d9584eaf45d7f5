//! A map from paths to values, with the operations of stacked layers: an entry replaces another one, a whiteout removes
//! a path with everything inside it.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::path::LayerPath;

/// Values by path, in the order of the paths.
#[derive(Debug, Clone)]
pub struct PathMap<T>(BTreeMap<LayerPath, T>);

impl<T> Default for PathMap<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> PathMap<T> {
    /// The value at `path`.
    #[must_use]
    pub fn get(&self, path: &LayerPath) -> Option<&T> {
        self.0.get(path)
    }

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All values, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&LayerPath, &T)> {
        self.0.iter()
    }

    /// All values, in the order of their paths.
    pub fn into_entries(self) -> impl Iterator<Item = (LayerPath, T)> {
        self.0.into_iter()
    }

    /// Sets the value at `path`, and returns the old one. Values inside `path` stay.
    pub fn insert(&mut self, path: LayerPath, value: T) -> Option<T> {
        self.0.insert(path, value)
    }

    /// Adds all values of a higher layer.
    pub fn append(&mut self, mut upper: Self) {
        self.0.append(&mut upper.0);
    }

    /// Removes `path` and everything inside it.
    pub fn remove(&mut self, path: &LayerPath) {
        drop(self.take(path));
    }

    /// Removes everything inside `directory`.
    pub fn remove_inside(&mut self, directory: &LayerPath) {
        drop(self.take_inside(directory));
    }

    /// Removes and returns the values at `path` and inside it.
    pub fn take(&mut self, path: &LayerPath) -> Vec<(LayerPath, T)> {
        let mut taken: Vec<_> = self.0.remove_entry(path).into_iter().collect();
        taken.extend(self.take_inside(path));
        taken
    }

    /// Removes and returns the values inside `directory`.
    pub fn take_inside(&mut self, directory: &LayerPath) -> Vec<(LayerPath, T)> {
        let mut prefix = directory.as_bytes().to_vec();
        if !directory.is_root() {
            prefix.push(b'/');
        }
        let from = (Bound::Included(prefix.as_slice()), Bound::Unbounded);
        let inside = self.0.range::<[u8], _>(from).take_while(|(path, _)| path.as_bytes().starts_with(&prefix));
        // The root has no name, so it is in its own range.
        let inside: Vec<_> = inside.map(|(path, _)| path.clone()).filter(|path| !path.is_root()).collect();
        inside.into_iter().filter_map(|path| self.0.remove_entry(&path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_takes_what_is_inside_and_nothing_beside() {
        let mut map = PathMap::default();
        for name in ["a", "a/b", "a/b/c", "a-b", "ab", "/"] {
            map.insert(name.parse().unwrap_or_default(), name);
        }
        let names = |map: &PathMap<&'static str>| map.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" ");
        let mut other = map.clone();
        assert_eq!(map.take_inside(&"a".parse().unwrap()).len(), 2);
        assert_eq!(names(&map), "/ a a-b ab");
        other.remove(&"a".parse().unwrap());
        assert_eq!(names(&other), "/ a-b ab");
        other.remove_inside(&LayerPath::root());
        assert_eq!(names(&other), "/");
    }
}
