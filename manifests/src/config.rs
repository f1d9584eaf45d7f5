//! The image config (image-spec, config.md): a typed view for reading, and the edits of a recipe.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer};
use serde_json::{Map, Value, json};

use crate::descriptor::null_as_default;
use crate::digest::DiffId;
use crate::document::DocumentType;
use crate::expand::{ExpandError, expand};
use crate::platform::Platform;

/// The fields of an image config that ociforge reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "an object")]
pub struct Config {
    /// The platform of the image.
    #[serde(flatten)]
    pub platform: Platform,
    /// The execution parameters of containers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ExecutionParameters,
    /// The layers' diff ids.
    pub rootfs: RootFs,
    /// The history of the layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub history: Vec<History>,
    /// RFC 3339 time of creation.
    #[serde(default)]
    pub created: Option<String>,
    /// The author.
    #[serde(default)]
    pub author: Option<String>,
}

impl DocumentType for Config {
    const NAME: &'static str = "image config";
}

/// The `rootfs` object.
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "an object")]
pub struct RootFs {
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<DiffId>,
}

/// One entry of `history`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(expecting = "an object")]
pub struct History {
    /// The command that made the layer.
    #[serde(default)]
    pub created_by: Option<String>,
    /// Whether the step has no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

/// The `config` object: defaults for a container's process. Missing and `null` fields are empty.
#[derive(Debug, Clone, Default)]
pub struct ExecutionParameters {
    /// `user`, `uid`, `user:group`, …
    pub user: String,
    /// `KEY=VALUE`, in order.
    pub env: Vec<String>,
    /// The first words of the command.
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

impl<'de> Deserialize<'de> for ExecutionParameters {
    /// Not derived, so that the error names the field.
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

impl ExecutionParameters {
    /// The value of `key` in `env`; the last one counts.
    #[must_use]
    pub fn env_value(&self, key: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|entry| entry.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The changes of a recipe's `[config]`. `None` and empty fields keep the base's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigEdit {
    /// Variables to set, in the recipe's order, with unique keys. A key of the base keeps its position; others follow
    /// in key order.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub workdir: Option<String>,
    /// Entrypoint; it also removes the base's cmd, as in a Dockerfile.
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

/// The default search path of images without `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A recipe's value with an invalid reference to a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot expand `{key}`")]
pub struct ConfigValueError {
    /// Its key.
    pub key: String,
    /// The cause.
    pub source: ExpandError,
}

/// Expansion of variables in texts, with an environment that grows.
#[derive(Debug, Clone, Default)]
pub struct Expansion {
    env: BTreeMap<String, String>,
    /// The undefined references: the key of the value, and the variable.
    pub missing: Vec<(String, String)>,
}

impl Expansion {
    /// An expansion with the variables in `env` (`KEY=VALUE`), and a default for `PATH`.
    #[must_use]
    pub fn new(env: &[String]) -> Self {
        let path = ("PATH".to_owned(), DEFAULT_PATH.to_owned());
        let pairs = env.iter().filter_map(|entry| entry.split_once('='));
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { env: std::iter::once(path).chain(pairs).collect(), missing: Vec::new() }
    }

    /// The text of `key` with its references expanded.
    ///
    /// # Errors
    /// When a reference is invalid.
    pub fn text(&mut self, key: &str, text: &str) -> Result<String, ConfigValueError> {
        let mut missing = Vec::new();
        let expanded = expand(text, &|name| self.env.get(name).cloned(), &mut missing);
        self.missing.extend(missing.into_iter().map(|variable| (key.to_owned(), variable)));
        expanded.map_err(|source| ConfigValueError { key: key.to_owned(), source })
    }

    /// The same for an absolute path.
    ///
    /// # Errors
    /// When a reference is invalid, or the path is not absolute.
    pub fn path(&mut self, key: &str, text: &str) -> Result<String, ConfigValueError> {
        let path = self.text(key, text)?;
        if path.starts_with('/') {
            return Ok(path);
        }
        Err(ConfigValueError { key: key.to_owned(), source: ExpandError::Relative(path) })
    }

    /// Expands variables in order; later ones can refer to earlier ones.
    ///
    /// # Errors
    /// When a reference is invalid.
    pub fn variables(&mut self, env: &[(String, String)]) -> Result<Vec<(String, String)>, ConfigValueError> {
        let set = |(key, value): &(String, String)| {
            let value = self.text(&format!("env.{key}"), value)?;
            self.env.insert(key.clone(), value.clone());
            Ok((key.clone(), value))
        };
        env.iter().map(set).collect()
    }
}

impl ConfigEdit {
    /// The edit with references to variables expanded in `env`, `workdir`, `user` and `labels`, as in a Dockerfile.
    /// `expansion` has the base's variables, and afterwards also those of this edit.
    ///
    /// # Errors
    /// When a reference is invalid, or the working directory is not absolute.
    pub fn expanded(&self, expansion: &mut Expansion) -> Result<Self, ConfigValueError> {
        let env = expansion.variables(&self.env)?;
        let mut text = |key: &str, text: &String| expansion.text(key, text);
        let labels =
            self.labels.iter().map(|(name, label)| Ok((name.clone(), text(&format!("labels.{name}"), label)?)));
        let labels = labels.collect::<Result<_, ConfigValueError>>()?;
        let user = self.user.as_ref().map(|user| text("user", user)).transpose()?;
        let workdir = self.workdir.as_ref().map(|workdir| expansion.path("workdir", workdir)).transpose()?;
        Ok(Self { env, labels, workdir, user, ..self.clone() })
    }

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
        let mut left: BTreeMap<String, String> = self.env.iter().cloned().collect();
        let all = left.clone();
        let mut env: Vec<Value> = Vec::with_capacity(old.len() + left.len());
        for entry in old {
            let key = entry.as_str().map(|text| text.split('=').next().unwrap_or(text).to_owned());
            match key {
                Some(key) if all.contains_key(&key) => {
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

/// Adds entries to an object inside `process`, and creates the object if it is missing or `null`.
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
    fn references_see_the_base_and_what_was_set_before() {
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<Vec<_>>();
        let edit = ConfigEdit {
            env: pairs(&[("PATH", "/opt/bin:$PATH"), ("B", "$A-$PATH"), ("A", "$A$NO")]),
            labels: [("l".to_owned(), "$B".to_owned())].into(),
            workdir: Some("$A/x".into()),
            cmd: Some(vec!["$A".into()]),
            ..ConfigEdit::default()
        };
        let mut expansion = Expansion::new(&["A=/a".into(), "PATH=/bin".into()]);
        let expanded = edit.expanded(&mut expansion).unwrap();
        assert_eq!(expanded.env, pairs(&[("PATH", "/opt/bin:/bin"), ("B", "/a-/opt/bin:/bin"), ("A", "/a")]));
        assert_eq!(expanded.labels["l"], "/a-/opt/bin:/bin");
        assert_eq!((expanded.workdir.as_deref(), expanded.cmd), (Some("/a/x"), edit.cmd.clone()));
        assert_eq!(expansion.missing, [("env.A".into(), "NO".into())]);
        let edit = ConfigEdit { env: pairs(&[("PATH", "/x:$PATH"), ("C", "${")]), ..ConfigEdit::default() };
        let error = edit.expanded(&mut Expansion::new(&[])).unwrap_err();
        assert_eq!(error.to_string(), "cannot expand `env.C`");
        let edit = ConfigEdit { workdir: Some("$NO/x".into()), ..ConfigEdit::default() };
        assert!(edit.expanded(&mut Expansion::new(&[])).is_ok());
        let edit = ConfigEdit { workdir: Some("$NO".into()), ..ConfigEdit::default() };
        assert!(matches!(
            edit.expanded(&mut Expansion::new(&[])),
            Err(ConfigValueError { source: ExpandError::Relative(_), .. })
        ));
        assert_eq!(Expansion::new(&[]).text("k", "$PATH").unwrap(), DEFAULT_PATH);
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
