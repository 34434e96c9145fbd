use crate::script::{Script, Step, answer};
use bytes::Bytes;
use fishy_blob::{Blob, BlobOptions, S3Options};
use fishy_core::ErrorCode;

fn open(script: &Script) -> Blob {
    let s3 = S3Options {
        endpoint: Some(script.url.clone()),
        access_key_id: Some("test".into()),
        secret_access_key: Some("test".into()),
        allow_http: true,
        ..S3Options::default()
    };
    Blob::open("s3://b/p", &BlobOptions { timeout_ms: 500, s3, ..BlobOptions::default() }).unwrap()
}

#[tokio::test]
async fn a_store_that_falls_silent_is_unavailable() {
    let script = Script::start().await;
    script.then(Step::Stall);
    let (meta, stream) = open(&script).get("a").await.unwrap();
    assert_eq!(meta.size_bytes, 8);
    let error = futures::TryStreamExt::try_collect::<Vec<Bytes>>(stream).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn refused_credentials_are_unavailable_and_not_the_callers_fault() {
    let script = Script::start().await;
    script.then(answer(403, "<Error><Code>InvalidAccessKeyId</Code></Error>"));
    assert_eq!(open(&script).get("a").await.map(drop).unwrap_err().code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn half_a_key_is_refused_when_opened() {
    let s3 = S3Options { access_key_id: Some("test".into()), ..S3Options::default() };
    let error = Blob::open("s3://b", &BlobOptions { s3, ..BlobOptions::default() }).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
}
