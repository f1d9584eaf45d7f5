//! containers-registries.conf(5), version 2: the hosts for a name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ociforge_manifests::reference::{is_host, is_repository};
use serde::Deserialize;

use super::settings::SettingsError;

/// The content of the files, by prefix.
#[derive(Debug, Default)]
pub(super) struct RegistriesConf {
    entries: BTreeMap<String, RegistryEntry>,
}

/// The kind of reference of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Tag,
    Digest,
}

/// The kinds of pulls from a mirror (`pull-from-mirror`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Pulls {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

impl Pulls {
    pub(super) fn allow(self, by: By) -> bool {
        match self {
            Self::All => true,
            Self::DigestOnly => by == By::Digest,
            Self::TagOnly => by == By::Tag,
        }
    }
}

/// A repository at a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfiguredLocation {
    /// Host and port.
    pub registry: String,
    /// The repository's path.
    pub repository: String,
    /// Whether bad certificates and plain HTTP are accepted.
    pub insecure: bool,
    /// The pulls that this mirror serves.
    pub pulls: Pulls,
}

/// The location of a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// The repository itself, which pushes go to.
    pub primary: ConfiguredLocation,
    /// Where pulls go first, in this order.
    pub mirrors: Vec<ConfiguredLocation>,
    /// Whether its use is blocked: by the file, or because its complete name is mapped to a host, which leaves no
    /// repository.
    pub blocked: bool,
}

/// The part of a file that is needed here. Other keys belong to others: those for short names, for one, which are never
/// searched for here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<RegistryEntry>,
    /// Version 1.
    #[serde(default)]
    registries: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Deserialize)]
struct RegistryEntry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default, rename = "mirror-by-digest-only")]
    mirror_by_digest_only: bool,
    #[serde(default, rename = "pull-from-mirror")]
    pull_from_mirror: Option<Pulls>,
    #[serde(default)]
    mirror: Vec<RegistryMirror>,
}

#[derive(Debug, Deserialize)]
struct RegistryMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default, rename = "pull-from-mirror")]
    pulls: Pulls,
}

impl RegistriesConf {
    /// Reads files, and the `*.conf` files of directories by name. Later ones win, prefix by prefix.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, SettingsError> {
        let mut conf = Self::default();
        for path in paths {
            if path.is_dir() {
                for file in drop_ins(path)? {
                    conf.read_file(&file)?;
                }
            } else {
                conf.read_file(path)?;
            }
        }
        Ok(conf)
    }

    fn read_file(&mut self, file: &Path) -> Result<(), SettingsError> {
        let text = fs::read_to_string(file);
        let text = text.map_err(|source| SettingsError::Read { file: file.to_owned(), source })?;
        self.add(&text).map_err(|(line, message)| SettingsError::Conf { file: file.to_owned(), line, message })
    }

    /// Adds the text of one file. The error is a line with its fault.
    pub(super) fn add(&mut self, text: &str) -> Result<(), (usize, String)> {
        let file: File = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            (before.matches('\n').count() + 1, error.message().trim().replace('\n', ", "))
        })?;
        if let Some(table) = file.registries.keys().next() {
            return Err((line_of(text, &format!("[registries.{table}]")), as_version_2(table)));
        }
        for mut entry in file.registry {
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            if let Some((place, message)) = entry.mistake() {
                return Err((line_of(text, &place), message));
            }
            self.entries.insert(entry.prefix.clone(), entry);
        }
        Ok(())
    }

    /// Whether an entry or a mirror accepts bad certificates and plain HTTP of this host.
    pub(super) fn is_insecure(&self, registry: &str) -> bool {
        let at = |location: &str| location.split('/').next() == Some(registry);
        self.entries.values().any(|entry| {
            let location = if entry.location.is_empty() { &entry.prefix } else { &entry.location };
            (entry.insecure && at(location))
                || entry.mirror.iter().any(|mirror| mirror.insecure && at(&mirror.location))
        })
    }

    /// The location of the repository `repository` of `registry`, by the longest matching prefix.
    pub(super) fn places(&self, registry: &str, repository: &str) -> Places {
        let name = format!("{registry}/{repository}");
        let plain = || ConfiguredLocation {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            insecure: false,
            pulls: Pulls::All,
        };
        let matching = |entry: &RegistryEntry| matched(&entry.prefix, &name).map(str::len);
        let fitting = self.entries.values().filter_map(|entry| Some((matching(entry)?, entry)));
        let Some((length, entry)) = fitting.max_by_key(|(_, entry)| entry.prefix.len()) else {
            return Places { primary: plain(), mirrors: Vec::new(), blocked: false };
        };
        let place = |location: &str, insecure, pulls| {
            let whole = if location.is_empty() { name.clone() } else { format!("{location}{}", &name[length..]) };
            let (registry, repository) = whole.split_once('/').unwrap_or((&whole, ""));
            ConfiguredLocation { registry: registry.to_owned(), repository: repository.to_owned(), insecure, pulls }
        };
        let mirrored = |mirror: &RegistryMirror| {
            let pulls = if entry.mirror_by_digest_only { Pulls::DigestOnly } else { mirror.pulls };
            place(&mirror.location, mirror.insecure, pulls)
        };
        let primary = place(&entry.location, entry.insecure, Pulls::All);
        let blocked = entry.blocked || primary.repository.is_empty();
        let mirrors = entry.mirror.iter().map(mirrored).filter(|mirror| !mirror.repository.is_empty()).collect();
        Places { primary, mirrors, blocked }
    }
}

impl RegistryEntry {
    /// The fault, after the text that locates its line.
    fn mistake(&self) -> Option<(String, String)> {
        if self.prefix.is_empty() {
            return Some(("[[registry]]".into(), "a registry has neither prefix nor location".into()));
        }
        let own = Some(&self.location).filter(|location| !location.is_empty());
        let locations = || self.mirror.iter().map(|mirror| &mirror.location).chain(own);
        let is_wildcard = self.prefix.strip_prefix("*.").is_some_and(|domain| !domain.contains(['*', '/']));
        if self.prefix.contains('*') && !is_wildcard {
            return Some((
                self.prefix.clone(),
                format!("the prefix `{}` is not of the form `*.example.com`", self.prefix),
            ));
        }
        // A colon in the path starts a tag.
        let names_image =
            |text: &str| text.contains('@') || text.split_once('/').is_some_and(|(_, path)| path.contains(':'));
        if let Some(bad) = locations().chain([&self.prefix]).find(|text| names_image(text)) {
            return Some((bad.clone(), format!("`{bad}` names an image; expected a host or a repository")));
        }
        let prefix = self.prefix.strip_prefix("*.").unwrap_or(&self.prefix);
        if let Some(bad) = locations().map(String::as_str).chain([prefix]).find(|text| !is_place(text)) {
            let message = format!("`{bad}` is not a host or a host with a path (no scheme, no slash at the end)");
            return Some((if bad.is_empty() { "[[registry.mirror]]" } else { bad }.to_owned(), message));
        }
        if self.pull_from_mirror.is_some() {
            let message = "`pull-from-mirror` belongs in a [[registry.mirror]], not in the registry itself";
            return Some(("pull-from-mirror".into(), message.into()));
        }
        if self.mirror_by_digest_only && self.mirror.iter().any(|mirror| mirror.pulls != Pulls::All) {
            let message =
                "`mirror-by-digest-only` of the registry and `pull-from-mirror` of a mirror exclude each other";
            return Some(("mirror-by-digest-only".into(), message.into()));
        }
        None
    }
}

/// Whether this is a host, perhaps with a path.
fn is_place(text: &str) -> bool {
    let (host, path) = text.split_once('/').map_or((text, None), |(host, path)| (host, Some(path)));
    is_host(host) && path.is_none_or(is_repository)
}

/// The replacement for a table of version 1.
fn as_version_2(table: &str) -> String {
    let instead = match table {
        "search" => "`unqualified-search-registries = ['HOST']`",
        "insecure" => "for each host a [[registry]] with `location = 'HOST'` and `insecure = true`",
        "block" => "for each host a [[registry]] with `location = 'HOST'` and `blocked = true`",
        _ => "version 2, [[registry]],",
    };
    format!("[registries.{table}] is version 1 of the format: write {instead} instead")
}

/// The part of `name` (host and path) that `prefix` matches: a host, a host and leading parts of the path, or
/// `*.domain` for all hosts below a domain.
fn matched<'n>(prefix: &str, name: &'n str) -> Option<&'n str> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = name.split('/').next().unwrap_or(name);
        let without_port = host.split(':').next().unwrap_or(host);
        return (host.ends_with(domain) || without_port.ends_with(domain)).then_some(host);
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| &name[..prefix.len()])
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, SettingsError> {
    let error = |source| SettingsError::Read { file: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "conf") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The number of the first line with `what`, from 1.
fn line_of(text: &str, what: &str) -> usize {
    text.lines().position(|line| line.contains(what)).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> RegistriesConf {
        let mut conf = RegistriesConf::default();
        conf.add(text).unwrap();
        conf
    }

    fn place(registry: &str, repository: &str, insecure: bool) -> ConfiguredLocation {
        ConfiguredLocation { registry: registry.into(), repository: repository.into(), insecure, pulls: Pulls::All }
    }

    #[test]
    fn a_name_is_led_elsewhere() {
        let conf = conf(
            r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            prefix = "nvcr.io"
            location = "127.0.0.1:5000"
            insecure = true
            [[registry]]
            prefix = "nvcr.io/nvidia/k8s"
            location = "other.example/k8s"
            [[registry.mirror]]
            location = "near.example/cache"
            insecure = true
            pull-from-mirror = "all"
            [[registry.mirror]]
            location = "far.example"
            "#,
        );
        let places = conf.places("nvcr.io", "nvidia/pytorch");
        assert_eq!(places.primary, place("127.0.0.1:5000", "nvidia/pytorch", true));
        assert_eq!(places.mirrors, []);
        let longest = conf.places("nvcr.io", "nvidia/k8s/cuda");
        assert_eq!(longest.primary, place("other.example", "k8s/cuda", false));
        assert_eq!(longest.mirrors, [place("near.example", "cache/cuda", true), place("far.example", "cuda", false)]);
        assert_eq!(conf.places("nvcr.io", "nvidia/k8s-tools").primary.registry, "127.0.0.1:5000");
        assert_eq!(conf.places("nvcr.io.evil.example", "a").primary, place("nvcr.io.evil.example", "a", false));
        assert_eq!(conf.places("nvcr.io:5000", "a").primary, place("nvcr.io:5000", "a", false));
    }

    #[test]
    fn wildcards_and_blocks() {
        let conf = conf(
            "[[registry]]\nprefix='*.lab.example'\ninsecure=true\n[[registry]]\nlocation='bad.example'\nblocked=true",
        );
        assert_eq!(conf.places("a.lab.example:5000", "x/y").primary, place("a.lab.example:5000", "x/y", true));
        assert_eq!(conf.places("lab.example", "x").primary, place("lab.example", "x", false));
        assert!(conf.places("bad.example", "x").blocked);
    }

    #[test]
    fn a_host_is_no_repository() {
        let conf = conf(
            "[[registry]]\nprefix='a.example/b'\nlocation='c.example/d'\n[[registry.mirror]]\nlocation='e.example'\n\
             [[registry]]\nprefix='a.example/f'\nlocation='c.example'\n",
        );
        let whole = conf.places("a.example", "b");
        assert_eq!((whole.primary, whole.mirrors, whole.blocked), (place("c.example", "d", false), vec![], false));
        assert_eq!(conf.places("a.example", "b/x").mirrors, [place("e.example", "x", false)]);
        assert!(conf.places("a.example", "f").blocked);
        assert_eq!(conf.places("a.example", "f/x").primary, place("c.example", "x", false));
    }

    #[test]
    fn mirrors_are_for_tags_or_digests_or_both() {
        let conf = conf(
            r#"
            short-name-mode = "enforcing"
            credential-helpers = ["secretservice"]
            [[registry]]
            prefix = "*.lab.example"
            location = "led.example/lab"
            [[registry.mirror]]
            location = "a.example"
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "b.example"
            pull-from-mirror = "tag-only"
            [[registry.mirror]]
            location = "c.example"
            pull-from-mirror = ""
            [[registry]]
            location = "pinned.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "d.example"
            [aliases]
            "debian" = "docker.io/library/debian"
            "#,
        );
        let places = conf.places("x.y.lab.example", "a/b");
        assert_eq!(places.primary, place("led.example", "lab/a/b", false));
        let allowed = |place: &ConfiguredLocation| [By::Tag, By::Digest].map(|by| place.pulls.allow(by));
        let all: Vec<_> = places.mirrors.iter().map(allowed).collect();
        assert_eq!(all, [[false, true], [true, false], [true, true]]);
        let pinned = conf.places("pinned.example", "a");
        assert_eq!([allowed(&pinned.mirrors[0]), allowed(&pinned.primary)], [[false, true], [true, true]]);
    }

    #[test]
    fn what_is_of_version_1_or_makes_no_sense_is_refused() {
        let error = |text: &str| RegistriesConf::default().add(text).unwrap_err();
        for (text, line, said) in [
            ("\n[registries.insecure]\nregistries = ['a']\n", 2, "`location = 'HOST'` and `insecure = true`"),
            ("[registries.search]\nregistries = []\n", 1, "unqualified-search-registries"),
            ("[registries.block]\nregistries = []\n", 1, "`blocked = true`"),
            ("[[registry]]\nprefix = 'a.*.c'\n", 2, "not of the form `*.example.com`"),
            ("[[registry]]\nprefix = '*.a.b/c'\n", 2, "not of the form `*.example.com`"),
            ("[[registry]]\nlocation = 'a.b:5000/c:1.0'\n", 2, "names an image"),
            ("[[registry]]\nlocation = 'a'\npull-from-mirror = 'all'\n", 3, "belongs in a [[registry.mirror]]"),
            ("[[registry]]\nlocation='a'\n[[registry.mirror]]\nlocation='b'\npull-from-mirror='x'\n", 5, "`tag-only`"),
            (
                "[[registry]]\nlocation='a'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='b'\n\
                 pull-from-mirror='tag-only'\n",
                3,
                "exclude each other",
            ),
        ] {
            let (at, message) = error(text);
            assert!(at == line && message.contains(said), "{at}: {message}");
        }
    }

    #[test]
    fn an_error_names_its_line() {
        let error = |text: &str| RegistriesConf::default().add(text).unwrap_err();
        assert_eq!(error("# one\n[[registry]]\nlocation = 5\n").0, 3);
        assert_eq!(error("a = 1\nb =\n").0, 2);
        for bad in ["https://a", "a/", "/a", "a b", "a/B", "a:x", "*.a", "*.a/b/"] {
            assert_eq!(error(&format!("\n[[registry]]\nlocation = '{bad}'\n")).0, 3, "{bad}");
        }
        assert_eq!(error("[[registry]]\nlocation='a'\n\n[[registry.mirror]]\nlocation = ''\n").0, 4);
        assert_eq!(error("\n[[registry]]\ninsecure = true\n").0, 2);
        assert_eq!(error("[[registry]]\nlocation='a'\n[[registry.mirror]]\ninsecure = true\n").0, 3);
    }

    #[test]
    fn later_files_win() {
        let directory = tempfile::tempdir().unwrap();
        let dropped = directory.path().join("conf.d");
        fs::create_dir(&dropped).unwrap();
        let main = directory.path().join("registries.conf");
        fs::write(&main, "[[registry]]\nprefix='a'\nlocation='main'").unwrap();
        fs::write(dropped.join("20.conf"), "[[registry]]\nprefix='a'\nlocation='twenty'").unwrap();
        fs::write(dropped.join("10.conf"), "[[registry]]\nprefix='a'\nlocation='ten'").unwrap();
        fs::write(dropped.join("30.conf.bak"), "not toml").unwrap();
        let conf = RegistriesConf::read(&[main, dropped]).unwrap();
        assert_eq!(conf.places("a", "x").primary.registry, "twenty");
        assert!(RegistriesConf::read(&[directory.path().join("none")]).is_err());
    }
}
