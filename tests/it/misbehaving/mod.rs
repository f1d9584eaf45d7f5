//! Copies to and from registries as people meet them: real ones, with what their kind, gateways before them, or
//! networks do to requests. What single requests do about it is tested beside the client.

mod documents;
mod tokens;
mod uploads;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ociforge::content::ContentError;
use ociforge::error::Explain;
use ociforge::registry::{Client, Settings};
use ociforge::store::Layout;
use ociforge::transfer::Copied;
use ociforge_manifests::Descriptor;

use crate::support::{Answer, Fault, Place, Proxy, Registry, copy, impatient, noise_image, remote, sound, upload};

/// Of the uploads of [`impatient`] clients, in bytes.
const CHUNK: u64 = 256 << 10;

/// An image `base:v1` in a registry, a proxy through which it is read, and one through which it is written to another.
struct Ground {
    place: Place,
    _base: Registry,
    registry: Registry,
    layout: Layout,
    root: Descriptor,
    from: Proxy,
    to: Proxy,
}

impl Ground {
    /// With layers of these lengths, in bytes.
    async fn new(lengths: &[usize]) -> Self {
        Self::with(Registry::docker, |layout| noise_image(layout, 1, lengths)).await
    }

    async fn with(start: fn(&Place, &str) -> Registry, image: impl FnOnce(&Layout) -> Descriptor) -> Self {
        let place = Place::new();
        let registry = start(&place, "registry");
        let layout = Layout::create(place.path("layout")).unwrap();
        let root = image(&layout);
        let base = Registry::serve(&place, "base");
        let (from, to) = (Proxy::before(&base.address), Proxy::before(&registry.address));
        let ground = Self { place, _base: base, registry, layout, root, from, to };
        ground.put_base(&ground.from).await;
        ground.from.calm();
        ground
    }

    /// Puts the image there too.
    async fn put_base(&self, proxy: &Proxy) {
        let client = Client::new(impatient()).unwrap();
        upload(&self.layout, &self.root, &remote(&client, &proxy.address, "base"), "v1").await;
    }

    /// A client as that of a new process: it knows what is in the store, and nothing else.
    fn client(&self) -> Client {
        Client::new(Settings { journal: Some(self.place.path("journal")), ..impatient() }).unwrap()
    }

    /// Copies `base:v1` to `app:copy`.
    async fn copy(&self, client: &Client) -> Result<Copied, ContentError> {
        let (source, target) = (remote(client, &self.from.address, "base:v1"), remote(client, &self.to.address, "app"));
        copy(&source, &target, "copy", 1).await
    }

    /// Copies, and asserts that it is there then.
    #[track_caller]
    fn arrived(&self, copied: Result<Copied, ContentError>) -> Copied {
        let copied = copied.unwrap_or_else(|error| panic!("{error}: {}", error.cause));
        assert_eq!(sound(&self.registry, "app", "copy").as_ref(), Some(&self.root.digest));
        copied
    }

    /// A directory of a repository in the registry's storage.
    fn storage(&self, name: &str) -> PathBuf {
        self.place.path("registry/docker/registry/v2/repositories").join(name)
    }
}

fn refusal(status: u16) -> Fault {
    let body = br#"{"errors":[{"code":"DENIED","message":"not like that"}]}"#.to_vec();
    Fault::answer(Answer { body, ..Answer::status(status) })
}
