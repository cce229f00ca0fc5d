//! What a file is to be made of, by name.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::chronicle::Listed;
use crate::source::ChannelName;

/// The segments of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub(super) channel: ChannelName,
    pub(super) tracks: Vec<Vec<Listed>>,
    digest: Digest,
}

/// By which contents are known.
pub(super) type Digest = [u8; 32];

impl Contents {
    /// Segments of a channel, of each track: as a rule one of pictures and one of sound, gaps left out. Of many hours this takes some
    /// milliseconds.
    #[must_use]
    pub fn new(channel: ChannelName, tracks: Vec<Vec<Listed>>) -> Self {
        let mut digest = Sha256::new();
        for track in &tracks {
            for listed in track {
                let path = listed.resource.path(&channel);
                digest.update(format!("{path} {} {}\n", listed.programme, listed.begins.as_nanos()));
            }
            digest.update("\n");
        }
        Self { channel, tracks, digest: digest.finalize().into() }
    }

    /// Contents that have the same are the same.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// The entity tag of the file that they make, with its quotes: a strong one, as segments never change under their names, and
    /// the head tells of everything else.
    pub(super) fn etag(&self, head: &Bytes) -> String {
        let digest = Sha256::new().chain_update(self.digest()).chain_update(head).finalize();
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("\"{hex}\"")
    }
}
