//! Where segments and playlists are kept: files or S3, and the task that brings a channel's window there.
//!
//! A store knows keys and bytes, nothing of media. The uploader knows snapshots, nothing of packaging; it needs no
//! queue, because the live window is one: bounded, and what falls off its end unstored is counted.

mod backoff;
mod error;
mod fs;
mod goal;
mod key;
mod ledger;
mod s3;
#[cfg(test)]
mod scripted;
mod spell;
mod upload;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::config::StoreConfig;

pub use error::{At, StoreError};
pub use fs::FileStore;
pub use s3::{Credentials, S3Store};
pub use upload::{Setup, upload};

/// What is put: one object, complete.
///
/// Its body is never compressed. A bucket cannot negotiate codings, so a `Content-Encoding` would be forced upon
/// clients that did not ask for it, and the copies in files and in S3 would differ; a CDN compresses playlists itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its path in the tree of `layout`: steps of `a-z A-Z 0-9 . _ -` parted by `/`.
    pub key: String,
    /// Its bytes, shared with the live window.
    pub data: Bytes,
    /// `Content-Type`. Files do not keep it.
    pub content_type: &'static str,
    /// `Cache-Control`. Files do not keep it.
    pub cache_control: String,
}

/// A place for objects. Whoever reads sees an object whole, old or new, never a mixture.
///
/// A write that fails may have been done nevertheless: only the answer may be lost.
/// Nothing is tried twice here; the caller decides what to do about an error.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Writes an object, in place of one of the same key.
    ///
    /// # Errors
    /// Whatever keeps the object from being stored.
    async fn put(&self, object: Object) -> Result<(), StoreError>;

    /// Reads an object; none where there is none.
    ///
    /// # Errors
    /// Where it cannot be known whether there is one, or it cannot be read.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Deletes objects; those that do not exist count as deleted.
    ///
    /// # Errors
    /// Where one of them may still be there; others may be gone.
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError>;

    /// Whether the store can be written to now, found out by writing a small object and deleting it again.
    ///
    /// # Errors
    /// Why it cannot.
    async fn probe(&self) -> Result<(), StoreError>;
}

/// Opens the store of this configuration. A bucket that cannot be reached is no error here: that may pass, and
/// channels go on without it.
///
/// # Errors
/// What no waiting mends: a directory that cannot be made or read, a bucket's configuration that makes no request.
pub async fn open(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match config {
        StoreConfig::Fs { path } => Arc::new(FileStore::open(path).await?),
        StoreConfig::S3(config) => Arc::new(S3Store::open(config, None).await?),
    })
}

/// The object that [`Store::probe`] writes.
fn probe_object() -> Object {
    Object {
        key: "headwater-probe".to_owned(),
        data: Bytes::from_static(b"headwater\n"),
        content_type: "text/plain",
        cache_control: "no-store".to_owned(),
    }
}
