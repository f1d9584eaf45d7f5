//! Tokens, mounts, and rate limits.

use std::sync::atomic::Ordering;

use super::*;
use crate::support::Tokens;

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
