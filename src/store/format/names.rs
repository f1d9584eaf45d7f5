//! The part of a layout or an archive that belongs to one repository.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::graph::{GraphNode, Index};
use ociforge_manifests::reference::EntryName;
use ociforge_manifests::{Descriptor, Digest, Document, media_type};
use tokio::sync::OnceCell;

use super::index::{REPOSITORY, name_of};
use super::layout::REF_NAME;
use crate::content::{ByteStream, Cause, ContentError, Named, Repository, Source, read_document};

/// A source with an `index.json`: a layout, or an archive of one.
pub trait Indexed: Source {
    /// The current index.
    ///
    /// # Errors
    /// When it cannot be read or is not an index.
    fn index(&self) -> Result<Document<Index>, Cause>;

    /// Its path, for messages.
    fn place(&self) -> String;

    /// The size in bytes of the blob of this digest; `None` if it does not exist.
    fn blob_size(&self, digest: &Digest) -> Option<u64>;
}

/// A layout or an archive as one repository, with its index at the time of creation.
///
/// Without a repository name, the tags are the names without a slash or a colon, as in `oci:DIR:TAG`, and any name can
/// be requested. With a repository name, such as `HOST/a/b`, the tag `t` is the entry `HOST/a/b:t`, and `latest` may
/// also be the entry `HOST/a/b`.
#[derive(Clone)]
pub struct Names {
    place: Arc<dyn Indexed>,
    index: Arc<Document<Index>>,
    repository: Option<String>,
    referrers: Arc<OnceCell<Referrers>>,
}

/// The index entries with a subject, by its digest.
type Referrers = HashMap<Digest, Vec<Referrer>>;

/// A manifest that has a subject.
struct Referrer {
    /// The repository that its entry is in.
    repository: Option<String>,
    listed: Descriptor,
}

impl Names {
    /// The bare names in `place`.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn new(place: Arc<dyn Indexed>) -> Result<Self, ContentError> {
        let index = place.index().map_err(|cause| cause.of(format!("read the index of {}", place.place())))?;
        Ok(Self { place, index: Arc::new(index), repository: None, referrers: Arc::default() })
    }

    /// The same layout or archive, with its cached documents, as the repository of this name, host included.
    #[must_use]
    pub fn of(&self, repository: impl Into<String>) -> Self {
        Self { repository: Some(repository.into()), ..self.clone() }
    }

    /// The whole index.
    #[must_use]
    pub fn index(&self) -> &Document<Index> {
        &self.index
    }

    /// The size in bytes of the blob of this digest in any repository; `None` if it does not exist.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.place.blob_size(digest)
    }

    /// All named index entries of all repositories with their names, in the index's order. The descriptors do not have
    /// the annotation of the name.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, Descriptor)> {
        let named = |entry: &Descriptor| Some((name_of(entry)?.to_owned(), bare(entry)));
        self.index.manifests.iter().filter_map(named).collect()
    }

    /// The entry of `tag`. An exact name has precedence over an abbreviated one.
    fn find(&self, tag: &str) -> Result<Option<Descriptor>, ContentError> {
        let exact = self.repository.as_ref().map_or_else(|| tag.to_owned(), |repository| format!("{repository}:{tag}"));
        let called = |entry: &&Descriptor| name_of(entry) == Some(&exact);
        let fitting = |entry: &&Descriptor| self.tag_of(entry) == Some(tag);
        let mut found: Vec<_> = self.index.manifests.iter().filter(called).collect();
        if found.is_empty() {
            found = self.index.manifests.iter().filter(fitting).collect();
        }
        match ambiguous(&found) {
            Some(several) => {
                let message = format!("the name is ambiguous: {several}");
                Err(Cause::Other { message, hint: None }.of(format!("find `{exact}` in {}", self.place.place())))
            }
            None => Ok(found.first().map(|first| bare(first))),
        }
    }

    /// The tag of the entry in this repository.
    fn tag_of<'a>(&self, entry: &'a Descriptor) -> Option<&'a str> {
        let EntryName { repository, tag } = EntryName::of(name_of(entry)?);
        tag.filter(|_| repository == self.repository.as_deref())
    }

    /// Reads the documents of all entries for their subjects. Missing and damaged documents are ignored: an archive may
    /// have only a part of an image, and one damaged image must not block the others.
    async fn read_referrers(&self) -> Result<Referrers, ContentError> {
        let mut referrers = Referrers::new();
        for entry in &self.index.manifests {
            let kind = &entry.media_type;
            if !entry.is_document() {
                continue;
            }
            let bytes = match read_document(&*self.place, entry).await {
                Err(error) if is_of_the_document(&error.cause) => continue,
                bytes => bytes?,
            };
            let Ok(node) = GraphNode::parse(kind, bytes) else { continue };
            if let Some(subject) = node.subject() {
                let repository = repository_of(entry).map(str::to_owned);
                let referrer = Referrer { repository, listed: node.as_referrer(entry) };
                referrers.entry(subject.digest.clone()).or_default().push(referrer);
            }
        }
        Ok(referrers)
    }
}

#[async_trait]
impl Source for Names {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        self.place.fetch(descriptor, offset).await
    }

    fn location(&self, descriptor: &Descriptor) -> String {
        self.place.location(descriptor)
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        self.place.repository(descriptor)
    }
}

#[async_trait]
impl Named for Names {
    async fn tagged(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, ContentError> {
        let Some(entry) = self.find(tag)? else { return Ok(None) };
        let bytes = read_document(&*self.place, &entry).await?;
        Ok(Some((entry, bytes)))
    }

    async fn tags(&self) -> Result<Vec<String>, ContentError> {
        let tags: BTreeSet<&str> = self.index.manifests.iter().filter_map(|entry| self.tag_of(entry)).collect();
        Ok(tags.into_iter().map(str::to_owned).collect())
    }

    async fn referrers(&self, subject: &Descriptor) -> Result<Vec<Descriptor>, ContentError> {
        let all = self.referrers.get_or_try_init(|| self.read_referrers()).await?;
        // An entry without a repository belongs to every one.
        let here = |referrer: &&Referrer| {
            self.repository.is_none() || referrer.repository.is_none() || referrer.repository == self.repository
        };
        let own = all.get(&subject.digest).into_iter().flatten().filter(here).map(|referrer| referrer.listed.clone());
        let mut found: BTreeMap<_, _> = own.map(|listed| (listed.digest.clone(), listed)).collect();
        // Clients of registries without the referrers API store the list under a tag.
        let tag = subject.digest.referrers_tag();
        if let Some(list) = self.find(&tag)?.filter(|list| media_type::is_index(&list.media_type)) {
            let bytes = read_document(&*self.place, &list).await?;
            let list = Document::<Index>::parse(bytes);
            let list = list.map_err(|error| Cause::from(error).of(format!("read the referrers under `{tag}`")))?;
            for entry in &list.manifests {
                found.entry(entry.digest.clone()).or_insert_with(|| entry.clone());
            }
        }
        Ok(found.into_values().collect())
    }
}

/// Whether the document is the cause, and not the disk.
fn is_of_the_document(cause: &Cause) -> bool {
    use Cause::{Algorithm, Document, NotFound, TooLarge, WrongDigest, WrongSize};
    matches!(cause, NotFound | WrongDigest { .. } | WrongSize { .. } | TooLarge { .. } | Algorithm(_) | Document(_))
}

/// The entries as text, if they are different images: the name is ambiguous.
pub(crate) fn ambiguous(entries: &[&Descriptor]) -> Option<String> {
    let (first, others) = entries.split_first()?;
    others.iter().any(|other| other.digest != first.digest).then(|| {
        let shown = |entry: &&Descriptor| format!("{} ({})", name_of(entry).unwrap_or_default(), entry.digest);
        entries.iter().map(shown).collect::<Vec<_>>().join(" and ")
    })
}

/// The repository of an entry, if it has one.
fn repository_of(entry: &Descriptor) -> Option<&str> {
    match name_of(entry) {
        Some(name) => EntryName::of(name).repository,
        None => entry.annotations.get(REPOSITORY).map(String::as_str),
    }
}

/// An entry without its name.
fn bare(entry: &Descriptor) -> Descriptor {
    let mut bare = entry.clone();
    bare.annotations.retain(|key, _| key != REF_NAME && key != REPOSITORY);
    bare
}

#[cfg(test)]
mod tests;
