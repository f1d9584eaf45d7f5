//! Manifests and referrers, and copies of what is there or is large.

use std::process::Stdio;

use ociforge_manifests::media_type;
use serde_json::{Value, json};

use super::*;
use crate::support::{files, put};

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
