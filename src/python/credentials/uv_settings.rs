//! Indexes and the keyring provider in uv's environment variables and configuration files.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use super::keyring::{self, PROVIDER};

/// uv's environment variables for indexes.
const VARIABLES: [&str; 5] = ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"];

/// The settings that ociforge uses.
pub(super) struct UvSettings {
    /// Indexes with a user.
    pub(super) indexes: Vec<Url>,
    /// Whether to query the keyring.
    pub(super) keyring: bool,
}

/// A `uv.toml`, or `[tool.uv]` of a `pyproject.toml`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct UvConfig {
    index: Vec<UvIndex>,
    index_url: Option<String>,
    extra_index_url: Vec<String>,
    find_links: Vec<String>,
    keyring_provider: Option<String>,
    pip: Option<Box<UvConfig>>,
}

#[derive(Deserialize)]
struct UvIndex {
    name: Option<String>,
    url: String,
}

impl UvSettings {
    pub(super) fn read(directory: &Path) -> Self {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let configs: Vec<UvConfig> = match variable("UV_NO_CONFIG") {
            Some(_) => Vec::new(),
            None => files(directory).iter().filter_map(|path| config(path)).collect(),
        };
        let mut named: Vec<(Option<String>, String)> =
            VARIABLES.iter().filter_map(|v| variable(v)).flat_map(|v| listed(&v)).collect();
        for config in configs.iter().chain(configs.iter().filter_map(|config| config.pip.as_deref())) {
            named.extend(config.index.iter().map(|index| (index.name.clone(), index.url.clone())));
            let urls = config.index_url.iter().chain(&config.extra_index_url).chain(&config.find_links);
            named.extend(urls.map(|url| (None, url.clone())));
        }
        let provider = variable(PROVIDER).or_else(|| configs.iter().find_map(|config| config.keyring_provider.clone()));
        let keyring = provider.map_or_else(keyring::is_installed, |provider| provider == "subprocess");
        let indexes = named.into_iter().filter_map(|(name, url)| completed(name.as_deref(), &url, &variable));
        Self { indexes: indexes.collect(), keyring }
    }
}

/// The URLs of a variable, separated by whitespace or commas, each with an optional name as `name=URL`.
fn listed(value: &str) -> Vec<(Option<String>, String)> {
    let words = value.split([' ', ',']).filter(|word| !word.is_empty());
    let named = words.map(|word| match word.split_once('=').filter(|(name, _)| !name.contains(':')) {
        Some((name, url)) => (Some(name.to_owned()), url.to_owned()),
        None => (None, word.to_owned()),
    });
    named.collect()
}

/// The URL of an index with its user and password, which may be in variables with its name; `None` without a user.
fn completed(name: Option<&str>, url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<Url> {
    let mut url = Url::parse(url).ok()?;
    if let Some(name) = name {
        let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let of_name =
            |what: &str| variable(&format!("UV_INDEX_{}_{what}", name.chars().map(upper).collect::<String>()));
        // These fail only for URLs without a host.
        let _ = of_name("USERNAME").map(|user| url.set_username(&user));
        let _ = of_name("PASSWORD").map(|password| url.set_password(Some(&password)));
    }
    super::has_user(&url).then_some(url)
}

/// uv's configuration files, in descending precedence.
fn files(directory: &Path) -> Vec<PathBuf> {
    if let Some(file) = env::var_os("UV_CONFIG_FILE").filter(|file| !file.is_empty()) {
        return vec![file.into()];
    }
    let directory = std::path::absolute(directory).unwrap_or_default();
    let projects = directory.ancestors().flat_map(|above| ["uv.toml", "pyproject.toml"].map(|name| above.join(name)));
    // The nearest file counts; uv searches no further.
    let project = projects.into_iter().find(|path| config(path).is_some());
    let home = || env::home_dir().map(|home| home.join(".config"));
    let user = env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(home);
    project.into_iter().chain(user.map(|user| user.join("uv/uv.toml"))).chain(["/etc/uv/uv.toml".into()]).collect()
}

/// The contents of a file; `None` if it does not exist or has no settings of uv. uv reports its faults.
fn config(path: &Path) -> Option<UvConfig> {
    let table: toml::Table = fs::read_to_string(path).ok()?.parse().ok()?;
    let table = match path.file_name()?.to_str()? {
        "pyproject.toml" => table.get("tool")?.get("uv")?.clone(),
        _ => toml::Value::Table(table),
    };
    table.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn indexes_of_variables_and_files() {
        assert_eq!(
            listed("a=https://u:p@h/simple https://plain/x,https://tok@k:1/?a=b"),
            [
                (Some("a".into()), "https://u:p@h/simple".into()),
                (None, "https://plain/x".into()),
                (None, "https://tok@k:1/?a=b".into())
            ]
        );
        let variables = BTreeMap::from([("UV_INDEX_MY_OWN_USERNAME", "u"), ("UV_INDEX_MY_OWN_PASSWORD", "p@")]);
        let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        let shown = |name, url| completed(name, url, &variable).map(|url| url.to_string());
        assert_eq!(shown(Some("my-own"), "https://h/s").as_deref(), Some("https://u:p%40@h/s"));
        assert_eq!(shown(Some("other"), "https://h/s"), None);
        assert_eq!(shown(None, "https://tok@h/s").as_deref(), Some("https://tok@h/s"));
    }

    #[test]
    fn the_nearest_project_counts() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            fs::create_dir_all(directory.path().join("a/b")).unwrap();
            fs::write(directory.path().join(name), text).unwrap();
        };
        let urls = || {
            let files = files(&directory.path().join("a/b"));
            let config = files.first().and_then(|path| config(path)).unwrap_or_default();
            config.index.into_iter().map(|index| index.url).chain(config.index_url).collect::<Vec<_>>()
        };
        write("uv.toml", "index-url = 'https://outer'\nunknown = 1\n");
        assert_eq!(urls(), ["https://outer"]);
        write("a/pyproject.toml", "[tool.other]\nindex-url = 'x'\n");
        assert_eq!(urls(), ["https://outer"]);
        write("a/pyproject.toml", "[[tool.uv.index]]\nname = 'i'\nurl = 'https://inner'\n");
        assert_eq!(urls(), ["https://inner"]);
    }
}
