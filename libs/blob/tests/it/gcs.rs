//! What a well-behaved server never does, played by one that is told to.

use crate::script::{Script, Step, answer};
use bytes::Bytes;
use fishy_blob::{Blob, BlobOptions, GcsAuth, GcsOptions};
use fishy_core::ErrorCode;

const CHUNK: usize = 256 * 1024;

fn open(script: &Script, auth: GcsAuth) -> Blob {
    let gcs = GcsOptions { endpoint: Some(script.url.clone()), auth };
    let options = BlobOptions { timeout_ms: 500, part_size_bytes: CHUNK, gcs, ..BlobOptions::default() };
    Blob::open("gs://b/p", &options).unwrap()
}

fn object(size: usize) -> String {
    format!(r#"{{"name":"p/a","size":"{size}","updated":"2026-11-23T20:25:43.690Z"}}"#)
}

fn location(script: &Script) -> Step {
    Step::Answer(200, vec![("location", format!("{}/session", script.url))], String::new())
}

fn persisted(last: usize) -> Step {
    Step::Answer(308, vec![("range", format!("bytes=0-{last}"))], String::new())
}

#[tokio::test]
async fn an_upload_goes_on_where_the_store_is() {
    let script = Script::start().await;
    let size = 2 * CHUNK + 10;
    script
        .then(location(&script))
        // The store keeps nothing, fails, turns out to have a half, and takes the rest.
        .then(answer(503, ""))
        .then(answer(308, ""))
        .then(persisted(CHUNK / 2 - 1))
        .then(persisted(CHUNK - 1))
        // The answer to the second chunk is lost.
        .then(answer(502, ""))
        .then(persisted(2 * CHUNK - 1))
        // The store has the last chunk, but has not ended.
        .then(persisted(size - 1))
        .then(answer(200, &object(size)));
    let info = open(&script, GcsAuth::Anonymous).put("a", vec![7; size].into()).await.unwrap();
    assert_eq!(info.size_bytes, size as u64);
    let (last, end) = (size - 1, size);
    let expected = [
        "POST /upload/storage/v1/b/b/o".to_owned(),
        "PUT /session bytes 0-262143/* +262144".to_owned(),
        "PUT /session bytes */*".to_owned(),
        "PUT /session bytes 0-262143/* +262144".to_owned(),
        "PUT /session bytes 131072-262143/* +131072".to_owned(),
        "PUT /session bytes 262144-524287/* +262144".to_owned(),
        "PUT /session bytes */*".to_owned(),
        format!("PUT /session bytes 524288-{last}/{end} +10"),
        format!("PUT /session bytes */{end}"),
    ];
    assert_eq!(script.seen(), expected);
}

#[tokio::test]
async fn an_upload_that_makes_no_progress_ends_and_is_taken_back() {
    let script = Script::start().await;
    script.then(location(&script));
    for _ in 0..4 {
        script.then(answer(503, ""));
    }
    script.then(answer(499, ""));
    let error = open(&script, GcsAuth::Anonymous).put("a", vec![7; CHUNK + 1].into()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert_eq!(script.seen().last().unwrap(), "DELETE /session");
    assert!(!error.chain().contains("/session"), "the address of a session is a secret: {}", error.chain());
}

#[tokio::test]
async fn a_short_write_is_an_error() {
    let script = Script::start().await;
    script.then(answer(200, &object(2)));
    let error = open(&script, GcsAuth::Anonymous).put("a", "abc".into()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    let script = Script::start().await;
    let blob = open(&script, GcsAuth::Anonymous);
    script.then(answer(503, "")).then(answer(429, "")).then(answer(200, &object(3)));
    assert_eq!(blob.head("a").await.unwrap().size_bytes, 3);
    script.then(answer(403, "no"));
    assert_eq!(blob.head("a").await.unwrap_err().code(), ErrorCode::Unavailable);
    script.then(answer(400, "what?"));
    let error = blob.head("a").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    assert!(error.chain().contains("what?") && !error.message().contains("what?"));
    assert_eq!(script.seen().len(), 5);
}

#[tokio::test]
async fn a_store_that_falls_silent_is_unavailable() {
    let script = Script::start().await;
    script.then(Step::Stall);
    let (meta, stream) = open(&script, GcsAuth::Anonymous).get("a").await.unwrap();
    assert_eq!((meta.size_bytes, meta.modified_ms), (8, 1_795_465_543_000));
    let error = futures::TryStreamExt::try_collect::<Vec<Bytes>>(stream).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let gcs = GcsOptions { endpoint, auth: GcsAuth::Anonymous };
    let blob = Blob::open("gs://b", &BlobOptions { gcs, ..BlobOptions::default() }).unwrap();
    assert_eq!(blob.head("a").await.unwrap_err().code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn lists_have_pages() {
    let script = Script::start().await;
    script
        .then(answer(200, r#"{"items":[{"name":"p/d/b","size":"1","updated":"2026-11-23T20:25:43Z"},{"name":"p/d/","size":"0","updated":"2026-11-23T20:25:43Z"}],"nextPageToken":"more"}"#))
        .then(answer(200, r#"{"items":[{"name":"p/d/a","size":"2","updated":"2026-11-23T20:25:43Z"}],"prefixes":["p/d/e/"]}"#));
    let listing = open(&script, GcsAuth::Anonymous).list("d").await.unwrap();
    let files: Vec<_> = listing.files.iter().map(|meta| (meta.path.as_str(), meta.size_bytes)).collect();
    assert_eq!((files, listing.dirs), (vec![("d/a", 2), ("d/b", 1)], vec!["d/e".to_owned()]));
    assert_eq!(script.seen().len(), 2);
}

#[tokio::test]
async fn tokens_come_from_the_metadata_server_and_are_renewed_when_refused() {
    let script = Script::start().await;
    let token =
        |name: &str| answer(200, &format!(r#"{{"access_token":"{name}","expires_in":3600,"token_type":"Bearer"}}"#));
    let blob = open(&script, GcsAuth::MetadataServer { url: script.url.clone() });
    script.then(token("one")).then(answer(200, &object(1))).then(answer(200, &object(1)));
    blob.head("a").await.unwrap();
    blob.head("a").await.unwrap();
    script.then(answer(401, "")).then(token("two")).then(answer(200, &object(1)));
    blob.head("a").await.unwrap();
    let ask = "GET /computeMetadata/v1/instance/service-accounts/default/token Google";
    let get = |token: &str| format!("GET /storage/v1/b/b/o/p%2Fa Bearer {token}");
    assert_eq!(script.seen(), [ask.to_owned(), get("one"), get("one"), get("one"), ask.to_owned(), get("two")]);
    script.then(answer(404, ""));
    let blob = open(&script, GcsAuth::MetadataServer { url: script.url.clone() });
    let error = blob.head("a").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains("gcs.auth"), "{error}");
}
