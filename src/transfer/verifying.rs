//! A target whose content is verified.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use ociforge_manifests::{Descriptor, Digest};

use crate::content::{ByteStream, Cause, ContentError, Repository, Source, Target, read_verified};
use crate::progress::{Progress, Reporter};

/// A target whose existing content is read and, if damaged, replaced.
pub struct Verifying<'a> {
    target: &'a dyn Target,
    reporter: &'a dyn Reporter,
    /// The damaged content of the target.
    damaged: Mutex<HashSet<Digest>>,
}

impl<'a> Verifying<'a> {
    /// A target that reads the content of `target` before it relies on it. `reporter` receives warnings about damaged
    /// content.
    #[must_use]
    pub fn new(target: &'a dyn Target, reporter: &'a dyn Reporter) -> Self {
        Self { target, reporter, damaged: Mutex::default() }
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the content of the target is readable and matches the descriptor.
    async fn is_sound(&self, descriptor: &Descriptor) -> bool {
        let task = self.reporter.task(&format!("verify {}", descriptor.digest.short()), Some(descriptor.size));
        let Ok(stored) = self.target.stored(descriptor).await else { return false };
        let mut content = read_verified(descriptor, stored);
        while let Some(piece) = content.next().await {
            let Ok(piece) = piece else { return false };
            task.advance(piece.len() as u64);
        }
        task.done("verified");
        true
    }

    /// Fails unless the target now has the content. Registries may keep old content.
    async fn insist(&self, descriptor: &Descriptor) -> Result<(), ContentError> {
        if self.is_sound(descriptor).await {
            return Ok(());
        }
        let message = "the content at the target is still damaged after a second copy".into();
        let hint = Some("the registry may keep its old content: delete it there, and copy again".into());
        Err(Cause::Other { message, hint }.of(format!("replace {}", descriptor.digest)))
    }
}

#[async_trait]
impl Source for Verifying<'_> {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        self.target.fetch(descriptor, offset).await
    }

    fn location(&self, descriptor: &Descriptor) -> String {
        self.target.location(descriptor)
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        self.target.repository(descriptor)
    }
}

#[async_trait]
impl Target for Verifying<'_> {
    /// Whether the target has the content, undamaged.
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        let there = self.target.contains(descriptor).await?;
        if !there || self.is_sound(descriptor).await {
            return Ok(there);
        }
        self.reporter.warn(&format!("{} is damaged at the target: ociforge copies it again", descriptor.digest));
        self.damaged().insert(descriptor.digest.clone());
        Ok(false)
    }

    async fn mount(&self, descriptor: &Descriptor, from: &Repository) -> Result<bool, ContentError> {
        // A registry stores a blob once for all its repositories.
        let damaged = self.damaged().contains(&descriptor.digest);
        if damaged { Ok(false) } else { self.target.mount(descriptor, from).await }
    }

    async fn push(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        let damaged = self.damaged().remove(&descriptor.digest);
        if !damaged {
            return self.target.push(descriptor, source, progress).await;
        }
        self.target.replace(descriptor, source, progress).await?;
        self.insist(descriptor).await
    }

    async fn keep(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        self.target.keep(manifest, bytes).await?;
        self.insist(manifest).await
    }

    async fn tag(&self, manifest: &Descriptor, bytes: &[u8], tag: &str) -> Result<(), ContentError> {
        self.target.tag(manifest, bytes, tag).await?;
        self.insist(manifest).await
    }
}
