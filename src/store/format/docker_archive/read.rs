//! Reading of archives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use ociforge_layers::decompress::CompressionFormat;
use ociforge_manifests::graph::{GraphNode, Index, Manifest};
use ociforge_manifests::{ArchivedImage, Config, Descriptor, DiffId, Digest, Document, Hasher, media_type};
use serde_json::json;

use super::{Item, MANIFEST, complete, familiar};
use crate::content::{ByteStream, Cause, ContentError, Named, Source, Verifier, in_memory};
use crate::store::format::blob_name::{blob_name, digest_of};
use crate::store::format::tar_file::{Entries, GET_AGAIN, TarFile, TarRange, normal};

/// A `docker-archive` as a source.
#[derive(Debug)]
pub struct DockerArchive {
    tar: Arc<TarFile>,
    entries: Entries,
    items: Vec<Item>,
}

/// An image of a [`DockerArchive`]: its manifest, and the offsets of its config and layers in the file.
///
/// The manifest is that of the archive if it is also an OCI layout. Otherwise an OCI manifest is created, the same one
/// for the same file; the config keeps its bytes, so the image keeps its id.
#[derive(Debug)]
pub struct DockerImage {
    tar: Arc<TarFile>,
    manifest: Document<Manifest>,
    descriptor: Descriptor,
    blobs: BTreeMap<Digest, TarRange>,
    /// Complete names, sorted.
    names: BTreeSet<String>,
}

/// A fault of an image in an archive.
#[derive(Debug, thiserror::Error)]
enum ArchiveDamage {
    #[error("the image refers to the file `{0}`, which is missing")]
    Missing(String),
    #[error("the image has {layers} layers but its config {diff_ids} diff ids")]
    Layers { layers: usize, diff_ids: usize },
    #[error("the layer `{0}` is compressed with bzip2 or xz; layers of images are plain or in gzip or zstd")]
    Compression(String),
}

impl DockerArchive {
    /// Opens an archive and records the offsets of its files. It reads only the headers and `manifest.json`, but
    /// decompresses a compressed file completely.
    ///
    /// # Errors
    /// When the file cannot be read, is not a tar file with `manifest.json`, or has invalid entries: devices, paths out
    /// of the root, the same name twice.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ContentError> {
        let path = path.into();
        let operation = format!("open the archive {}", path.display());
        Self::scan(path).map_err(|cause| cause.of(operation))
    }

    fn scan(path: PathBuf) -> Result<Self, Cause> {
        let tar = TarFile::open(path)?;
        let entries = tar.entries(|_| true, true)?;
        let Some((_, place)) = entries.file(MANIFEST)? else {
            let layout = entries.file("index.json")?.is_some();
            return Err(Cause::Other {
                message: format!("the archive has no {MANIFEST}: it is not an archive of `docker save` 1.10 or later"),
                hint: layout.then(|| "the file looks like an OCI layout: use oci-archive:FILE".into()),
            });
        };
        let items = serde_json::from_slice(&tar.read_whole(place)?).map_err(|error| Cause::Other {
            message: format!("its {MANIFEST} is not valid: {error}"),
            hint: Some(GET_AGAIN.into()),
        })?;
        Ok(Self { tar: Arc::new(tar), entries, items })
    }

    /// The names of all images in the archive, in its order. An image may have none or several.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.items.iter().flat_map(Item::names).map(String::as_str).collect()
    }

    /// The requested image, or the only one. The call blocks: it reads layers in gzip or zstd to compute their digests.
    ///
    /// # Errors
    /// When the image does not exist or is invalid: files are missing, links lead out of the archive or in a loop, a
    /// digest is wrong, or config and layers do not match.
    pub fn image(&self, wanted: Option<&ArchivedImage>) -> Result<DockerImage, ContentError> {
        let shown = wanted.map_or_else(String::new, |wanted| format!("{} from ", shown(wanted)));
        let image = self.find(wanted).and_then(|item| self.prepare(item));
        image.map_err(|cause| cause.of(format!("read {shown}the archive {}", self.tar.path.display())))
    }

    fn find(&self, wanted: Option<&ArchivedImage>) -> Result<&Item, Cause> {
        let called = |(at, item): &(usize, &Item)| match wanted {
            Some(ArchivedImage::Named(name)) => item.names().iter().any(|shown| complete(shown).as_ref() == Some(name)),
            Some(ArchivedImage::At(index)) => at == index,
            None => true,
        };
        let mut found = self.items.iter().enumerate().filter(called);
        let all = || self.choices().join(", ");
        let (message, hint) = match (found.next(), found.next(), wanted) {
            (Some((_, item)), None, _) => return Ok(item),
            (None, _, None) => ("the archive is empty".into(), None),
            (None, _, Some(wanted)) => {
                (format!("the archive has no image `{}`", shown(wanted)), Some(format!("it has: {}", all())))
            }
            (Some(_), Some(_), None) => {
                ("the archive has several images".into(), Some(format!("name one of them: {}", all())))
            }
            (Some((first, _)), Some((second, _)), Some(wanted)) => (
                format!("the archive has several images `{}`", shown(wanted)),
                Some(format!("choose one by its position: @{first}, @{second}, …")),
            ),
        };
        Err(Cause::Other { message, hint: hint.filter(|_| !self.items.is_empty()) })
    }

    /// The names to request images by: their own, or `@INDEX` for an image without a name.
    fn choices(&self) -> Vec<String> {
        let choices = self.items.iter().enumerate().map(|(at, item)| match item.names() {
            [] => vec![format!("@{at}")],
            names => names.to_vec(),
        });
        choices.flatten().collect()
    }

    fn prepare(&self, item: &Item) -> Result<DockerImage, Cause> {
        let (own, place) = self.file(&item.config)?;
        let config: Document<Config> = Document::parse(self.tar.read_whole(place)?)?;
        let (expected, actual) = (digest_in(&own), config.digest());
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(Cause::WrongDigest { expected, actual });
        }
        let (manifest, mut blobs) = match self.own_manifest(&config)? {
            Some(manifest) => manifest,
            None => self.make_manifest(item, &config)?,
        };
        blobs.insert(actual, place);
        let descriptor = manifest.descriptor(manifest.media_type.as_deref().unwrap_or(media_type::MANIFEST));
        let names = item.names().iter().filter_map(|shown| Some(complete(shown)?.whole())).collect();
        Ok(DockerImage { tar: Arc::clone(&self.tar), manifest, descriptor, blobs, names })
    }

    /// The file `name` of [`MANIFEST`], with its real name if it is a link.
    fn file(&self, name: &str) -> Result<(String, TarRange), Cause> {
        let missing = || Cause::from(ArchiveDamage::Missing(name.to_owned()));
        let normal = normal(Path::new(name)).ok_or_else(missing)?;
        let (own, place) = self.entries.file(&normal)?.ok_or_else(missing)?;
        Ok((own.to_owned(), place))
    }

    /// A manifest for the layers of `item`, and their offsets.
    fn make_manifest(&self, item: &Item, config: &Document<Config>) -> Result<PlacedManifest, Cause> {
        let (names, diff_ids) = (item.layers(), &config.rootfs.diff_ids);
        if names.len() != diff_ids.len() {
            return Err(ArchiveDamage::Layers { layers: names.len(), diff_ids: diff_ids.len() }.into());
        }
        let mut blobs = BTreeMap::new();
        let mut layers = Vec::with_capacity(names.len());
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let (layer, place) = self.layer(name, diff_id)?;
            blobs.insert(layer.digest.clone(), place);
            layers.push(layer);
        }
        let manifest = Document::from_json(json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": config.descriptor(media_type::CONFIG),
            "layers": layers,
        }))?;
        Ok((manifest, blobs))
    }

    /// The layer in the file `name`. The digest of a plain tar is the diff id, which its reader verifies.
    fn layer(&self, name: &str, diff_id: &DiffId) -> Result<(Descriptor, TarRange), Cause> {
        let (own, place) = self.file(name)?;
        let beginning = self.tar.read_whole(TarRange { length: place.length.min(6), ..place })?;
        let (media_type, digest) = match CompressionFormat::of(&beginning) {
            CompressionFormat::Plain => (media_type::LAYER_TAR, diff_id.0.clone()),
            CompressionFormat::Gzip => (media_type::LAYER_GZIP, self.digest(&own, place)?),
            CompressionFormat::Zstd => (media_type::LAYER_ZSTD, self.digest(&own, place)?),
            CompressionFormat::Bzip2 | CompressionFormat::Xz => {
                return Err(ArchiveDamage::Compression(name.to_owned()).into());
            }
        };
        Ok((Descriptor::new(media_type, digest, place.length), place))
    }

    /// The digest of a file: the name of a layout's blob, or else its hash.
    fn digest(&self, own: &str, place: TarRange) -> Result<Digest, Cause> {
        if let Some(digest) = digest_of(own) {
            return Ok(digest);
        }
        let mut hasher = Hasher::default();
        self.tar.read(place, |bytes| hasher.update(bytes))?;
        Ok(hasher.finish())
    }

    /// The manifest of the image with this config, and the offsets of its layers, if the archive is also a layout that
    /// has this manifest and all its layers.
    fn own_manifest(&self, config: &Document<Config>) -> Result<Option<PlacedManifest>, Cause> {
        let Some((_, place)) = self.entries.file("index.json")? else { return Ok(None) };
        let index: Document<Index> = Document::parse(self.tar.read_whole(place)?)?;
        let mut waiting = index.manifests.clone();
        let mut seen = BTreeSet::new();
        while let Some(descriptor) = waiting.pop() {
            if !media_type::MANIFESTS.contains(&&*descriptor.media_type) {
                continue;
            }
            let Some(place) = self.blob(&descriptor)?.filter(|_| seen.insert(descriptor.digest.clone())) else {
                continue;
            };
            let bytes = self.tar.read_whole(place)?;
            let mut check = Verifier::new(&descriptor);
            check.take(&bytes)?;
            check.finish()?;
            match GraphNode::parse(&descriptor.media_type, bytes)? {
                GraphNode::Index(index) => waiting.extend(index.manifests.iter().cloned()),
                GraphNode::Manifest(manifest) if manifest.config.digest == config.digest() => {
                    if let Some(blobs) = self.all_layers(&manifest)? {
                        return Ok(Some((*manifest, blobs)));
                    }
                }
                GraphNode::Manifest(_) => {}
            }
        }
        Ok(None)
    }

    fn all_layers(&self, manifest: &Manifest) -> Result<Option<BTreeMap<Digest, TarRange>>, Cause> {
        let places =
            manifest.layers.iter().map(|layer| Ok(self.blob(layer)?.map(|place| (layer.digest.clone(), place))));
        places.collect()
    }

    /// The offset of the layout's blob of `descriptor`; `None` if no blob has its size.
    fn blob(&self, descriptor: &Descriptor) -> Result<Option<TarRange>, Cause> {
        let place = self.entries.file(&blob_name(&descriptor.digest))?.map(|(_, place)| place);
        Ok(place.filter(|place| place.length == descriptor.size))
    }
}

/// The requested name of an image as docker shows it.
fn shown(wanted: &ArchivedImage) -> String {
    match wanted {
        ArchivedImage::Named(name) => familiar(name),
        ArchivedImage::At(_) => wanted.to_string(),
    }
}

/// A manifest, and the offsets of its layers.
type PlacedManifest = (Document<Manifest>, BTreeMap<Digest, TarRange>);

/// The SHA-256 digest in the name of a config's file, if any: `<hex>.json`, or as in a layout.
fn digest_in(name: &str) -> Option<Digest> {
    let hex = name.strip_suffix(".json").map(|hex| format!("sha256:{hex}"));
    digest_of(name).or_else(|| hex?.parse().ok()).filter(|digest| digest.algorithm() == "sha256")
}

impl DockerImage {
    /// The descriptor of the image's manifest.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

#[async_trait]
impl Source for DockerImage {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        if descriptor.digest != self.descriptor.digest {
            return self.tar.fetch(descriptor, self.blobs.get(&descriptor.digest).copied(), offset);
        }
        Ok(in_memory(self.manifest.bytes().to_vec(), offset))
    }

    fn location(&self, _: &Descriptor) -> String {
        self.tar.path.display().to_string()
    }
}

/// Its tags are the complete names of the image, such as `docker.io/library/debian:latest`.
#[async_trait]
impl Named for DockerImage {
    async fn tagged(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, ContentError> {
        let known = self.names.contains(tag);
        Ok(known.then(|| (self.descriptor.clone(), self.manifest.bytes().to_vec())))
    }

    async fn tags(&self) -> Result<Vec<String>, ContentError> {
        Ok(self.names.iter().cloned().collect())
    }

    async fn referrers(&self, _: &Descriptor) -> Result<Vec<Descriptor>, ContentError> {
        Ok(Vec::new())
    }
}

impl From<ArchiveDamage> for Cause {
    fn from(damage: ArchiveDamage) -> Self {
        Self::Other { message: damage.to_string(), hint: Some(GET_AGAIN.into()) }
    }
}
