//! The tags and referrers of a repository.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use ociforge_manifests::Descriptor;
use ociforge_manifests::reference::is_tag;
use reqwest::header::HeaderMap;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fault::Fault;
use super::list::{Pages, no_list};
use super::manifest::get_manifest;
use super::origin::Origin;
use super::referrers;
use super::registries_conf::By;
use super::remote::{Remote, what};
use crate::content::{Cause, ContentError, Named, TagSink};

/// Reads a page of the list of tags, and shows each of them to the sink.
struct Page<'a>(&'a mut dyn TagSink);

/// Reads the tags of a page.
struct Tags<'a>(&'a mut dyn TagSink);

impl<'de> DeserializeSeed<'de> for Page<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "tags" => map.next_value_seed(Tags(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Tags<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tags<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tags: A) -> Result<(), A::Error> {
        while let Some(tag) = tags.next_element::<Cow<'de, str>>()? {
            self.0.take(&tag);
        }
        Ok(())
    }
}

/// Passes on valid tags, and records an invalid one.
struct CheckedName<'a> {
    sink: &'a mut dyn TagSink,
    bad: Option<String>,
}

impl TagSink for CheckedName<'_> {
    fn begin(&mut self) {
        self.sink.begin();
    }

    fn take(&mut self, tag: &str) {
        if is_tag(tag) {
            self.sink.take(tag);
        } else if self.bad.is_none() {
            self.bad = Some(tag.escape_debug().to_string());
        }
    }
}

#[async_trait]
impl Named for Remote {
    async fn tagged(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, ContentError> {
        let (mut own, mut none) = (Err(self.forbidden()), false);
        for (index, origin) in self.pull_order(By::Tag) {
            match get_manifest(origin, tag, None).await {
                Ok(found) => {
                    self.serving.store(index, Ordering::Relaxed);
                    return Ok(Some(found));
                }
                Err(fault) if self.is_primary(index) => {
                    own = if fault.is_not_found() { Ok(None) } else { Err(fault.cause) };
                }
                Err(fault) => none |= fault.is_not_found(),
            }
        }
        own = own.or_else(|cause| if none && is_out_of_reach(&cause) { Ok(None) } else { Err(cause) });
        own.map_err(|cause| cause.of(format!("read the manifest of {}:{tag}", self.name())))
    }

    async fn tags(&self) -> Result<Vec<String>, ContentError> {
        let mut tags = BTreeSet::new();
        self.show_tags(&mut tags).await?;
        Ok(tags.into_iter().collect())
    }

    async fn show_tags(&self, sink: &mut dyn TagSink) -> Result<(), ContentError> {
        let mut failed = self.forbidden();
        for (index, origin) in self.pull_order(By::Tag) {
            match list_tags(origin, sink).await {
                Ok(()) => return Ok(()),
                Err(fault) if self.is_primary(index) => failed = fault.cause,
                Err(_) => {}
            }
        }
        Err(failed.of(format!("list the tags of {}", self.name())))
    }

    async fn referrers(&self, subject: &Descriptor) -> Result<Vec<Descriptor>, ContentError> {
        let (mut failed, mut none) = (self.forbidden(), false);
        for (index, origin) in self.pull_order(By::Digest) {
            match referrers::list(origin, &subject.digest).await {
                // A mirror without referrers may not have them yet.
                Ok(found) if found.is_empty() && !self.is_primary(index) => none = true,
                Ok(found) => return Ok(found),
                Err(fault) if self.is_primary(index) => failed = fault.cause,
                Err(_) => {}
            }
        }
        if none && is_out_of_reach(&failed) {
            return Ok(Vec::new());
        }
        Err(failed.of(format!("list the referrers of {} in {}", what(subject), self.name())))
    }
}

/// Whether the repository itself did not answer. Then the answer of a mirror that nothing exists is accepted: otherwise
/// every query for optional content would fail in an isolated network with mirrors.
fn is_out_of_reach(cause: &Cause) -> bool {
    matches!(cause, Cause::Network { .. })
}

async fn list_tags(origin: &Origin, sink: &mut dyn TagSink) -> Result<(), Fault> {
    let registry = &origin.endpoint.registry;
    let mut pages = Pages::new(origin, origin.url(&["tags", "list"]).await?, HeaderMap::new());
    let mut checked = CheckedName { sink, bad: None };
    checked.begin();
    while let Some(page) = pages.next().await? {
        let mut input = serde_json::Deserializer::from_reader(page);
        let read = Page(&mut checked).deserialize(&mut input).and_then(|()| input.end());
        read.map_err(|_| no_list(registry, "tags"))?;
        if let Some(bad) = checked.bad {
            let message = format!("{registry} lists `{bad}`, which is not a tag");
            return Err(Cause::Other { message, hint: None }.into());
        }
    }
    Ok(())
}
