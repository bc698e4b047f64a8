//! A cache that starts warm: what was resident is written beside the code, and after a restart the code goes back in, in the
//! same order. Here the cache and the code store meet; neither knows of the other.

use crate::cache::resident::Resident;
use crate::cache::vacancy::TryLookup;
use crate::cache::{Cache, SnapshotEntry, VramCache};
use crate::code::CodeStore;
use crate::device::stream::Stream;
use crate::error::Error;
use crate::persist::envelope::{Damage, Key, Kind, Meta};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::{Miss, Refusal};
use crate::sync::{AtomicBool, Ordering};
use std::fmt;
use std::hash::Hash;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

const FORMAT: u8 = 1;
const ENTRY_BYTES: usize = 48;

/// What a cache held: by fingerprint, the next victim first, with the bytes charged and the cost.
///
/// ```
/// use hapax::{CodeStore, DirectoryOptions, Fingerprint, Key, Kind, Meta, WarmSet};
/// use hapax::{Heap, HeapOptions, HostDevice, Lookup, VramCache};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let code = CodeStore::open(&DirectoryOptions::new("my-compiler").dir(folder));
/// let unit = Fingerprint::of("my-compiler").part("unit", "f").finish();
/// code.put(&Key::new(Kind::CODE, unit), &Meta::default(), b"machine code")?;
/// {
///     let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
///     let stream = heap.new_stream()?;
///     let cache: VramCache<Fingerprint, [u8]> = VramCache::new(&heap, 1 << 16)?;
///     if let Lookup::Miss(vacancy) = cache.lookup(&unit, &stream)? {
///         let code = code.get(&Key::new(Kind::CODE, unit))?;
///         drop(vacancy.fill_from(&code).map_err(hapax::Error::from)?);
///     }
///     // At the end, or from time to time. Here the cache's keys are fingerprints.
///     WarmSet::of(&cache, |key| Some(*key)).save(&code, "main cache")?;
/// }
/// // The next process.
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let stream = heap.new_stream()?;
/// let cache: VramCache<Fingerprint, [u8]> = VramCache::new(&heap, 1 << 16)?;
/// if let Ok(set) = WarmSet::load(&code, "main cache") {
///     let refilled = set.refill(&cache, &code, Kind::CODE, &stream, |fingerprint| Some(*fingerprint))?;
///     assert_eq!((refilled.filled, refilled.absent), (1, 0));
/// }
/// assert!(cache.contains(&unit));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WarmSet {
    entries: Vec<WarmEntry>,
}

/// One entry of a [`WarmSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmEntry {
    /// Of which compilation.
    pub fingerprint: Fingerprint,
    /// Bytes charged when it was resident.
    pub charge_bytes: u64,
    /// What it costs to make again.
    pub cost_ns: u64,
}

/// What a refill did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Refilled {
    /// Entries that went in.
    pub filled: u64,
    /// Bytes of code in them.
    pub bytes: u64,
    /// Entries that were resident already, or that another thread was filling.
    pub present: u64,
    /// Entries whose code is not in the store any more.
    pub absent: u64,
    /// Entries that no key was given for.
    pub unknown: u64,
    /// Left out, the coldest first, because the cache has no room for them; present and unknown ones that are colder than all
    /// that went in count here, too.
    pub no_room: u64,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

impl WarmSet {
    /// What `cache` holds now; entries for which `fingerprint_of` gives none are left out. `K::clone` runs under the cache's lock.
    pub fn of<K, V>(cache: &Cache<K, V>, fingerprint_of: impl Fn(&K) -> Option<Fingerprint>) -> WarmSet
    where
        K: Hash + Eq + Clone,
        V: Resident,
    {
        let entry = |entry: SnapshotEntry<K>| {
            let fingerprint = fingerprint_of(&entry.key)?;
            Some(WarmEntry { fingerprint, charge_bytes: entry.charge_bytes, cost_ns: entry.cost_ns })
        };
        WarmSet { entries: cache.snapshot().into_iter().filter_map(entry).collect() }
    }

    /// The entries, the next victim first.
    pub fn entries(&self) -> &[WarmEntry] {
        &self.entries
    }

    /// Writes it into `code`, in the place of what was written under that name before: whole or not at all. It is an entry
    /// like others, under the store's budget.
    ///
    /// # Errors
    /// What the store says.
    pub fn save(&self, code: &CodeStore, name: &str) -> Result<(), Refusal> {
        let mut bytes = Vec::with_capacity(1 + self.entries.len() * ENTRY_BYTES);
        bytes.push(FORMAT);
        for entry in &self.entries {
            bytes.extend(entry.fingerprint.as_bytes());
            bytes.extend(entry.charge_bytes.to_le_bytes());
            bytes.extend(entry.cost_ns.to_le_bytes());
        }
        let meta = Meta { label: format!("warm set {name}"), ..Meta::default() };
        code.put(&place(name), &meta, &bytes)
    }

    /// What was last written under that name.
    ///
    /// # Errors
    /// A miss, for whatever reason: start cold.
    pub fn load(code: &CodeStore, name: &str) -> Result<WarmSet, Miss> {
        let record = code.get(&place(name))?;
        let (format, entries) = record.split_first().ok_or(Miss::Damaged(Damage::Truncated))?;
        if *format != FORMAT {
            return Err(Miss::Damaged(Damage::OtherVersion(u16::from(*format))));
        }
        if entries.len() % ENTRY_BYTES != 0 {
            return Err(Miss::Damaged(Damage::Truncated));
        }
        Ok(WarmSet { entries: entries.chunks_exact(ENTRY_BYTES).map(WarmEntry::read).collect() })
    }

    /// Puts the code back into the cache, on this thread. `key_of` gives the key of a fingerprint; entries without one are left
    /// out. The code is that of `kind`.
    ///
    /// The hottest entries are taken that fit the room which the cache has, and they go in the coldest first, so that the next victim
    /// is the one it was. If others put something in meanwhile, the coldest that are left make room for it: a refill evicts
    /// nothing, unless an insertion of others comes between its look at the room and its own. It waits for no filler.
    ///
    /// # Errors
    /// What filling the cache says, such as [`Error::DeviceLost`]. Entries that find no room after all are left out.
    pub fn refill<K>(
        &self,
        cache: &VramCache<K, [u8]>,
        code: &CodeStore,
        kind: Kind,
        stream: &Stream,
        key_of: impl Fn(&Fingerprint) -> Option<K>,
    ) -> Result<Refilled, Error>
    where
        K: Hash + Eq + Clone,
    {
        self.refill_until(cache, code, kind, stream, key_of, || false)
    }

    /// As [`refill`](Self::refill), on a thread of its own, with a stream of its own. Dropping what is returned stops it.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn refill_in_background<K>(
        self,
        cache: Arc<VramCache<K, [u8]>>,
        code: Arc<CodeStore>,
        kind: Kind,
        key_of: impl Fn(&Fingerprint) -> Option<K> + Send + 'static,
    ) -> io::Result<Refilling>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("hapax refill".to_owned()).spawn(move || {
            let stream = cache.heap().new_stream()?;
            self.refill_until(&cache, &code, kind, &stream, key_of, || stopped.load(Ordering::Relaxed))
        })?;
        Ok(Refilling { stop, thread: Some(thread) })
    }

    fn refill_until<K>(
        &self,
        cache: &VramCache<K, [u8]>,
        code: &CodeStore,
        kind: Kind,
        stream: &Stream,
        key_of: impl Fn(&Fingerprint) -> Option<K>,
        stop: impl Fn() -> bool,
    ) -> Result<Refilled, Error>
    where
        K: Hash + Eq + Clone,
    {
        let mut refilled = Refilled::default();
        let mut chosen = Vec::new();
        let mut chosen_bytes = 0;
        let room_bytes = cache.index().room_bytes();
        for (at, entry) in self.entries.iter().enumerate().rev() {
            if stop() {
                refilled.stopped = true;
                return Ok(refilled);
            }
            let Some(key) = key_of(&entry.fingerprint) else {
                refilled.unknown += 1;
                continue;
            };
            if cache.contains(&key) {
                refilled.present += 1;
                continue;
            }
            if entry.charge_bytes > room_bytes - chosen_bytes {
                // A colder one in its place would change the order.
                refilled.no_room += 1 + at as u64;
                break;
            }
            chosen_bytes += entry.charge_bytes;
            chosen.push((key, entry));
        }
        for (key, entry) in chosen.into_iter().rev() {
            if stop() {
                refilled.stopped = true;
                break;
            }
            // Others have put something in: the coldest make room for it, instead of evicting it.
            let fits = chosen_bytes <= cache.index().room_bytes();
            chosen_bytes -= entry.charge_bytes;
            if !fits {
                refilled.no_room += 1;
                continue;
            }
            // Read before the vacancy is open: a lookup of this key must not wait for a disk that may have nothing.
            let Ok(record) = code.get(&Key::new(kind, entry.fingerprint)) else {
                refilled.absent += 1;
                continue;
            };
            let TryLookup::Miss(vacancy) = cache.try_lookup(&key, stream)? else {
                refilled.present += 1;
                continue;
            };
            match vacancy.cost_ns(entry.cost_ns).fill_from(&record).map_err(Error::from) {
                Ok(filled) => {
                    drop(filled.lease);
                    filled.evicted.free_all()?;
                    refilled.filled += 1;
                    refilled.bytes += record.len() as u64;
                }
                Err(
                    Error::Oversize { .. } | Error::NoRoom { .. } | Error::NoEntry { .. } | Error::OutOfMemory { .. },
                ) => {
                    refilled.no_room += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refilled)
    }
}

impl WarmEntry {
    fn read(bytes: &[u8]) -> WarmEntry {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let fingerprint = Fingerprint::from_bytes(bytes[..32].try_into().expect("32 bytes"));
        WarmEntry { fingerprint, charge_bytes: number(32), cost_ns: number(40) }
    }
}

fn place(name: &str) -> Key {
    Key::new(Kind::HINT, Fingerprint::of("hapax warm set").part("name", name).finish())
}

/// A refill in the background. Dropping it stops the refill after the entry that it is at, and waits for that.
#[must_use = "dropping it stops the refill"]
pub struct Refilling {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Refilled, Error>>>,
}

impl Refilling {
    /// Waits for the end.
    ///
    /// # Errors
    /// As [`WarmSet::refill`].
    ///
    /// # Panics
    /// If `key_of`, or a key's `Hash`, `Eq` or `Clone`, panicked.
    pub fn wait(mut self) -> Result<Refilled, Error> {
        let thread = self.thread.take().expect("only the drop takes it else");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Whether it is over.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Refilling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it failed with, nobody asked for.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Refilling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refilling").field("finished", &self.is_finished()).finish()
    }
}
