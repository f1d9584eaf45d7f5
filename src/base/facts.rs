//! Facts about a base's filesystem that a build needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use ociforge_layers::merge::MergeError;
use ociforge_layers::source::wheel::normalize;
use ociforge_layers::{FileIndex, LayerPath};
use ociforge_manifests::{Digest, Image};
use serde::{Deserialize, Serialize};

use super::facts_filter::FactsFilter;
pub use super::facts_filter::TooManyFiles;
pub use super::python::Python;
use super::tree::{Tree, TreeEntry};
use crate::content::{ContentError, GET_IMAGE_AGAIN, Source};
use crate::error::Explain;
pub use crate::plan::Libc;
use crate::progress::Reporter;
use crate::rootfs::merge::{ReadLayerError, UnpackedLayers, merge_layers};
use crate::store::blob::write_atomic;

/// Incremented when the meaning of facts changes, so that stored ones are ignored.
const FORMAT: u32 = 3;

/// The content of a base's layers.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The facts in its files.
    pub facts: BaseFacts,
    /// The index of its files.
    pub files: FileIndex,
}

/// The facts about a base's filesystem. The same layers give the same facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseFacts {
    /// The variables of `os-release`.
    pub os_release: OsRelease,
    /// The Python that `PATH` finds.
    pub python: Option<Python>,
    /// The C library.
    pub libc: Option<Libc>,
    /// The distributions in that Python's package directories, sorted by normalised name.
    pub distributions: Vec<InstalledDistribution>,
    /// The text of the files in `PIP_CONSTRAINT`.
    pub constraints: Option<String>,
    /// `/etc/passwd`.
    pub passwd: Option<String>,
    /// `/etc/group`.
    pub group: Option<String>,
    /// Whether dpkg manages the system.
    pub dpkg: bool,
}

/// The variables of `os-release`, unquoted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OsRelease(pub BTreeMap<String, String>);

impl OsRelease {
    /// Whether the system is `id`, or lists it in `ID_LIKE`.
    #[must_use]
    pub fn is_like(&self, id: &str) -> bool {
        let value = |key: &str| self.0.get(key).map_or("", String::as_str);
        value("ID") == id || value("ID_LIKE").split_ascii_whitespace().any(|like| like == id)
    }

    /// Parses the text of the file.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        Self(pairs.map(|(key, value)| (key.trim().to_owned(), unquoted(value.trim()))).collect())
    }
}

fn unquoted(value: &str) -> String {
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    quoted.unwrap_or(value).to_owned()
}

/// An installed Python distribution of the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledDistribution {
    /// The name in its metadata.
    pub name: String,
    /// The version in its metadata.
    pub version: String,
    /// Its metadata (`METADATA` or `PKG-INFO`) up to the first blank line.
    pub metadata: String,
    /// Its `.dist-info` or `.egg-info`.
    pub path: String,
}

impl InstalledDistribution {
    /// The normalised name (PEP 503): lower case, runs of `-`, `_` and `.` as one `-`.
    #[must_use]
    pub fn normalized_name(&self) -> String {
        normalize(&self.name)
    }

    fn read(info: &LayerPath, metadata: &str) -> Option<Self> {
        let field = |name: &str| {
            let value = metadata.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        Some(Self {
            name: field("Name")?,
            version: field("Version")?,
            metadata: metadata.to_owned(),
            path: info.to_string(),
        })
    }
}

impl BaseFacts {
    pub(super) fn of(env: &[String], tree: &Tree) -> Self {
        let text = |name: &str| LayerPath::new(name).ok().and_then(|path| tree.text(&path)).map(str::to_owned);
        let os_release = text("etc/os-release").or_else(|| text("usr/lib/os-release")).unwrap_or_default();
        let os_release = OsRelease::read(&os_release);
        let found = Python::find(env, &os_release, tree);
        let (python, search) = found.map_or((None, Vec::new()), |(python, search)| (Some(python), search));
        let constraints: Vec<&str> = constraint_files(env).filter_map(|path| tree.text(&path)).collect();
        Self {
            libc: libc(tree),
            distributions: distributions(&search, tree),
            constraints: (!constraints.is_empty()).then(|| constraints.join("\n")),
            passwd: text("etc/passwd"),
            group: text("etc/group"),
            dpkg: text("var/lib/dpkg/status").is_some(),
            python,
            os_release,
        }
    }
}

/// The distributions in the directories of `search`; the first of several with one name counts.
fn distributions(search: &[LayerPath], tree: &Tree) -> Vec<InstalledDistribution> {
    let mut found = BTreeMap::new();
    for directory in search {
        for (path, kept) in tree.iter() {
            let TreeEntry::Text(text) = kept else { continue };
            let info = info_of(path);
            if info.parent().as_ref() == Some(directory)
                && info.file_name().ends_with(b"-info")
                && let Some(distribution) = InstalledDistribution::read(&info, text)
            {
                found.entry(distribution.normalized_name()).or_insert(distribution);
            }
        }
    }
    found.into_values().collect()
}

/// The `.dist-info` or `.egg-info` of the metadata file at `path`; an `.egg-info` may be that file.
fn info_of(path: &LayerPath) -> LayerPath {
    match path.file_name() {
        b"METADATA" | b"PKG-INFO" => path.parent().unwrap_or_default(),
        _ => path.clone(),
    }
}

/// The C library: its own version text, or else its package.
fn libc(tree: &Tree) -> Option<Libc> {
    let said = tree.iter().find_map(|(_, kept)| match kept {
        TreeEntry::Glibc(major, minor) => Some(Libc::Glibc(*major, *minor)),
        _ => None,
    });
    let packaged = || {
        let versions = tree.text(&LayerPath::new("var/lib/dpkg/status").ok()?)?;
        let version = versions.lines().find_map(|line| line.strip_prefix("libc6 "))?;
        let mut numbers = version.split(['.', '-', '+']).map_while(|number| number.parse().ok());
        Some(Libc::Glibc(numbers.next()?, numbers.next()?))
    };
    // Every musl in use has the interface of 1.2.
    let loader =
        |(path, kept): (&LayerPath, &TreeEntry)| *kept != TreeEntry::File && path.file_name().starts_with(b"ld-musl-");
    let musl = || tree.iter().any(loader).then_some(Libc::Musl(1, 2));
    said.or_else(packaged).or_else(musl)
}

/// The value of `key` in a list of `KEY=VALUE`; the last one counts.
pub(super) fn env_value<'a>(env: &'a [String], key: &str) -> Option<&'a str> {
    env.iter().rev().find_map(|entry| entry.strip_prefix(key)?.strip_prefix('='))
}

/// The files in `PIP_CONSTRAINT`.
pub(super) fn constraint_files(env: &[String]) -> impl Iterator<Item = LayerPath> {
    let names = env_value(env, "PIP_CONSTRAINT").unwrap_or_default().split_ascii_whitespace();
    names.filter(|name| name.starts_with('/')).filter_map(|name| LayerPath::new(name).ok())
}

/// An error of the scan of the base's filesystem.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// A layer cannot be fetched, or does not match the manifest.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer is not a valid archive.
    #[error("cannot read layer {layer} of the base")]
    Scan {
        /// The layer's digest.
        layer: Digest,
        /// The cause.
        source: MergeError<TooManyFiles>,
    },
    /// The facts cannot be stored.
    #[error("cannot write {path}")]
    Cache {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

impl From<ReadLayerError<TooManyFiles>> for FactsError {
    fn from(error: ReadLayerError<TooManyFiles>) -> Self {
        match error {
            ReadLayerError::Content(error) => Self::Content(error),
            ReadLayerError::Layer { layer, source } => Self::Scan { layer, source },
        }
    }
}

impl Explain for FactsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Scan { source: MergeError::Filter(TooManyFiles), .. } => {
                Some("set version, site-packages, executable and libc under [python] in the recipe".into())
            }
            Self::Scan { .. } => Some(GET_IMAGE_AGAIN.into()),
            Self::Cache { .. } => Some("choose another directory with --store".into()),
        }
    }
}

/// The facts of `image`, if the directory `cache` has them.
#[must_use]
pub fn known(image: &Image, cache: &Path) -> Option<BaseFacts> {
    let remembered: FactsFile<BaseFacts> = serde_json::from_slice(&fs::read(facts_path(image, cache)).ok()?).ok()?;
    (remembered.format == FORMAT).then_some(remembered.facts)
}

/// The content of the layers of `image`: from the directory `cache`, under the manifest's digest, or else from a scan
/// of every layer from `source`, the lowest first. The layers are not stored, but those that are missing in `unpack` are
/// unpacked into it from the same streams.
///
/// # Errors
/// When a layer cannot be fetched or read, or the result cannot be written.
pub(crate) async fn contents(
    image: &Image,
    source: &dyn Source,
    cache: &Path,
    reporter: &dyn Reporter,
    unpack: Option<UnpackedLayers<'_>>,
) -> Result<Contents, FactsError> {
    let path = facts_path(image, cache);
    if let Some(contents) = remembered(&path) {
        return Ok(contents);
    }
    let filter = FactsFilter::new(&image.config.config.env);
    let (filter, merged) = match unpack {
        None => merge_layers(filter, &image.manifest.layers, source, reporter).await?,
        Some(unpack) => {
            let (filter, merged, losses) = unpack.merge(filter, image, source, reporter).await?;
            losses.warnings().iter().for_each(|warning| reporter.warn(warning));
            (filter, merged)
        }
    };
    let (facts, files) = filter.facts(merged);
    let contents = Contents { facts, files };
    remember(&path, &contents).map_err(|source| FactsError::Cache { path: path.display().to_string(), source })?;
    Ok(contents)
}

/// A file of stored facts.
#[derive(Serialize, Deserialize)]
struct FactsFile<F> {
    format: u32,
    facts: F,
}

fn facts_path(image: &Image, cache: &Path) -> PathBuf {
    cache.join(format!("{}.json", image.manifest.digest().hex()))
}

/// The index of all files, beside the facts.
fn index_path(facts: &Path) -> PathBuf {
    facts.with_extension("files")
}

fn remembered(path: &Path) -> Option<Contents> {
    let remembered: FactsFile<BaseFacts> = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let files = FileIndex::open(&index_path(path)).ok()?;
    (remembered.format == FORMAT).then_some(Contents { facts: remembered.facts, files })
}

/// Writes the facts last: if they exist, the index exists.
fn remember(path: &Path, Contents { facts, files }: &Contents) -> io::Result<()> {
    write_atomic(&index_path(path), &files.to_file())?;
    write_atomic(path, &serde_json::to_vec(&FactsFile { format: FORMAT, facts })?)
}

#[cfg(test)]
mod tests {
    use ociforge_manifests::{ConfigEdit, Descriptor, DiffId, NewLayer, Platform, media_type};

    use super::*;
    use crate::store::Layout;

    #[test]
    fn os_release_and_names() {
        let os = OsRelease::read("# c\nID=ubuntu\nID_LIKE=\"debian x\"\nVERSION='1'\nbroken\n");
        assert!(os.is_like("debian") && os.is_like("ubuntu") && !os.is_like("deb"));
        assert_eq!(os.0["VERSION"], "1");
    }

    /// An image of one layer in a layout.
    fn image(layer: &[u8]) -> (tempfile::TempDir, Layout, Image) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path().join("layout")).unwrap();
        layout.put(layer).unwrap();
        let layer = NewLayer {
            descriptor: Descriptor::of(media_type::LAYER_TAR, layer),
            diff_id: DiffId(Digest::of(layer)),
            created_by: "test".into(),
        };
        let scratch = Image::scratch(&Platform::default()).unwrap();
        let image = scratch.append(&[layer], &ConfigEdit::default(), "1970-01-01T00:00:00Z", &BTreeMap::new()).unwrap();
        (directory, layout, image)
    }

    fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[tokio::test]
    async fn facts_are_found_once() {
        let (directory, layout, image) = image(&tar(&[("etc/os-release", "ID=x\n")]));
        let cache = directory.path().join("facts");
        let found = contents(&image, &layout, &cache, &(), None).await.unwrap();
        assert_eq!(found.facts.os_release.0["ID"], "x");
        fs::remove_file(layout.blob_path(&image.manifest.layers[0].digest)).unwrap();
        let again = contents(&image, &layout, &cache, &(), None).await.unwrap();
        assert_eq!(again.facts, found.facts);
        assert_eq!(again.files.lines().collect::<Vec<_>>(), ["/etc dir 0755 0:0 0", "/etc/os-release file"]);
        let remembered = cache.join(format!("{}.json", image.manifest.digest().hex()));
        let damages: [&dyn Fn(); 2] = [&|| fs::write(remembered.with_extension("files"), "x").unwrap(), &|| {
            fs::write(&remembered, "{\"format\":0}").unwrap()
        }];
        for damage in damages {
            damage();
            assert!(matches!(contents(&image, &layout, &cache, &(), None).await, Err(FactsError::Content(_))));
        }
    }

    #[tokio::test]
    async fn a_damaged_layer_teaches_nothing() {
        let good = tar(&[("etc/os-release", "ID=x\n")]);
        let (directory, layout, image) = image(&good);
        let cache = directory.path().join("facts");
        let blob = layout.blob_path(&image.manifest.layers[0].digest);
        let changed = tar(&[("etc/os-release", "ID=y\n")]);
        for (bytes, cause) in [(&changed[..], "the digest is"), (&good[..600], "the size is 600 bytes")] {
            fs::write(&blob, bytes).unwrap();
            let error = contents(&image, &layout, &cache, &(), None).await.unwrap_err();
            let FactsError::Content(error) = error else { panic!("{error}") };
            assert!(error.cause.to_string().starts_with(cause), "{}", error.cause);
            assert!(!cache.exists());
        }
    }

    #[tokio::test]
    async fn what_is_no_tar_is_named() {
        let (directory, layout, image) = image(&[7; 1024]);
        let error = contents(&image, &layout, directory.path(), &(), None).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot read layer sha256:") && error.hint().is_some());
    }
}
