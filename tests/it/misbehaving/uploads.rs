//! Interrupted and refused uploads, and limits of requests.

use super::*;
use crate::support::{End, Request, wait_until};

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
