//! What a repository's manifests are called, and what refers to them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use ociforge_manifests::Descriptor;
use ociforge_manifests::reference::is_tag;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::fault::Fault;
use super::list::{Pages, no_list};
use super::manifest::get_manifest;
use super::origin::Origin;
use super::referrers;
use super::registries_conf::By;
use super::remote::{Remote, what};
use crate::content::{Cause, ContentError, Named};

/// A page of the list of tags.
#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
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
        let mut failed = self.forbidden();
        for (index, origin) in self.pull_order(By::Tag) {
            match list_tags(origin).await {
                Ok(tags) => return Ok(tags.into_iter().collect()),
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
                // A mirror that knows of none may not have been told.
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

/// Whether the repository itself had no say. Then the word of a mirror that there is none has to do: with the mirrors
/// of a network without a way out, everything would fail else that looks for what few images have.
fn is_out_of_reach(cause: &Cause) -> bool {
    matches!(cause, Cause::Network { .. })
}

async fn list_tags(origin: &Origin) -> Result<BTreeSet<String>, Fault> {
    let mut pages = Pages::new(origin, origin.url(&["tags", "list"]).await?, HeaderMap::new());
    let mut all = BTreeSet::new();
    while let Some(page) = pages.next().await? {
        let page: Result<Tags, _> = serde_json::from_slice(&page);
        let tags = page.map_err(|_| no_list(&origin.endpoint.registry, "tags"))?.tags.unwrap_or_default();
        if let Some(bad) = tags.iter().find(|tag| !is_tag(tag)) {
            let message = format!("{} lists `{}`, which is no tag", origin.endpoint.registry, bad.escape_debug());
            return Err(Cause::Other { message, hint: None }.into());
        }
        all.extend(tags);
    }
    Ok(all)
}
