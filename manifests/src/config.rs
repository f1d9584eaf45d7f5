//! The image config (image-spec, config.md): a typed view for reading, and the edits that a recipe makes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer};
use serde_json::{Map, Value, json};

use crate::descriptor::null_as_default;
use crate::digest::DiffId;
use crate::document::Named;
use crate::platform::Platform;

/// What ociforge reads of an image config.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// The platform that the image runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// How a container is started.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Process,
    /// The layers' diff ids.
    pub rootfs: RootFs,
    /// How the layers came to be, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub history: Vec<History>,
    /// RFC 3339 time of creation.
    #[serde(default)]
    pub created: Option<String>,
    /// Who made the image.
    #[serde(default)]
    pub author: Option<String>,
}

impl Named for Config {
    const NAME: &'static str = "image config";
}

/// The `rootfs` object.
#[derive(Debug, Clone, Deserialize)]
pub struct RootFs {
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<DiffId>,
}

/// One entry of `history`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct History {
    /// The command that made the layer.
    #[serde(default)]
    pub created_by: Option<String>,
    /// Whether the step made no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

/// The `config` object: defaults for a container's process. What is missing or `null` is empty.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// `user`, `uid`, `user:group`, …
    pub user: String,
    /// `KEY=VALUE`, in order.
    pub env: Vec<String>,
    /// First words of the command.
    pub entrypoint: Vec<String>,
    /// The words after them.
    pub cmd: Vec<String>,
    /// The working directory.
    pub working_dir: String,
    /// Labels, sorted.
    pub labels: BTreeMap<String, String>,
    /// `PORT/PROTOCOL`, sorted.
    pub exposed_ports: BTreeMap<String, Value>,
    /// Paths, sorted.
    pub volumes: BTreeMap<String, Value>,
    /// The signal that stops the container.
    pub stop_signal: Option<String>,
}

impl<'de> Deserialize<'de> for Process {
    /// By hand, for an error that names the field.
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(input)?;
        Ok(Self {
            user: field(&mut fields, "User")?,
            env: field(&mut fields, "Env")?,
            entrypoint: field(&mut fields, "Entrypoint")?,
            cmd: field(&mut fields, "Cmd")?,
            working_dir: field(&mut fields, "WorkingDir")?,
            labels: field(&mut fields, "Labels")?,
            exposed_ports: field(&mut fields, "ExposedPorts")?,
            volumes: field(&mut fields, "Volumes")?,
            stop_signal: field(&mut fields, "StopSignal")?,
        })
    }
}

fn field<T: DeserializeOwned + Default, E: de::Error>(fields: &mut Map<String, Value>, key: &str) -> Result<T, E> {
    let value = fields.remove(key).unwrap_or_default();
    let value: Result<Option<T>, _> = serde_json::from_value(value);
    value.map(Option::unwrap_or_default).map_err(|error| E::custom(format!("`{key}` of `config`: {error}")))
}

impl Process {
    /// The value of `key` in `env`; the last one where it is given twice.
    #[must_use]
    pub fn env_value(&self, key: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|entry| entry.strip_prefix(key)?.strip_prefix('='))
    }
}

/// What a recipe's `[config]` changes. What is `None` or empty stays as the base has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigEdit {
    /// Variables to set; a key that the base has keeps its place, others follow in key order.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub workdir: Option<String>,
    /// Entrypoint; the base's cmd goes with its entrypoint, as in a Dockerfile.
    pub entrypoint: Option<Vec<String>>,
    /// Command.
    pub cmd: Option<Vec<String>>,
    /// User.
    pub user: Option<String>,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Ports to add, `PORT/PROTOCOL`.
    pub expose: Vec<String>,
    /// Volumes to add.
    pub volumes: Vec<String>,
    /// Stop signal.
    pub stop_signal: Option<String>,
}

impl ConfigEdit {
    /// Applies the edit to the `config` object of an image config.
    pub fn apply(&self, process: &mut Map<String, Value>) {
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                process.insert(key.to_owned(), value);
            }
        };
        set("WorkingDir", self.workdir.as_ref().map(|v| json!(v)));
        set("User", self.user.as_ref().map(|v| json!(v)));
        set("StopSignal", self.stop_signal.as_ref().map(|v| json!(v)));
        if let Some(entrypoint) = &self.entrypoint {
            set("Entrypoint", Some(json!(entrypoint)));
            set("Cmd", Some(Value::Null));
        }
        set("Cmd", self.cmd.as_ref().map(|v| json!(v)));
        if process.get("Cmd") == Some(&Value::Null) {
            process.remove("Cmd");
        }
        self.apply_env(process);
        merge(process, "Labels", self.labels.iter().map(|(k, v)| (k.clone(), json!(v))));
        merge(process, "ExposedPorts", self.expose.iter().map(|port| (port.clone(), json!({}))));
        merge(process, "Volumes", self.volumes.iter().map(|path| (path.clone(), json!({}))));
    }

    fn apply_env(&self, process: &mut Map<String, Value>) {
        if self.env.is_empty() {
            return;
        }
        let old = process.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut left = self.env.clone();
        let mut env: Vec<Value> = Vec::with_capacity(old.len() + left.len());
        for entry in old {
            let key = entry.as_str().map(|text| text.split('=').next().unwrap_or(text).to_owned());
            match key {
                Some(key) if self.env.contains_key(&key) => {
                    if let Some(value) = left.remove(&key) {
                        env.push(json!(format!("{key}={value}")));
                    }
                }
                _ => env.push(entry),
            }
        }
        env.extend(left.iter().map(|(key, value)| json!(format!("{key}={value}"))));
        process.insert("Env".into(), Value::Array(env));
    }
}

/// Adds entries to an object inside `process`, which is made where there is none or `null`.
fn merge(process: &mut Map<String, Value>, key: &str, entries: impl Iterator<Item = (String, Value)>) {
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return;
    }
    let object = process.entry(key).or_insert_with(|| json!({}));
    if !object.is_object() {
        *object = json!({});
    }
    if let Some(object) = object.as_object_mut() {
        object.extend(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(edit: &ConfigEdit, mut base: Value) -> Value {
        edit.apply(base.as_object_mut().unwrap());
        base
    }

    #[test]
    fn env_keeps_its_place_and_loses_duplicates() {
        let edit = ConfigEdit {
            env: [("B", "new"), ("D", "d"), ("C", "c=c")].map(|(k, v)| (k.into(), v.into())).into(),
            ..ConfigEdit::default()
        };
        let base = json!({"Env": ["A=1", "B=old", "BB=2", "B=older"]});
        assert_eq!(applied(&edit, base), json!({"Env": ["A=1", "B=new", "BB=2", "C=c=c", "D=d"]}));
    }

    #[test]
    fn an_entrypoint_takes_the_bases_cmd_away() {
        let base = json!({"Entrypoint": ["/old"], "Cmd": ["x"], "Unknown": 1, "Labels": null});
        let edit = ConfigEdit { entrypoint: Some(vec!["/new".into()]), ..ConfigEdit::default() };
        assert_eq!(applied(&edit, base.clone()), json!({"Entrypoint": ["/new"], "Unknown": 1, "Labels": null}));
        let edit = ConfigEdit {
            cmd: Some(vec!["bash".into()]),
            labels: [("a".into(), "b".into())].into(),
            ..ConfigEdit::default()
        };
        let expected = json!({"Entrypoint": ["/old"], "Cmd": ["bash"], "Unknown": 1, "Labels": {"a": "b"}});
        assert_eq!(applied(&edit, base), expected);
    }
}
