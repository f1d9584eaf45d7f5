//! A process environment with unique keys.

use std::fmt;

/// Variables in the order in which they were first set.
#[derive(Default)]
pub(crate) struct Env(Vec<(String, String)>);

impl Env {
    /// Sets `key`; an existing key keeps its position.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(have, _)| have == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Removes `key`.
    pub(crate) fn unset(&mut self, key: &str) {
        self.0.retain(|(have, _)| have != key);
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == key).map(|(_, value)| value.as_str())
    }

    /// Keys and values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// `KEY=VALUE`, in order.
    pub(crate) fn entries(&self) -> Vec<String> {
        self.0.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }
}

impl fmt::Debug for Env {
    /// Shows only the keys: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}
