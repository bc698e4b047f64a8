//! Where records live: two seams, and what each promises. Knows no files; its implementations do.
//!
//! There are two because there are two kinds of knowledge:
//!
//! - An **artifact** is determined by its key. To write it twice is harmless, to lose it is a miss. It goes into a
//!   [`Store`]: a map under a byte budget that evicts by itself.
//! - A **hint** is a sum over processes. To count it twice is as wrong as to lose it. It goes into a [`Journal`]: a set
//!   of entries in which each stays exactly one entry, and which nobody but its user makes smaller.

#[cfg(feature = "testing")]
pub(crate) mod crash;
pub(crate) mod directory;
pub(crate) mod disk;
#[cfg(feature = "testing")]
pub(crate) mod fault;
pub(crate) mod layered;
pub(crate) mod memory;

use crate::persist::envelope::{Damage, Key, Meta};
use crate::persist::fingerprint::Fingerprint;
use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A map from [`Key`] to bytes under a byte budget.
///
/// What every implementation guarantees:
///
/// - **Whole or absent.** [`get`](Store::get) returns exactly the bytes that some `put` gave under that key, or a
///   [`Miss`] with its reason: never other bytes, never an error.
/// - **Atomic.** A reader, in this process or another, sees an entry before a `put` or after it.
/// - **The last put wins** within a process. Between processes either may: both wrote what the key determines.
/// - **Acknowledged is kept.** Once `put` has returned `Ok`, the entry outlives the death of the process, if the
///   implementation outlives processes at all, and after a [`sync`](Store::sync) of this store the loss of power. Only
///   eviction, `clear` and damage to the bytes themselves end it. An entry that is put again has to be synced again.
/// - **Refused is absent.** A `put` that returns a [`Refusal`] has stored nothing, and what was stored under the key stays.
///   Only where each `put` is synced may one be refused that is stored, as it is not safe from the loss of power.
/// - **Bounded.** The budget holds for all processes together, over restarts.
/// - **Patient with nobody.** No call waits for another process.
pub trait Store: Send + Sync {
    /// The entry's bytes, or why there are none. Counts as a use for eviction.
    fn get(&self, key: &Key) -> Result<Record, Miss>;

    /// As [`get`](Store::get) of each key, given to `found` with its number among the keys as soon as it is read, in whatever
    /// order they lie: every promise holds for each by itself, and what is wrong with one entry is a miss of that one alone.
    /// Where entries lie together they are read together, so it costs less; the records may share memory then, which is freed
    /// with the last of them. Whoever is done with a record when the next ones come needs memory for those alone. The store
    /// holds no lock meanwhile.
    fn get_each(&self, keys: &[Key], found: &mut dyn FnMut(usize, Result<Record, Miss>)) {
        keys.iter().enumerate().for_each(|(at, key)| found(at, self.get(key)));
    }

    /// As [`get_each`](Store::get_each), all of them in the keys' order.
    fn get_many(&self, keys: &[Key]) -> Vec<Result<Record, Miss>> {
        let mut all = vec![Err(Miss::Absent); keys.len()];
        self.get_each(keys, &mut |at, record| all[at] = record);
        all
    }

    /// Stores an entry, evicting others if the budget asks for it.
    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Refusal>;

    /// What is stored, the least recently used first. Reads no payload.
    fn entries(&self) -> Vec<StoredEntry>;

    /// Makes everything that this store acknowledged before this call survive the loss of power. What other processes put
    /// is theirs to sync, also what they left behind; put it here to make sure of it.
    fn sync(&self) -> Result<(), Refusal>;

    /// Removes every entry, and nothing that hapax did not write.
    fn clear(&self) -> Result<(), Refusal>;

    /// Removes what crashes left behind and what nothing refers to any more, and brings the bytes under the budget. A directory store
    /// also writes down where its entries are, as its drop does, so that the next process need not look for them.
    fn gc(&self) -> Result<Collected, Refusal>;

    /// Counts since it was opened, and bytes now.
    fn stats(&self) -> StoreStats;
}

/// A set of entries that many processes add to, and that is made smaller only by folding it.
///
/// What every implementation guarantees:
///
/// - **Each entry is seen exactly once** by a [`replay`](Journal::replay) that begins after its `append` returned,
///   whichever process wrote it and wherever any process died, also in the middle of a [`compact`](Journal::compact).
/// - **Compaction is atomic**: a replay sees the entries that were folded, or what they were folded into.
/// - **Whole or absent**: an entry whose bytes have changed is left out and counted.
/// - **Patient with nobody.** No call waits for another process; of several that compact at once, one does.
/// - Entries come in no particular order.
pub trait Journal: Send + Sync {
    /// Adds an entry. It may be as long as [`ENTRY_BYTES_AT_MOST`].
    ///
    /// # Errors
    /// Why it was refused. A refused append has added nothing, now or later, in this process or another: what it was to
    /// add may be appended again, and counts once.
    fn append(&self, fingerprint: &Fingerprint, entry: &[u8]) -> Result<(), Refusal>;

    /// All entries of all processes, this one's too.
    fn replay(&self) -> Result<Replay, Refusal>;

    /// Replaces entries by what `fold` makes of them. What `fold` is given are the entries of this process, of ended
    /// ones, and of earlier folds; those that live processes are still adding to stay as they are. Appends go on
    /// meanwhile and are not lost. If `fold` panics, nothing has changed.
    fn compact(&self, fold: &mut dyn FnMut(Vec<JournalEntry>) -> Vec<JournalEntry>) -> Result<Compacted, Refusal>;

    /// Makes everything appended before this call survive the loss of power.
    fn sync(&self) -> Result<(), Refusal>;

    /// Removes every entry that this process can see.
    fn clear(&self) -> Result<(), Refusal>;

    /// Bytes that it takes where it lives.
    fn bytes(&self) -> u64;
}

/// The longest entry of a [`Journal`].
pub const ENTRY_BYTES_AT_MOST: usize = 64 << 10;

pub(crate) fn check_entry(entry: &[u8]) -> Result<(), Refusal> {
    if entry.len() <= ENTRY_BYTES_AT_MOST {
        return Ok(());
    }
    Err(Refusal::Oversize { need_bytes: entry.len() as u64, limit_bytes: ENTRY_BYTES_AT_MOST as u64 })
}

/// One entry of a [`Journal`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalEntry {
    /// What it is about.
    pub fingerprint: Fingerprint,
    /// The bytes that were appended.
    pub bytes: Vec<u8>,
}

/// What [`Journal::replay`] found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Replay {
    /// Each entry once, in no particular order.
    pub entries: Vec<JournalEntry>,
    /// Places at which bytes had changed or were missing.
    pub damaged: u64,
    /// Files that were read: about one for each process that appended since the last fold. Many are a reason to
    /// [`compact`](Journal::compact).
    pub files: usize,
}

/// How [`Journal::compact`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compacted {
    /// The entries were folded.
    Done {
        /// Entries that `fold` was given.
        entries_before: usize,
        /// Entries that it returned.
        entries_after: usize,
    },
    /// Another process is at it; nothing was done.
    Busy,
}

/// An entry that a [`Store`] returned: it derefs to the artifact's bytes. A clone shares them; so do, in pieces of up to
/// 64 KiB, records that one [`Store::get_many`] read together.
#[derive(Clone)]
pub struct Record {
    bytes: Arc<Vec<u8>>,
    payload: Range<usize>,
    meta: Meta,
}

impl Record {
    /// The payload is that part of `bytes`.
    pub(crate) fn new(bytes: Vec<u8>, payload: Range<usize>, meta: Meta) -> Record {
        Record::part_of(&Arc::new(bytes), payload, meta)
    }

    /// As [`new`](Record::new), of bytes that other records are parts of, too.
    pub(crate) fn part_of(bytes: &Arc<Vec<u8>>, payload: Range<usize>, meta: Meta) -> Record {
        debug_assert!(payload.end <= bytes.len());
        Record { bytes: bytes.clone(), payload, meta }
    }

    /// An artifact that comes from elsewhere than a store, such as from the compiler just now.
    pub fn from_vec(payload: Vec<u8>, meta: Meta) -> Record {
        let all = 0..payload.len();
        Record::new(payload, all, meta)
    }

    /// What is known beside the bytes.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The artifact's bytes as a vector; copies only if clones are left, or records that were read with it.
    pub fn into_vec(self) -> Vec<u8> {
        match Arc::try_unwrap(self.bytes) {
            Ok(mut bytes) => {
                bytes.truncate(self.payload.end);
                bytes.drain(..self.payload.start);
                bytes
            }
            Err(shared) => shared[self.payload].to_vec(),
        }
    }
}

impl Deref for Record {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.payload.clone()]
    }
}

impl AsRef<[u8]> for Record {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("bytes", &self.payload.len()).field("meta", &self.meta).finish()
    }
}

/// Why a lookup found nothing. Every reason is a miss: compile, and put the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Miss {
    /// Nothing is stored under the key.
    #[error("nothing is stored under this key")]
    Absent,
    /// Something was, and its bytes are not what was written. It is not looked at again.
    #[error("the stored bytes are damaged: {0}")]
    Damaged(Damage),
    /// The bytes could not be read: the disk failed, or the directory was removed.
    #[error("the stored bytes cannot be read")]
    Unreadable,
    /// The store is switched off; [`Refusal::Off`] from a `put` says why.
    #[error("the store is off")]
    Off,
}

/// Why something was not stored. The artifact is as good as before: use it, and go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The store is switched off, for the reason given.
    #[error("the store is off: {0}")]
    Off(Arc<str>),
    /// It was opened for reading, or the file system became read-only.
    #[error("the store is read-only")]
    ReadOnly,
    /// It could never fit.
    #[error(
        "{need_bytes} bytes cannot fit: at most {limit_bytes} can be stored; raise the budget or split the artifact"
    )]
    Oversize {
        /// Bytes that it would take.
        need_bytes: u64,
        /// The most that one entry may take.
        limit_bytes: u64,
    },
    /// The disk, or the user's quota, is full.
    #[error("the disk is full; free some space, or lower the budget and collect")]
    DiskFull,
    /// The operating system refused.
    #[error("cannot {action}: {message}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        message: String,
    },
}

impl Refusal {
    /// What an operating system's error means for whoever wanted to write.
    pub(crate) fn from_io(action: &'static str, error: &io::Error) -> Refusal {
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Refusal::ReadOnly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refusal::DiskFull,
            _ => Refusal::Io { action, message: error.to_string() },
        }
    }
}

/// An entry without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredEntry {
    /// What it is stored under.
    pub key: Key,
    /// Bytes that it takes, with its frame.
    pub bytes: u64,
}

/// What a [`Store::gc`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Collected {
    /// Files that are gone.
    pub files: u64,
    /// Bytes that they took.
    pub bytes: u64,
}

/// A store's figures since it was opened, and its bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Lookups that returned a record.
    pub hits: u64,
    /// Lookups that did not, for whatever reason.
    pub misses: u64,
    /// Of the misses, those whose bytes were damaged; places found damaged at opening count here, too.
    pub damaged: u64,
    /// Of the misses, those whose bytes could not be read.
    pub unreadable: u64,
    /// Entries stored.
    pub puts: u64,
    /// Entries refused, for whatever reason.
    pub refusals: u64,
    /// Entries that this process evicted to make room.
    pub evictions: u64,
    /// Entries that it kept alive by writing them again while making room.
    pub reinsertions: u64,
    /// Entries resident now, as far as this process has looked.
    pub entries: u64,
    /// Bytes taken now, of all that counts against the budget.
    pub resident_bytes: u64,
    /// The budget.
    pub budget_bytes: u64,
}

impl StoreStats {
    /// Hits per lookup, 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }
}
