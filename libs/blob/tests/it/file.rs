use bytes::Bytes;
use fishy_blob::{Blob, BlobOptions};
use fishy_core::{Error, ErrorCode};
use futures::stream;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn open(root: &Path) -> Blob {
    Blob::open(&format!("file://{}", root.display()), &BlobOptions::default()).unwrap()
}

#[tokio::test]
async fn symbolic_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("store"), dir.path().join("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let blob = open(&root);
    blob.put("in/a", "a".into()).await.unwrap();
    symlink(&outside, root.join("folder")).unwrap();
    symlink(outside.join("secret"), root.join("file")).unwrap();
    symlink(dir.path().join("nowhere"), root.join("dangling")).unwrap();

    for path in ["folder/secret", "file", "folder/new", "dangling", "folder/deep/new"] {
        let refused = [
            blob.get(path).await.map(drop),
            blob.head(path).await.map(drop),
            blob.put(path, "x".into()).await.map(drop),
            blob.delete(path).await,
            blob.delete_prefix(path).await.map(drop),
            blob.list(path).await.map(drop),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().code(), ErrorCode::PermissionDenied, "{path}");
        }
    }
    let listing = blob.list("").await.unwrap();
    assert_eq!((listing.dirs, listing.files.len()), (vec!["in".to_owned()], 0));
    assert_eq!(blob.list_recursive("").await.unwrap().len(), 1);

    // Deleting a folder removes the links in it, not what they lead to.
    symlink(&outside, root.join("in/link")).unwrap();
    assert_eq!(blob.delete_prefix("in").await.unwrap(), 1);
    assert!(!root.join("in").exists());
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn a_root_that_is_a_link_is_the_operators_choice() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("disk")).unwrap();
    symlink(dir.path().join("disk"), dir.path().join("store")).unwrap();
    open(&dir.path().join("store")).put("a/b", "x".into()).await.unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("disk/a/b")).unwrap(), "x");
}

#[tokio::test]
async fn nothing_is_left_of_a_failed_write_and_empty_folders_go() {
    let dir = tempfile::tempdir().unwrap();
    let blob = open(dir.path());
    let chunk = Bytes::from(vec![0; 9 * 1024 * 1024]);
    blob.put_stream("a/b", stream::iter([Ok(chunk), Err(Error::internal("broken"))])).await.unwrap_err();
    assert_eq!(fs::read_dir(dir.path().join(".fishy-tmp")).unwrap().count(), 0);
    assert!(!dir.path().join("a").exists());
    blob.put("a/b/c", Bytes::new()).await.unwrap();
    blob.put("a/d", Bytes::new()).await.unwrap();
    blob.delete("a/b/c").await.unwrap();
    assert!(!dir.path().join("a/b").exists());
    blob.delete("a/d").await.unwrap();
    assert!(!dir.path().join("a").exists() && dir.path().exists());
}

#[tokio::test]
async fn a_file_and_a_folder_cannot_share_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let blob = open(dir.path());
    blob.put("a/b", Bytes::new()).await.unwrap();
    assert_eq!(blob.put("a", Bytes::new()).await.unwrap_err().code(), ErrorCode::FailedPrecondition);
    assert_eq!(blob.put("a/b/c", Bytes::new()).await.unwrap_err().code(), ErrorCode::FailedPrecondition);
    let long = "x".repeat(300);
    assert_eq!(blob.put(&long, Bytes::new()).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(fs::read_dir(dir.path().join(".fishy-tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_reader_keeps_what_it_opened() {
    let dir = tempfile::tempdir().unwrap();
    let blob = open(dir.path());
    blob.put("a", "first".into()).await.unwrap();
    let (_, stream) = blob.get("a").await.unwrap();
    blob.put("a", "second".into()).await.unwrap();
    let chunks: Vec<Bytes> = futures::TryStreamExt::try_collect(stream).await.unwrap();
    assert_eq!(chunks.concat(), b"first");
}
