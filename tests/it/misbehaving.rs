//! Copies to and from registries as people meet them: real ones, with what their kind, gateways before them, or
//! networks do to requests. What single requests do about it is tested beside the client.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ociforge::content::ContentError;
use ociforge::error::Explain;
use ociforge::registry::{Client, Settings};
use ociforge::store::Layout;
use ociforge::transfer::Copied;
use ociforge_manifests::{Descriptor, media_type};
use serde_json::{Value, json};

use super::support::{
    Answer, End, Fault, Place, Proxy, Registry, Request, Tokens, copy, files, impatient, noise_image, put, remote,
    sound, upload, wait_until,
};

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

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_push_goes_on_where_it_was() {
    let size = 12 * CHUNK + 1000;
    let ground = Ground::with(Registry::serve, |layout| noise_image(layout, 1, &[size as usize])).await;
    let patches = "PATCH /blobs/uploads/";
    ground.to.on(patches, 2..=2, Fault::Up(100_000, End::Reset));
    ground.to.on(patches, 5..=5, Fault::Lost(End::Close));
    ground.to.on(patches, 8..=8, refusal(503));
    ground.arrived(ground.copy(&ground.client()).await);
    let sent = ground.to.taken("* /blobs/uploads/");
    // Each of the three costs at most the chunk in which it happened. The config comes besides.
    assert!((size..size + 3 * CHUNK + 1000).contains(&sent), "{sent} bytes of {size}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_push_goes_on_in_a_later_run() {
    let size = 12 * CHUNK + 1000;
    for (start, fault) in [
        (Registry::serve as fn(&Place, &str) -> Registry, Fault::Up(0, End::Reset)),
        (Registry::serve, Fault::Up(CHUNK / 2, End::Reset)),
        // Of a chunk that was cut, docker-registry would lose the whole upload.
        (Registry::docker, refusal(503)),
    ] {
        let ground = Ground::with(start, |layout| noise_image(layout, 1, &[size as usize])).await;
        ground.to.on("PATCH /blobs/uploads/", 8..=8, fault);
        // Whatever gets on is tried for ever.
        ground.to.on("PATCH /blobs/uploads/", 9.., refusal(503));
        let error = ground.copy(&ground.client()).await.unwrap_err();
        assert!(error.operation.starts_with("push layer"), "{error}");
        assert_eq!(sound(&ground.registry, "app", "copy"), None);
        ground.to.calm();
        ground.from.calm();
        let client = ground.client();
        ground.arrived(ground.copy(&client).await);
        // What was there already is neither sent again nor read again.
        for moved in [ground.to.taken("* /blobs/uploads/"), client.stats().counts().received] {
            assert!(moved <= size - 8 * CHUNK + 5000, "{moved} bytes of {size}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_gives_up_what_was_cut_gets_all_of_it_again() {
    let ground = Ground::new(&[6 * CHUNK as usize]).await;
    ground.to.on("PATCH /blobs/uploads/", 3..=3, Fault::Up(CHUNK / 2, End::Reset));
    ground.to.on("PATCH /blobs/uploads/", 7..=7, Fault::Lost(End::Reset));
    ground.arrived(ground.copy(&ground.client()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_registry_forgot_is_begun_again() {
    let ground = Ground::new(&[6 * CHUNK as usize]).await;
    // In the middle of a run, as where an upload may last ten minutes.
    let unknown = br#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}"#;
    let unknown = Fault::answer(Answer { body: unknown.to_vec(), ..Answer::status(404) });
    ground.to.on("PATCH /blobs/uploads/", 3..=3, unknown);
    ground.to.on("PATCH /blobs/uploads/", 8.., Fault::Up(0, End::Reset));
    ground.copy(&ground.client()).await.unwrap_err();
    assert!(ground.to.count("POST /blobs/uploads/") > 1);
    // Between two runs.
    ground.to.calm();
    // The registry may still be writing what had come of the last chunk.
    wait_until("the uploads are gone", || fs::remove_dir_all(ground.storage("app/_uploads")).is_ok());
    ground.arrived(ground.copy(&ground.client()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_dropped_without_a_word_are_noticed() {
    let ground = Ground::new(&[4 * CHUNK as usize, 4 * CHUNK as usize + 1]).await;
    let dropped = |request: &Request| {
        let answer = Answer::status(201).header("Location", request.path.clone());
        Some(answer.header("Range", format!("0-{}", CHUNK - 1)))
    };
    ground.to.on("PATCH /blobs/uploads/", 1.., Fault::make(dropped));
    ground.arrived(ground.copy(&ground.client()).await);
    // The second layer profits from what the first has taught.
    assert!(ground.to.count("PATCH /blobs/uploads/") <= 3, "{:#?}", ground.to.requests("PATCH /"));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_refused_give_way_to_one_request() {
    for status in [400, 404, 405, 501] {
        let ground = Ground::new(&[3 * CHUNK as usize, 3 * CHUNK as usize + 1]).await;
        ground.to.on("PATCH /blobs/uploads/", .., refusal(status));
        ground.arrived(ground.copy(&ground.client()).await);
        let puts = ground.to.requests("PUT /blobs/uploads/");
        assert_eq!(puts.iter().filter(|put| put.length() > 2 * CHUNK).count(), 2, "{status}: {puts:#?}");
        assert!(ground.to.count("PATCH /blobs/uploads/") <= 2, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_as_long_as_the_registry_wants_them() {
    let least = 3 * CHUNK;
    let ground = Ground::new(&[10 * CHUNK as usize]).await;
    ground.to.on(
        "POST /blobs/uploads/",
        ..,
        Fault::alter(move |answer| answer.headers.push(("oci-chunk-min-length".into(), least.to_string()))),
    );
    let is_last = |request: &Request| request.header("content-range").ends_with(&format!("-{}", 10 * CHUNK - 1));
    let too_small =
        move |request: &Request| (request.length() < least && !is_last(request)).then(|| Answer::status(416));
    ground.to.on("PATCH /blobs/uploads/", .., Fault::make(too_small));
    ground.arrived(ground.copy(&ground.client()).await);
    assert!(
        ground.to.requests("PATCH /").iter().all(|patch| patch.status == 202),
        "{:#?}",
        ground.to.requests("PATCH /")
    );
    assert!(ground.to.taken("* /blobs/uploads/") < 11 * CHUNK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_limits_requests_gets_shorter_ones_or_is_named() {
    let ground = Ground::new(&[8 << 20]).await;
    let settings = Settings { chunk: 4 << 20, ..impatient() };
    let source = remote(&ground.client(), &ground.from.address, "base:v1");
    let limit_to = |limit: u64| {
        let page = Answer { body: b"<html>413 Request Entity Too Large</html>".to_vec(), ..Answer::status(413) };
        let limited = move |request: &Request| (request.length() > limit).then(|| page.clone());
        ground.to.on("* /blobs/uploads/", .., Fault::make(limited));
        remote(&Client::new(settings.clone()).unwrap(), &ground.to.address, "app")
    };
    ground.arrived(copy(&source, &limit_to(5 << 18), "copy", 1).await);
    ground.to.calm();
    fs::remove_dir_all(ground.storage("app")).unwrap();
    let error = copy(&source, &limit_to(10_000), "copy", 1).await.unwrap_err();
    assert!(error.hint().unwrap().contains("limits the size of a request"), "{error:?}");
    assert!(ground.to.count("* /blobs/uploads/") < 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_mid_layer_loses_no_bytes() {
    let size = 16 * CHUNK;
    let ground = Ground::new(&[size as usize]).await;
    let tokens = Tokens { service: ",service=\"s\"", uses: 7, realm_lasts: usize::MAX };
    let proxy = Proxy::before(&ground.to.address);
    let asked = tokens.guard(&proxy);
    let client = ground.client();
    let (source, target) = (remote(&client, &ground.from.address, "base:v1"), remote(&client, &proxy.address, "app"));
    ground.arrived(copy(&source, &target, "copy", 1).await);
    assert!(asked.load(Ordering::Relaxed) > 2);
    // Of what went on to the registry nothing went twice.
    assert!(ground.to.taken("* /blobs/uploads/") < size + 1000);
    let (received, renewed) = (client.stats().counts().received, asked.load(Ordering::Relaxed) as u64);
    assert!(received < size + 2 * renewed * CHUNK, "{received} of {size}, {renewed} tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_is_refused_is_a_push() {
    for status in [400, 401, 403, 404, 405, 500] {
        let ground = Ground::new(&[1000, 50_000]).await;
        ground.put_base(&ground.to).await;
        ground.to.on("POST mount=", .., refusal(status));
        let client = ground.client();
        let (source, target) =
            (remote(&client, &ground.to.address, "base:v1"), remote(&client, &ground.to.address, "app"));
        let copied = ground.arrived(copy(&source, &target, "copy", 2).await);
        assert!(copied.moved.streamed > 51_000 && copied.moved.mounted == 0, "{status}: {:?}", copied.moved);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_a_mount_is_good_for_both_repositories() {
    let ground = Ground::new(&[1000, 50_000]).await;
    ground.put_base(&ground.to).await;
    Tokens { service: ",service=\"s\"", uses: usize::MAX, realm_lasts: usize::MAX }.guard(&ground.to);
    let client = ground.client();
    let (source, target) = (remote(&client, &ground.to.address, "base:v1"), remote(&client, &ground.to.address, "app"));
    let copied = ground.arrived(copy(&source, &target, "copy", 2).await);
    assert!(copied.moved.mounted > 51_000 && copied.moved.streamed == 0, "{:?}", copied.moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realm_without_service_that_changes_is_put_up_with() {
    let ground = Ground::new(&[100_000; 6]).await;
    let proxy = Proxy::before(&ground.from.address);
    let asked = Tokens { service: "", uses: 3, realm_lasts: 2 }.guard(&proxy);
    let client = ground.client();
    let (source, target) = (remote(&client, &proxy.address, "base:v1"), remote(&client, &ground.to.address, "app"));
    ground.arrived(copy(&source, &target, "copy", 1).await);
    assert!(asked.load(Ordering::Relaxed) > 1);
    assert_eq!(proxy.count("* /dead-end"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_for_patience_gets_it() {
    let ground = Ground::new(&[20_000; 12]).await;
    let busy = |status: u16| Fault::answer(Answer::status(status).header("Retry-After", "1"));
    ground.to.on("PUT /blobs/uploads/", 3..=3, busy(429));
    ground.from.on("GET /blobs/", 9..=9, busy(503));
    let client = ground.client();
    let (source, target) =
        (remote(&client, &ground.from.address, "base:v1"), remote(&client, &ground.to.address, "app"));
    ground.arrived(copy(&source, &target, "copy", 4).await);
    // Who said 429 is left alone by all. What was under way may still come: of each of the three others one request, and
    // the next one if the answer to the first was read before the 429.
    let requests = ground.to.requests("* /");
    let refused = requests.iter().find(|request| request.status == 429).unwrap().at;
    let pause = refused..refused + Duration::from_secs(1);
    let early: Vec<_> =
        requests.iter().filter(|request| request.at != refused && pause.contains(&request.at)).collect();
    assert!(early.len() <= 6, "{early:#?}");
    assert!(requests.iter().any(|request| request.at >= pause.end), "{requests:#?}");

    // It has an end.
    ground.to.calm();
    ground.to.on("* /", .., refusal(503));
    let target = remote(&client, &ground.to.address, "other");
    let error = copy(&source, &target, "copy", 1).await.unwrap_err();
    assert!(error.cause.to_string().contains("503") && error.hint().is_some(), "{error:?}");
    assert!(ground.to.count("* /") < 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_manifest_at_the_target_points_to_is_looked_for_all_the_same() {
    let ground = Ground::with(Registry::docker, |layout| {
        let children: Vec<_> = [3, 4].map(|seed| noise_image(layout, seed, &[30_000, 40_000])).to_vec();
        put(
            layout,
            media_type::INDEX,
            &json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": children}),
        )
    })
    .await;
    let client = ground.client();
    ground.arrived(ground.copy(&client).await);
    // As after a collection of garbage that went wrong: the manifests are there, a layer of each is not.
    for link in files(&ground.storage("app/_layers")).into_iter().step_by(2) {
        fs::remove_file(link).unwrap();
    }
    ground.arrived(ground.copy(&ground.client()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_an_image_is_found_with_and_without_a_list() {
    let place = Place::new();
    let (serve, docker) = (Registry::serve(&place, "serve"), Registry::docker(&place, "docker"));
    let layout = Layout::create(place.path("layout")).unwrap();
    let image = noise_image(&layout, 1, &[1000]);
    let config = put(&layout, "application/vnd.oci.empty.v1+json", &json!({}));
    let sbom = json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST, "artifactType": "text/sbom",
        "config": config, "layers": [config], "subject": image,
    });
    let sbom = put(&layout, media_type::MANIFEST, &sbom);
    let client = Client::new(impatient()).unwrap();
    let page = || Answer { body: b"<html>Not here".to_vec(), ..Answer::status(200) };
    for (round, (registry, answer)) in [
        (&serve, None),
        (&docker, None),
        (&docker, Some(page().header("Content-Type", "text/html"))),
        (&docker, Some(Answer::status(400))),
        (&docker, Some(Answer::status(405))),
    ]
    .into_iter()
    .enumerate()
    {
        let proxy = Proxy::before(&registry.address);
        if let Some(answer) = answer {
            proxy.on("GET /referrers/", .., Fault::answer(answer));
        }
        let from = remote(&client, &proxy.address, &format!("from{round}"));
        let to = remote(&client, &proxy.address, &format!("to{round}"));
        upload(&layout, &image, &from, "latest").await;
        upload(&layout, &sbom, &from, "sbom").await;
        assert_eq!(copy(&from, &to, "latest", 2).await.unwrap().referrers, 1, "{round}");
        assert_eq!(
            sound(registry, &format!("to{round}"), sbom.digest.as_str()).as_ref(),
            Some(&sbom.digest),
            "{round}"
        );
        // What the registry does not list, others find by the tag.
        if registry.address == docker.address {
            let tag = image.digest.as_str().replace(':', "-");
            assert!(sound(registry, &format!("to{round}"), &tag).is_some(), "{round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_travel_as_the_bytes_they_are() {
    let ground = Ground::with(Registry::docker, |layout| {
        let image = noise_image(layout, 5, &[1000]);
        let json: Value = serde_json::from_slice(&fs::read(layout.blob_path(&image.digest)).unwrap()).unwrap();
        // Fields in an order of their own, spaces, numbers that a parser would write in another way, unknown fields.
        let odd = format!(
            "\n{{\t\"x-new\": [1.0e2, 18446744073709551615, \"\\u00e9\"], \"layers\":{},\r\n  \"config\" : {}, \
             \"mediaType\":\"{}\",\"schemaVersion\":  2 }}\n\n",
            json["layers"],
            json["config"],
            media_type::MANIFEST
        );
        layout.put(odd.as_bytes()).unwrap();
        Descriptor::of(media_type::MANIFEST, odd.as_bytes())
    })
    .await;
    ground.arrived(ground.copy(&ground.client()).await);
    let there = ground.registry.get("/v2/app/manifests/copy").1;
    assert_eq!(there, fs::read(ground.layout.blob_path(&ground.root.digest)).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_gateway_is_no_answer_to_a_manifest() {
    let ground = Ground::new(&[1000]).await;
    let page = Answer { body: b"<html>Please accept our terms".to_vec(), ..Answer::status(200) };
    ground.to.on("PUT /manifests/", .., Fault::answer(page));
    let error = ground.copy(&ground.client()).await.unwrap_err();
    assert!(error.cause.to_string().contains("does not confirm the manifest"), "{}", error.cause);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_changed_nothing_moves() {
    let ground = Ground::with(Registry::docker, |layout| {
        // Two platforms with the same layers, one of them twice.
        let image = noise_image(layout, 6, &[200_000, 300_000]);
        let mut json: Value = serde_json::from_slice(&fs::read(layout.blob_path(&image.digest)).unwrap()).unwrap();
        let first = json["layers"][0].clone();
        json["layers"].as_array_mut().unwrap().push(first);
        let other = put(layout, media_type::MANIFEST, &json);
        let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [image, other]});
        put(layout, media_type::INDEX, &index)
    })
    .await;
    ground.arrived(ground.copy(&ground.client()).await);
    // No blob goes twice.
    let sent = ground.to.taken("* /blobs/uploads/");
    assert!((500_000..502_000).contains(&sent), "{sent}");
    ground.from.calm();
    ground.to.calm();
    ground.arrived(ground.copy(&ground.client()).await);
    assert_eq!((ground.from.count("GET /blobs/"), ground.to.count("* /uploads/")), (0, 0));
    assert!(ground.to.taken("* /") <= ground.root.size, "{:#?}", ground.to.requests("* /"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_layer_needs_neither_memory_nor_disk() {
    let size = 192 << 20;
    let ground = Ground::new(&[size]).await;
    let (from, to) = (&ground.from.address, &ground.to.address);
    let arguments = ["copy", &format!("{from}/base:v1"), &format!("{to}/app:copy"), "--progress", "plain"];
    let mut command = ground.place.ociforge(arguments);
    command.env("TMPDIR", ground.place.path("store")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let (status, mut memory, mut disk) = (format!("/proc/{}/status", child.id()), 0, 0);
    // Of a process that has ended but was not waited for, the status has no such line.
    while let Some(peak) = fs::read_to_string(&status).ok().and_then(|text| peak(&text)) {
        memory = memory.max(peak);
        let lengths = files(&ground.place.path("store")).into_iter().filter_map(|file| fs::metadata(file).ok());
        disk = disk.max(lengths.map(|metadata| metadata.len()).sum());
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert_eq!(sound(&ground.registry, "app", "copy").as_ref(), Some(&ground.root.digest));
    assert!(memory < 80 << 10, "{memory} kB of memory");
    assert!(disk < 100_000, "{disk} bytes on the disk");
    // The result is on stdout, how it went on stderr.
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    assert!(stdout.contains(ground.root.digest.as_str()) && stderr.contains("layer"), "{stdout}\n{stderr}");
}

/// The most memory that a process had so far, in kB.
fn peak(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.trim().parse().ok()
}
