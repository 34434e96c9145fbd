#![doc = include_str!("../README.md")]

mod blob;
mod file;
mod gcs;
mod objects;
mod options;
mod parts;
mod signed;

pub use blob::{Blob, BlobMeta, BlobStream, Listing, PutInfo};
pub use options::{BlobOptions, GcsAuth, GcsOptions, S3Options};
pub use signed::DirectUpload;
