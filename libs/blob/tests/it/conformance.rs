use bytes::Bytes;
use fishy_blob::{Blob, BlobOptions, GcsAuth, GcsOptions, S3Options};
use fishy_core::{Error, ErrorCode};
use futures::{StreamExt, TryStreamExt, stream};

const MIB: usize = 1024 * 1024;
const BUCKET: &str = "fishy-test";

#[tokio::test]
async fn file() {
    let dir = tempfile::tempdir().unwrap();
    suite(&Blob::open(&format!("file://{}/a%20store", dir.path().display()), &BlobOptions::default()).unwrap()).await;
    assert!(dir.path().join("a store").is_dir());
}

#[tokio::test]
async fn memory() {
    suite(&Blob::open("memory:", &BlobOptions::default()).unwrap()).await;
}

#[tokio::test]
async fn s3() {
    let Some(endpoint) = server("FISHY_TEST_S3") else { return };
    reqwest::Client::new().put(format!("{endpoint}/{BUCKET}")).send().await.unwrap();
    let s3 = S3Options {
        endpoint: Some(endpoint),
        access_key_id: Some("test".into()),
        secret_access_key: Some("test".into()),
        allow_http: true,
        ..S3Options::default()
    };
    let options = BlobOptions { s3, ..BlobOptions::default() };
    suite(&Blob::open(&fresh("s3"), &options).unwrap()).await;
    let lost = Blob::open("s3://no-such-bucket", &options).unwrap();
    assert_eq!(lost.put("a", Bytes::new()).await.unwrap_err().code(), ErrorCode::FailedPrecondition);
}

#[tokio::test]
async fn gcs() {
    let Some(endpoint) = server("FISHY_TEST_GCS") else { return };
    let bucket = serde_json::json!({"name": BUCKET});
    reqwest::Client::new().post(format!("{endpoint}/storage/v1/b?project=test")).json(&bucket).send().await.unwrap();
    let gcs = GcsOptions { endpoint: Some(endpoint), auth: GcsAuth::Anonymous };
    let options = BlobOptions { gcs, ..BlobOptions::default() };
    suite(&Blob::open(&fresh("gs"), &options).unwrap()).await;
    let lost = Blob::open("gs://no-such-bucket", &options).unwrap();
    assert_eq!(lost.put("a", Bytes::new()).await.unwrap_err().code(), ErrorCode::FailedPrecondition);
}

#[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
fn server(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok();
    if address.is_none() {
        eprintln!("SKIPPED: {variable} does not give the address of a server");
    }
    address.map(|address| address.trim_end_matches('/').to_owned())
}

/// A place of its own for each run, since the servers outlive it.
fn fresh(scheme: &str) -> String {
    format!("{scheme}://{BUCKET}/suite/{}", uuid::Uuid::new_v4())
}

async fn suite(blob: &Blob) {
    what_is_put_is_got(blob).await;
    large_blobs_go_in_parts(blob).await;
    names_are_kept(blob).await;
    folders_are_listed(blob).await;
    blobs_and_folders_are_deleted(blob).await;
    a_stream_that_fails_leaves_no_trace(blob).await;
    a_caller_that_goes_away_leaves_no_trace(blob).await;
    paths_that_leave_the_store_are_refused(blob).await;
    what_is_missing_is_not_found(blob).await;
    let left: Vec<String> = blob.list("").await.unwrap().dirs;
    assert_eq!(left, ["deleted", "large", "listed", "names", "put"]);
}

async fn content(blob: &Blob, path: &str) -> Bytes {
    blob.get_bytes(path, 64 * MIB as u64).await.unwrap()
}

async fn what_is_put_is_got(blob: &Blob) {
    let info = blob.put("put/a.txt", "abc".into()).await.unwrap();
    assert_eq!(info.size_bytes, 3);
    assert_eq!(info.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(content(blob, "put/a.txt").await, "abc");
    blob.put("put/a.txt", "replaced".into()).await.unwrap();
    assert_eq!(content(blob, "put/a.txt").await, "replaced");

    let (meta, stream) = blob.get("put/a.txt").await.unwrap();
    assert_eq!((meta.path.as_str(), meta.size_bytes), ("put/a.txt", 8));
    assert!(meta.modified_ms > 1_700_000_000_000, "{meta:?}");
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap().concat(), b"replaced");
    let head = blob.head("put/a.txt").await.unwrap();
    assert_eq!((head.path, head.size_bytes), (meta.path, meta.size_bytes));
    // Headers tell the time in whole seconds.
    assert!((head.modified_ms - meta.modified_ms).abs() < 1000);

    let empty = blob.put("put/empty", Bytes::new()).await.unwrap();
    assert_eq!(empty.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(content(blob, "put/empty").await, "");

    assert_eq!(blob.get_bytes("put/a.txt", 8).await.unwrap(), "replaced");
    assert_eq!(blob.get_bytes("put/a.txt", 7).await.unwrap_err().code(), ErrorCode::ResourceExhausted);
}

/// Bytes that tell where they come from, so that parts in the wrong order show.
fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i / 4096 + i) as u8).collect()
}

async fn large_blobs_go_in_parts(blob: &Blob) {
    // 8 MiB is the size of a part: one part, exactly two, and two and a bit in odd chunks.
    for (len, chunk) in [(8 * MIB, 8 * MIB), (16 * MIB, MIB), (20 * MIB + 7, 99_999)] {
        let expected = pattern(len);
        let chunks = expected.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>();
        let info = blob.put_stream("large/model.onnx", stream::iter(chunks)).await.unwrap();
        assert_eq!(info.size_bytes, len as u64);
        let (meta, mut chunks) = blob.get("large/model.onnx").await.unwrap();
        assert_eq!(meta.size_bytes, len as u64);
        let mut at = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.unwrap();
            assert!(chunk == expected[at..at + chunk.len()], "differs after byte {at} of {len}");
            at += chunk.len();
        }
        assert_eq!(at, len);
    }
    let whole = blob.put("large/whole", pattern(20 * MIB + 7)).await.unwrap();
    let streamed = blob.put_stream("large/whole", stream::iter([Ok(pattern(20 * MIB + 7))])).await.unwrap();
    assert_eq!(whole, streamed);
}

async fn names_are_kept(blob: &Blob) {
    let names =
        ["a b", "ä€🐟", "100%", "%2F", "a+b=c&d", "what?#frag", "~'\"()[]{}<>|^`!$,;:@*", ".hidden", "..a", "a."];
    for name in names {
        let path = format!("names/{name}/{name}");
        blob.put(&path, path.clone().into()).await.unwrap_or_else(|error| panic!("{name}: {}", error.chain()));
    }
    let mut dirs: Vec<String> = names.iter().map(|name| format!("names/{name}")).collect();
    dirs.sort();
    assert_eq!(blob.list("names").await.unwrap().dirs, dirs);
    let mut paths: Vec<String> = names.iter().map(|name| format!("names/{name}/{name}")).collect();
    paths.sort();
    let listed = blob.list_recursive("names").await.unwrap();
    assert_eq!(listed.iter().map(|meta| meta.path.clone()).collect::<Vec<_>>(), paths);
    for path in &paths {
        assert_eq!(content(blob, path).await, path);
        assert!(blob.exists(path).await.unwrap(), "{path}");
    }
}

async fn folders_are_listed(blob: &Blob) {
    for path in ["listed/b/2", "listed/b/1", "listed/a", "listed/c/d/e", "listed/bb"] {
        blob.put(path, path.into()).await.unwrap();
    }
    let sizes = |files: Vec<fishy_blob::BlobMeta>| {
        files.into_iter().map(|meta| (meta.path, meta.size_bytes)).collect::<Vec<_>>()
    };
    let listing = blob.list("listed").await.unwrap();
    assert_eq!(listing.dirs, ["listed/b", "listed/c"]);
    assert_eq!(sizes(listing.files), [("listed/a".into(), 8), ("listed/bb".into(), 9)]);
    let listing = blob.list("listed/b").await.unwrap();
    assert_eq!(sizes(listing.files), [("listed/b/1".into(), 10), ("listed/b/2".into(), 10)]);
    let all = sizes(blob.list_recursive("listed").await.unwrap());
    assert_eq!(
        all.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
        ["listed/a", "listed/b/1", "listed/b/2", "listed/bb", "listed/c/d/e"]
    );
    // A prefix is a folder, not the beginning of a name; a blob is no folder.
    for nothing in ["liste", "listed/a", "nowhere"] {
        assert_eq!(blob.list(nothing).await.unwrap(), fishy_blob::Listing::default(), "{nothing}");
        assert_eq!(blob.list_recursive(nothing).await.unwrap(), [], "{nothing}");
    }
}

async fn blobs_and_folders_are_deleted(blob: &Blob) {
    for path in ["deleted/a/1", "deleted/a/b/2", "deleted/aa", "deleted/c/3"] {
        blob.put(path, Bytes::new()).await.unwrap();
    }
    blob.delete("deleted/c/3").await.unwrap();
    blob.delete("deleted/c/3").await.unwrap();
    blob.delete("deleted/a").await.unwrap();
    assert!(!blob.exists("deleted/c/3").await.unwrap());
    assert_eq!(blob.list("deleted").await.unwrap().dirs, ["deleted/a"]);
    assert_eq!(blob.delete_prefix("deleted/a").await.unwrap(), 2);
    assert_eq!(blob.delete_prefix("deleted/a").await.unwrap(), 0);
    let left = blob.list("deleted").await.unwrap();
    assert_eq!((left.files.len(), left.files[0].path.as_str(), left.dirs.len()), (1, "deleted/aa", 0));
}

async fn a_stream_that_fails_leaves_no_trace(blob: &Blob) {
    for len in [10, 10 * MIB, 20 * MIB] {
        let failing = || stream::iter([Ok(pattern(len)), Err(Error::exhausted("the body is too long"))]);
        let error = blob.put_stream("failed/a", failing()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ResourceExhausted);
        assert!(!blob.exists("failed/a").await.unwrap(), "{len}");
        assert_eq!(blob.list("failed").await.unwrap(), fishy_blob::Listing::default());
        blob.put("failed/a", "before".into()).await.unwrap();
        blob.put_stream("failed/a", failing()).await.unwrap_err();
        assert_eq!(content(blob, "failed/a").await, "before");
        blob.delete("failed/a").await.unwrap();
    }
}

async fn a_caller_that_goes_away_leaves_no_trace(blob: &Blob) {
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let stalls = stream::iter([Ok(pattern(10 * MIB))]).chain(stream::once(async {
        asked.send(()).unwrap();
        std::future::pending().await
    }));
    tokio::select! {
        result = blob.put_stream("gone/a", stalls) => panic!("{result:?}"),
        result = was_asked => result.unwrap(),
    }
    assert!(!blob.exists("gone/a").await.unwrap());
}

async fn paths_that_leave_the_store_are_refused(blob: &Blob) {
    for path in ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", "a\\b", "a\0b", ".fishy-tmp/a"] {
        let refused = [
            blob.put(path, Bytes::new()).await.map(drop),
            blob.get(path).await.map(drop),
            blob.head(path).await.map(drop),
            blob.exists(path).await.map(drop),
            blob.delete(path).await,
            blob.delete_prefix(path).await.map(drop),
            if path.is_empty() {
                Err(Error::invalid("the root may be listed"))
            } else {
                blob.list(path).await.map(drop)
            },
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().code(), ErrorCode::InvalidArgument, "{path:?}");
        }
    }
}

async fn what_is_missing_is_not_found(blob: &Blob) {
    // A folder is not a blob, and nothing is below a blob.
    for path in ["nowhere", "put", "put/a.txt/b"] {
        assert_eq!(blob.get(path).await.map(drop).unwrap_err().code(), ErrorCode::NotFound, "{path}");
        assert_eq!(blob.head(path).await.unwrap_err().code(), ErrorCode::NotFound, "{path}");
        assert!(!blob.exists(path).await.unwrap(), "{path}");
    }
}
