//! Where segments and playlists are kept: files or S3, and the task that brings a channel's window there.
//!
//! A store knows keys and bytes, nothing of media. The uploader knows snapshots, nothing of packaging; it needs no
//! queue, because the live window is one, and bounded. What cannot be stored in time goes to the spool on local disk, which
//! has a bound of its own; what falls off the end of either is counted.

mod backlog;
mod backoff;
mod classes;
mod drain;
mod error;
mod fs;
mod goal;
mod hedge;
mod key;
mod ledger;
mod s3;
#[cfg(test)]
pub(crate) mod scripted;
mod shelf;
mod spell;
mod spool;
mod upload;
mod writer;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::config::StoreConfig;

pub use classes::Classes;
pub use drain::drain;
pub use error::{At, StoreError};
pub use fs::FileStore;
pub use s3::{Credentials, S3Store};
pub use shelf::Shelf;
pub use spool::Spool;
pub use upload::{Inherited, Setup, upload};
pub use writer::{Holder, Standing, Writer};

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

/// Which text an object has: the store's own mark, an `ETag` in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// What must be there for a write to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Any,
    /// What is there when the write is begun, so that one which is done late does not replace a newer one. As `Any` where the store
    /// knows no conditions, and for files.
    Found,
    /// Nothing.
    Absent,
    /// The object of this version.
    Is(Version),
}

/// An object that a store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// When it was written last, by the store's clock.
    pub modified: SystemTime,
    /// How large it is.
    pub bytes: u64,
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

    /// Reads an object and which version of it there is; none where there is none.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError>;

    /// Writes an object where `condition` holds, in one step, and gives its version where the store tells. A store that knows no
    /// conditions ([`Store::is_conditional`]) writes it in any case.
    ///
    /// # Errors
    /// [`StoreError::Changed`] where the condition does not hold, and as [`Store::put`].
    async fn put_if(&self, object: Object, condition: Condition) -> Result<Option<Version>, StoreError>;

    /// Whether the store knows conditions, found out by writing a small object twice.
    ///
    /// # Errors
    /// Where that cannot be known now.
    async fn is_conditional(&self) -> Result<bool, StoreError>;

    /// Deletes objects; those that do not exist count as deleted.
    ///
    /// # Errors
    /// Where one of them may still be there; others may be gone.
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError>;

    /// The objects whose keys begin with `prefix`, which ends with a slash, in the order of their keys: those behind `after`, and as
    /// many as the store likes to give at once, but at least one where there is one.
    ///
    /// # Errors
    /// Where it cannot be known what there is.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>, StoreError>;

    /// Whether the store can be written to now, found out by writing a small object and deleting it again.
    ///
    /// # Errors
    /// Why it cannot.
    async fn probe(&self) -> Result<(), StoreError>;
}

/// Opens the store of this configuration, with the storage classes that a bucket is to use. A bucket that cannot be reached is no error here: that may pass, and
/// channels go on without it.
///
/// # Errors
/// What no waiting mends: a directory that cannot be made or read, a bucket's configuration that makes no request.
pub async fn open(config: &StoreConfig, classes: Classes) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match config {
        StoreConfig::Fs { path } => Arc::new(FileStore::open(path).await?),
        StoreConfig::S3(config) => Arc::new(S3Store::open(config, None).await?.with_classes(classes)),
    })
}

/// The object that [`Store::probe`] writes.
fn probe_object() -> Object {
    small_object("headwater-probe")
}

fn small_object(key: &str) -> Object {
    Object {
        key: key.to_owned(),
        data: Bytes::from_static(b"headwater\n"),
        content_type: "text/plain",
        cache_control: "no-store".to_owned(),
    }
}
