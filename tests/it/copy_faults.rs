//! Copies through networks and registries in which anything may fail at any time. Each either makes a sound copy or
//! ends in an error that says why; a name at the target never stands for something incomplete.

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::time::Duration;

use ociforge::content::{ContentError, Target};
use ociforge::registry::{Client, Settings};
use ociforge::store::Layout;
use ociforge_manifests::{Descriptor, Digest};

use super::support::{
    Answer, End, Fault, Place, Proxy, Registry, copy, digest_of, impatient, noise_image, remote, sound, upload,
};

/// Faults that are met unless `OCIFORGE_TEST_FAULTS` says another number.
const FAULTS: usize = 150;
/// Different images.
const IMAGES: u64 = 4;

/// Requests to a source, and to a target, that have bodies or matter.
const READS: [&str; 3] = ["GET /blobs/", "GET /manifests/", "* /"];
const WRITES: [&str; 6] =
    ["PATCH /blobs/uploads/", "PUT /blobs/uploads/", "POST /blobs/uploads/", "HEAD /", "PUT /manifests/", "* /"];

/// One fault of any kind.
fn any_fault(random: &mut fastrand::Rng) -> Fault {
    // Most bodies are short, some are long.
    let at = 1u64 << random.u32(0..21);
    let at = random.u64(0..at);
    let end = if random.bool() { End::Reset } else { End::Close };
    let page = |status| Answer { body: b"<html>We are sorry".to_vec(), ..Answer::status(status) };
    match random.u32(0..12) {
        0 => Fault::Up(at, end),
        1 => Fault::Down(at, end),
        2 => Fault::Lost(end),
        3 => Fault::FlipUp(at),
        4 => Fault::FlipDown(at),
        5 => Fault::Delay(Duration::from_millis(random.u64(0..50))),
        6 => Fault::answer(page([500, 502, 503, 504][random.usize(0..4)])),
        7 => Fault::answer(Answer::status(429).header("Retry-After", if random.u32(0..8) == 0 { "1" } else { "0" })),
        8 => Fault::answer(Answer::status(401).header("WWW-Authenticate", "Basic realm=\"r\"")),
        9 => Fault::answer(page([400, 403, 404, 405, 408, 413, 416][random.usize(0..7)])),
        10 => Fault::Early(page([403, 413, 503][random.usize(0..3)])),
        _ => Fault::answer(page(200)),
    }
}

/// Up to six faults at random requests; now and then one that stays.
fn disturb(random: &mut fastrand::Rng, proxy: &Proxy, patterns: &[&str]) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..random.usize(1..7) {
        let pattern = patterns[random.usize(0..patterns.len())];
        let first = random.usize(0..20);
        let which: Range<usize> = first..first + [1, 1, 1, 2, 1000][random.usize(0..5)];
        let fault = any_fault(random);
        told.push(format!("{pattern} {which:?} {fault:?}"));
        proxy.on(pattern, which, fault);
    }
    told
}

async fn copied(
    settings: &Settings,
    from: &str,
    to: &dyn Fn(&Client) -> Box<dyn Target>,
) -> Result<Digest, ContentError> {
    let client = Client::new(settings.clone()).unwrap();
    let source = client.repository(&from.parse().unwrap());
    Ok(copy(&source, &*to(&client), "copy", 4).await?.root.digest)
}

/// What the name `copy` stands for in a layout, whose blobs must be what they are called.
fn sound_layout(layout: &Layout) -> Option<Digest> {
    let root = layout.find(Some("copy")).ok()?;
    let blobs = fs::read_dir(layout.root().join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    // Names that begin with a dot are of what is under way.
    for blob in blobs.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.')) {
        let name = format!("sha256:{}", blob.file_name().unwrap().to_str().unwrap());
        assert_eq!(digest_of(&fs::read(&blob).unwrap()), name);
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.blob_path(&root.digest)).unwrap()).unwrap();
    for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
        let blob: Descriptor = serde_json::from_value(blob.clone()).unwrap();
        assert_eq!(layout.blob_size(&blob.digest), Some(blob.size), "missing from the layout");
    }
    Some(root.digest)
}

/// Asserts that an error says what failed and why.
fn clear(error: &ContentError) {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(!error.operation.is_empty() && cause.len() > 8, "{error:?}");
    assert!(!cause.contains("html") && !cause.contains("sorry"), "{cause}");
}

#[derive(Debug, Default)]
struct Tally {
    copies: usize,
    faults: usize,
    failed: usize,
}

/// Copies with `seed` until so many faults were met.
async fn storm(kind: &str, seed: u64, faults: usize) -> Tally {
    let place = Place::new();
    let registry =
        if kind == "serve" { Registry::serve(&place, "registry") } else { Registry::docker(&place, "registry") };
    let (from, to) = (Proxy::before(&registry.address), Proxy::before(&registry.address));
    let layout = Layout::create(place.path("images")).unwrap();
    let calm = Client::new(impatient()).unwrap();
    let mut roots = Vec::new();
    for image in 0..IMAGES {
        let mut random = fastrand::Rng::with_seed(image);
        // Lengths from 1 kB to 3 MB, most of them short.
        let lengths: Vec<_> = (0..20).map(|_| (1000.0 * 3000f64.powf(random.f64().powi(2))) as usize).collect();
        let root = noise_image(&layout, image, &lengths);
        upload(&layout, &root, &remote(&calm, &registry.address, &format!("image{image}")), "v1").await;
        roots.push(root.digest);
    }
    let settings = Settings { journal: Some(place.path("journal")), ..impatient() };
    let mut tally = Tally::default();
    while tally.faults < faults {
        let run = tally.copies as u64;
        let mut random = fastrand::Rng::with_seed(seed + run);
        let image = random.u64(0..IMAGES);
        let source = format!("{}/image{image}:v1", from.address);
        let name = format!("{kind}-{seed}-{run}");
        let disk = kind == "layout";
        let into = Layout::create(place.path(format!("layouts/{name}"))).unwrap();
        let target = |client: &Client| -> Box<dyn Target> {
            if disk { Box::new(into.clone()) } else { Box::new(remote(client, &to.address, &name)) }
        };
        let found = || if disk { sound_layout(&into) } else { sound(&registry, &name, "copy") };
        let mut told = Vec::new();
        if disk || random.bool() {
            told.extend(disturb(&mut random, &from, &READS));
        }
        if !disk && (told.is_empty() || random.bool()) {
            told.extend(disturb(&mut random, &to, &WRITES));
        }
        // A connection for every few bytes takes its time on a machine that has other work.
        let outcome = tokio::time::timeout(Duration::from_secs(300), copied(&settings, &source, &target)).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{name} hangs: {told:#?}"));
        tally.faults += from.calm() + to.calm();
        let wanted = &roots[image as usize];
        match &outcome {
            Ok(digest) => assert_eq!((digest, found().as_ref()), (wanted, Some(wanted)), "{name}: {told:#?}"),
            Err(error) => {
                clear(error);
                tally.failed += 1;
                let named = found();
                assert!(named.is_none_or(|named| named == *wanted), "{name}: {told:#?}");
                // Nothing is left that a later run stumbles over.
                let again = copied(&settings, &source, &target).await;
                assert_eq!(&again.unwrap_or_else(|again| panic!("{name}, again: {again:?} {told:#?}")), wanted);
                assert_eq!(found().as_ref(), Some(wanted), "{name}, again: {told:#?}");
            }
        }
        tally.copies += 1;
        fs::remove_dir_all(into.root()).unwrap();
    }
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let faults = number("OCIFORGE_TEST_FAULTS").map_or(FAULTS, |faults| faults as usize);
    let seed = number("OCIFORGE_TEST_SEED").unwrap_or(1) * 1_000_000;
    let part = faults.div_ceil(3);
    let (registry, serve, layout) =
        tokio::join!(storm("docker", seed, part), storm("serve", seed, part), storm("layout", seed, part));
    for tally in [&registry, &serve, &layout] {
        // Some get through in spite of it, some do not: otherwise the faults are too few or too many.
        assert!(tally.failed > 0 && tally.failed < tally.copies, "{tally:?}");
    }
    let total: usize = [&registry, &serve, &layout].iter().map(|tally| tally.faults).sum();
    assert!(total >= faults);
    eprintln!("{total} faults; to docker-registry: {registry:?}; to serve: {serve:?}; to a layout: {layout:?}");
}
