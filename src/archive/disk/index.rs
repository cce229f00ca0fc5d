//! Which copies are on the disk, and which of them was used longest ago.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// What a copy is called on the disk: a hash of its key, whatever stands in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(u128);

impl Name {
    pub(super) fn of(key: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(key).into();
        Self(hash.iter().take(16).fold(0, |name, byte| name << 8 | u128::from(*byte)))
    }

    /// The name of a file that a copy is in.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str().filter(|name| is_hex(name) && name.len() == 32)?;
        u128::from_str_radix(name, 16).ok().map(Self)
    }

    /// Where the copy is below `root`: in one of 256 directories.
    pub(super) fn below(self, root: &Path) -> PathBuf {
        let name = format!("{:032x}", self.0);
        root.join(format!("{:02x}", self.0 >> 120)).join(name)
    }

    /// It is the name of one of those.
    pub(super) fn is_directory(path: &Path) -> bool {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| is_hex(name) && name.len() == 2)
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The copies. Before they are learnt, those that are not known may be there nevertheless.
#[derive(Debug, Default)]
pub(super) struct Index {
    learnt: bool,
    bytes: u64,
    /// When each was used last, and its bytes.
    copies: HashMap<Name, (u64, u64)>,
    /// The other way round. Times are counted: each use is later than the one before.
    used: BTreeMap<u64, Name>,
    now: u64,
}

impl Index {
    /// There was all this before, what was used last at the end.
    pub(super) fn learn(&mut self, found: impl Iterator<Item = (Name, u64)>) {
        let later = std::mem::take(self);
        found.for_each(|(name, bytes)| self.add(name, bytes));
        for name in later.used.values() {
            if let Some((_, bytes)) = later.copies.get(name) {
                self.add(*name, *bytes);
            }
        }
        self.learnt = true;
    }

    /// How many copies there are, and their bytes.
    pub(super) fn size(&self) -> (usize, u64) {
        (self.copies.len(), self.bytes)
    }

    /// It is there.
    pub(super) fn has(&self, name: Name) -> bool {
        self.copies.contains_key(&name)
    }

    /// It is known not to be there.
    pub(super) fn lacks(&self, name: Name) -> bool {
        self.learnt && !self.has(name)
    }

    /// It is there, and used now.
    pub(super) fn add(&mut self, name: Name, bytes: u64) {
        self.forget(name);
        self.now += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.copies.insert(name, (self.now, bytes));
        self.used.insert(self.now, name);
    }

    /// It was read, or was not there or not whole.
    pub(super) fn used(&mut self, name: Name, found: bool) {
        match self.copies.get(&name) {
            Some((_, bytes)) if found => self.add(name, *bytes),
            _ if !found => self.forget(name),
            _ => {}
        }
    }

    /// Takes the one out that was used longest ago, where all are more than `bytes_max`.
    pub(super) fn pop_beyond(&mut self, bytes_max: u64) -> Option<Name> {
        if self.bytes <= bytes_max {
            return None;
        }
        let (_, name) = self.used.first_key_value()?;
        let name = *name;
        self.forget(name);
        Some(name)
    }

    fn forget(&mut self, name: Name) {
        if let Some((used, bytes)) = self.copies.remove(&name) {
            self.used.remove(&used);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}
