//! The registry with the client of this program.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::*;
use crate::content::{ByteStream, ContentError, Source, Target};
use crate::registry::{Client, Settings};

/// A blob in memory, of which all is given or a beginning and then nothing for ever.
struct Memory {
    blob: Vec<u8>,
    given: usize,
}

#[async_trait]
impl Source for Memory {
    async fn fetch(&self, _: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let pieces: Vec<_> =
            self.blob[offset as usize..self.given].chunks(50_000).map(Bytes::copy_from_slice).collect();
        let all = self.given == self.blob.len();
        let rest = if all { stream::empty().boxed() } else { stream::pending().boxed() };
        Ok(stream::iter(pieces).map(Ok).chain(rest).boxed())
    }
}

fn client(journal: &Path) -> Client {
    Client::new(Settings { chunk: 1_000_000, journal: Some(journal.to_owned()), ..Settings::default() }).unwrap()
}

#[tokio::test]
async fn an_upload_survives_its_client() {
    let registry = Registry::new().await;
    let journal = tempfile::tempdir().unwrap();
    let reference = format!("{}/a", registry.base.trim_start_matches("http://")).parse().unwrap();
    let blob: Vec<u8> = (0..750_000u32).flat_map(u32::to_le_bytes).collect();
    let descriptor = Descriptor::of(media_type::LAYER_TAR, &blob);

    let (first, killed) = (client(journal.path()), Memory { blob: blob.clone(), given: 1_500_000 });
    let remote = first.repository(&reference);
    // It is in the middle of the second chunk when it goes away.
    let middle = async {
        while first.stats().counts().sent < 1_500_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        _ = remote.push(&descriptor, &killed, &()) => panic!("it can't end"),
        () = middle => {}
    }

    let (second, source) = (client(journal.path()), Memory { given: blob.len(), blob: blob.clone() });
    second.repository(&reference).push(&descriptor, &source, &()).await.unwrap();
    let counts = second.stats().counts();
    assert_eq!(counts.post, 0);
    assert!((1_500_000..=2_000_000).contains(&counts.sent), "{counts:?}");
    assert_eq!(std::fs::read(registry.layout.blob_path(&descriptor.digest)).unwrap(), blob);
    assert_eq!(std::fs::read_dir(journal.path()).unwrap().count(), 0);
}
