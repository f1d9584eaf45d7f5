//! A target that is not believed.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use ociforge_manifests::{Descriptor, Digest};

use crate::content::{ByteStream, Cause, ContentError, Repository, Source, Target, read_verified};
use crate::progress::{Progress, Reporter};

/// A target of which what is there already is read, and replaced where it is damaged.
pub struct Verifying<'a> {
    target: &'a dyn Target,
    reporter: &'a dyn Reporter,
    /// What is there and damaged.
    damaged: Mutex<HashSet<Digest>>,
}

impl<'a> Verifying<'a> {
    /// `target`, read before it is relied on. `reporter` is told of what is damaged.
    #[must_use]
    pub fn new(target: &'a dyn Target, reporter: &'a dyn Reporter) -> Self {
        Self { target, reporter, damaged: Mutex::default() }
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what is there can be read and is what the descriptor says.
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

    /// Fails unless the target has the content now. Registries may keep what they have.
    async fn insist(&self, descriptor: &Descriptor) -> Result<(), ContentError> {
        if self.is_sound(descriptor).await {
            return Ok(());
        }
        let message = "what the target has of it is still damaged after it was sent again".into();
        let hint = Some("a registry may keep what it has: delete it there, and copy again".into());
        Err(Cause::Other { message, hint }.of(format!("mend {}", descriptor.digest)))
    }
}

#[async_trait]
impl Source for Verifying<'_> {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        self.target.fetch(descriptor, offset).await
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        self.target.repository(descriptor)
    }
}

#[async_trait]
impl Target for Verifying<'_> {
    /// Whether the content is there and sound.
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        let there = self.target.contains(descriptor).await?;
        if !there || self.is_sound(descriptor).await {
            return Ok(there);
        }
        self.reporter.warn(&format!("{} is damaged at the target: it is copied again", descriptor.digest));
        self.damaged().insert(descriptor.digest.clone());
        Ok(false)
    }

    async fn mount(&self, descriptor: &Descriptor, from: &Repository) -> Result<bool, ContentError> {
        // A registry has a blob once, however many of its repositories have it.
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
