//! `mounts`: the mounts of a step.

use std::path::PathBuf;

use ociforge_manifests::runtime::{FlagError, Size};
use toml::de::DeValue;

use crate::tables::fields::{Table, Value};
use crate::tables::values::{Owner, boolean, file_inside, mode, owner, path, typed, word};
use crate::tables::{PlanError, TableFault};

/// The keys of a mount.
pub(super) const KEYS: &[&str] =
    &["bind", "cache", "tmpfs", "secret", "to", "write", "id", "sharing", "size", "mode", "owner"];

/// The kinds of mounts, and the keys of each.
const KINDS: [(&str, &[&str]); 4] = [
    ("bind", &["to", "write"]),
    ("cache", &["id", "sharing"]),
    ("tmpfs", &["size"]),
    ("secret", &["to", "mode", "owner"]),
];

/// The mount points of the sandbox's own filesystems.
const TAKEN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A mount of a step. The layer does not contain it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepMount {
    /// The mount point, absolute and without `.` and `..`.
    pub to: String,
    /// The kind of the mount.
    pub kind: MountKind,
}

/// The kinds of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the recipe's directory.
    Bind {
        /// The source, relative to the recipe's directory.
        from: PathBuf,
        /// Whether the step can write to it. The changes are discarded.
        writable: bool,
    },
    /// A directory that later builds see again.
    Cache {
        /// The id: mounts with the same id are the same directory, in all recipes.
        id: String,
        /// Whether only one build can use it at a time.
        locked: bool,
    },
    /// A directory in memory.
    Tmpfs {
        /// The maximum size; `None` is half of the memory.
        size: Option<Size>,
    },
    /// A file with a secret of `--secret`.
    Secret {
        /// The id in `--secret`.
        id: String,
        /// The mode of the file.
        mode: u32,
        /// The owner of the file; `None` is root.
        owner: Option<Owner>,
    },
}

/// Whether a text is a valid id of a secret: letters, digits, `-`, `_` and `.`, but no `.` or `-` at the start.
#[must_use]
pub fn is_secret_id(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().all(word) && !text.is_empty() && !text.starts_with(['.', '-']) && text.len() <= 255
}

/// Reads the mounts, in the order of the recipe.
pub(super) fn mounts(value: &Value<'_>) -> Result<Vec<StepMount>, PlanError> {
    let hint = || Some("write for example mounts = [{ cache = \"/root/.cache\" }]".to_owned());
    if !matches!(value.raw(), DeValue::Array(_)) {
        return Err(value.unexpected("an array of tables", hint()));
    }
    let mut mounts: Vec<StepMount> = Vec::new();
    for item in value.items()? {
        if !matches!(item.raw(), DeValue::Table(_)) {
            return Err(item.unexpected("an array of tables", hint()));
        }
        let mount = mount(&item)?;
        if mounts.iter().any(|other| other.to == mount.to) {
            return Err(item.unfit(format!("`{}` twice", mount.to), "each destination once", None));
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

fn mount(value: &Value<'_>) -> Result<StepMount, PlanError> {
    let table = value.table("`mounts`")?.only(KEYS)?;
    let entries = table.entries();
    let mut kinds = KINDS.iter().filter_map(|(kind, keys)| Some((*kind, *keys, table.get(kind)?)));
    let (Some((kind, keys, main)), None) = (kinds.next(), kinds.next()) else {
        return Err(value.unexpected("one of `bind`, `cache`, `tmpfs` and `secret` in it", None));
    };
    if let Some((key, entry)) = entries.iter().find(|(key, _)| *key != kind && !keys.contains(key)) {
        let hint = (*key == "to").then(|| format!("the value of `{kind}` is the destination"));
        return Err(entry.fault(TableFault::Stray { key: (*key).to_owned(), kind, hint }));
    }
    match kind {
        "bind" => bind(&main, &table),
        "cache" => cache(&main, &table),
        "tmpfs" => tmpfs(&main, &table),
        _ => secret(&main, &table),
    }
}

fn bind(from: &Value<'_>, table: &Table<'_>) -> Result<StepMount, PlanError> {
    let to = table.require("to", "{ bind = \"src\", to = \"/src\" }")?;
    let writable = table.get("write").map_or(Ok(false), |value| boolean(&value))?;
    Ok(StepMount { to: place(&to)?, kind: MountKind::Bind { from: file_inside(from)?, writable } })
}

fn cache(to: &Value<'_>, table: &Table<'_>) -> Result<StepMount, PlanError> {
    let place = place(to)?;
    let id = table.get("id").map_or(Ok(place.clone()), |id| id.line_of_text().map(str::to_owned))?;
    let sharing = |value: Value<'_>| {
        let hint = "\"locked\" lets one build at a time use it, \"shared\" all of them";
        word(&value, &[("locked", true), ("shared", false)], hint)
    };
    let locked = table.get("sharing").map_or(Ok(true), sharing)?;
    Ok(StepMount { to: place, kind: MountKind::Cache { id, locked } })
}

fn tmpfs(to: &Value<'_>, table: &Table<'_>) -> Result<StepMount, PlanError> {
    let size = |value: Value<'_>| match typed(&value, FlagError::hint)? {
        // For tmpfs(5), 0 means no limit.
        Size(0) => Err(value.unexpected("a size above 0", None)),
        size => Ok(size),
    };
    Ok(StepMount { to: place(to)?, kind: MountKind::Tmpfs { size: table.get("size").map(size).transpose()? } })
}

fn secret(id: &Value<'_>, table: &Table<'_>) -> Result<StepMount, PlanError> {
    let name = id.line_of_text()?;
    if !is_secret_id(name) {
        let hint = "the name is the id of `--secret id=…,src=FILE`: letters, digits, `-`, `_` and `.`";
        return Err(id.unexpected("the name of a secret, such as `token`", Some(hint.into())));
    }
    let to = table.get("to").map_or_else(|| Ok(format!("/run/secrets/{name}")), |to| place(&to))?;
    let kind = MountKind::Secret {
        id: name.to_owned(),
        mode: table.get("mode").map_or(Ok(0o400), |value| mode(&value))?,
        owner: table.get("owner").map(|value| owner(&value)).transpose()?,
    };
    Ok(StepMount { to, kind })
}

/// The mount point, see [`StepMount::to`].
fn place(value: &Value<'_>) -> Result<String, PlanError> {
    let path = path(value)?;
    if path.is_root() {
        return Err(value.unexpected("a path below `/`", None));
    }
    let place = path.to_string();
    let below = |root: &str| place.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if TAKEN.into_iter().any(below) && !below("/dev/shm") {
        let hint = format!("every step has its own {}", TAKEN.join(", "));
        return Err(value.unexpected("a path that is free for mounts", Some(hint)));
    }
    Ok(place)
}
