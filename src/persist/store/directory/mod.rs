//! A store in a directory of the file system, shared by processes that never wait for each other. Knows records and
//! files; nothing of what is compiled, and no device.
//!
//! Each process appends small records to a segment file of its own. A sealed segment has a sidecar that says where its
//! records are; without one it is scanned. Large records are a file each. Nothing is ever written in place of something
//! else: what may be damaged by a crash is only what was being written.

mod index;
pub(crate) mod journal;
mod look;
mod names;
pub(crate) mod options;
mod read;
mod real;
mod recency;
mod room;
pub(crate) mod root;
pub(crate) mod segment;
mod unsynced;
mod write;

use crate::persist::envelope::{Key, Meta};
use crate::persist::store::directory::index::Index;
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::options::{DirectoryOptions, Settings};
use crate::persist::store::directory::real::RealDisk;
use crate::persist::store::directory::root::{Distrust, Surroundings};
use crate::persist::store::directory::write::{Writer, absent_is_fine};
use crate::persist::store::disk::Disk;
#[cfg(feature = "testing")]
use crate::persist::store::fault::DiskFaults;
use crate::persist::store::{Collected, Miss, Record, Refusal, Store, StoreStats, StoredEntry};
use crate::sync::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A [`Store`] in a directory, for artifacts that outlive the process.
///
/// A store that cannot be trusted, or not be opened, is *off*: every lookup misses, every put is refused with the
/// reason, and [`off_reason`](DirectoryStore::off_reason) gives it. [`open_strict`](DirectoryStore::open_strict) makes it an
/// error instead.
///
/// ```
/// use hapax::{DirectoryOptions, DirectoryStore, Fingerprint, Key, Kind, Meta, Store};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let options = DirectoryOptions::new("my-compiler").dir(folder).budget_bytes(64 << 20);
/// let key = Key::new(Kind::CODE, Fingerprint::of("example").part("ir", "fn f").finish());
/// let store = DirectoryStore::open(&options);
/// store.put(&key, &Meta::default(), b"machine code")?;
/// drop(store);
///
/// let store = DirectoryStore::open(&options); // the next process
/// assert_eq!(*store.get(&key)?, *b"machine code");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DirectoryStore(Result<Core, Off>);

struct Off {
    why: Distrust,
    message: Arc<str>,
    misses: AtomicU64,
    refusals: AtomicU64,
}

/// A store that works. Locks are taken in the order writer, looking, index, the small ones.
struct Core {
    disk: Arc<dyn Disk>,
    settings: Settings,
    index: Mutex<Index>,
    writer: Mutex<Writer>,
    looking: Mutex<()>,
    lately: Mutex<Lately>,
    looked_ns: AtomicU64,
    tended_ns: AtomicU64,
    /// When the list of uses was last written by this process, and what it took.
    recency_ns: AtomicU64,
    recency_bytes: AtomicU64,
    opened: Instant,
    counters: Counters,
    #[cfg(feature = "testing")]
    evicted: Mutex<Vec<Key>>,
}

/// What was made while somebody may have been listing the directory.
#[derive(Default)]
struct Lately {
    segments: Vec<u64>,
    large: Vec<Name>,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    unreadable: AtomicU64,
    puts: AtomicU64,
    refusals: AtomicU64,
    evictions: AtomicU64,
    reinsertions: AtomicU64,
}

impl DirectoryStore {
    /// Opens, and makes what is missing of the directory. Reads the sidecars of all segments, and scans segments that have
    /// none. A store that cannot be opened is off.
    pub fn open(options: &DirectoryOptions) -> DirectoryStore {
        Self::open_strict(options).unwrap_or_else(Self::off)
    }

    /// As [`open`](DirectoryStore::open), but a store that would be off is an error.
    pub fn open_strict(options: &DirectoryOptions) -> Result<DirectoryStore, Distrust> {
        let surroundings = options.surroundings.clone().unwrap_or_else(Surroundings::real);
        let directory = root::open(options, &surroundings, "code")?;
        Ok(Self::over(Arc::new(RealDisk::new(directory, surroundings.user)), options.settings()))
    }

    /// A store that is off for a reason of the embedder's.
    pub(crate) fn off(why: Distrust) -> DirectoryStore {
        let message = why.to_string().into();
        DirectoryStore(Err(Off { why, message, misses: AtomicU64::new(0), refusals: AtomicU64::new(0) }))
    }

    /// As [`open_strict`](DirectoryStore::open_strict), with faults in front of the file system.
    #[cfg(feature = "testing")]
    pub fn open_behind(options: &DirectoryOptions, faults: &DiskFaults) -> Result<DirectoryStore, Distrust> {
        let surroundings = options.surroundings.clone().unwrap_or_else(Surroundings::real);
        let directory = root::open(options, &surroundings, "code")?;
        let disk = faults.in_front_of(RealDisk::new(directory, surroundings.user));
        Ok(Self::over(Arc::new(disk), options.settings()))
    }

    /// Over another disk than the file system, for tests.
    #[cfg(feature = "testing")]
    pub fn over_disk(disk: Arc<dyn Disk>, options: &DirectoryOptions) -> DirectoryStore {
        Self::over(disk, options.settings())
    }

    fn over(disk: Arc<dyn Disk>, settings: Settings) -> DirectoryStore {
        let core = Core {
            disk,
            settings,
            index: Mutex::new(Index::default()),
            writer: Mutex::new(Writer::new()),
            looking: Mutex::new(()),
            lately: Mutex::new(Lately::default()),
            looked_ns: AtomicU64::new(0),
            tended_ns: AtomicU64::new(0),
            recency_ns: AtomicU64::new(0),
            recency_bytes: AtomicU64::new(0),
            opened: Instant::now(),
            counters: Counters::default(),
            #[cfg(feature = "testing")]
            evicted: Mutex::new(Vec::new()),
        };
        // A directory that cannot be listed now is looked at again at the next miss.
        let _ = core.look();
        core.read_recency();
        DirectoryStore(Ok(core))
    }

    /// Why it is off; `None` if it is not.
    pub fn off_reason(&self) -> Option<&Distrust> {
        self.0.as_ref().err().map(|off| &off.why)
    }

    /// The entries that this process has evicted since this was last called.
    #[cfg(feature = "testing")]
    pub fn take_evicted(&self) -> Vec<Key> {
        self.0.as_ref().map_or_else(|_| Vec::new(), |core| std::mem::take(&mut *core.evicted.lock()))
    }

    /// Panics if what is known of the directory contradicts itself.
    #[cfg(feature = "testing")]
    pub fn validate(&self) {
        if let Ok(core) = &self.0 {
            core.index.lock().validate();
        }
    }

    /// Sees now what other processes have put, evicted and cleared, and lets them see what is used here. By itself the store
    /// looks when a lookup misses, at most every 100 ms, and while all lookups hit every 10 s.
    pub fn refresh(&self) -> Result<(), Refusal> {
        let core = self.core()?;
        core.look().map_err(|error| Refusal::from_io("list the directory", &error))?;
        core.write_recency();
        Ok(())
    }

    fn core(&self) -> Result<&Core, Refusal> {
        self.0.as_ref().map_err(|off| Refusal::Off(off.message.clone()))
    }
}

impl Store for DirectoryStore {
    fn get(&self, key: &Key) -> Result<Record, Miss> {
        match &self.0 {
            Ok(core) => core.get(key),
            Err(off) => {
                off.misses.fetch_add(1, Ordering::Relaxed);
                Err(Miss::Off)
            }
        }
    }

    fn get_each(&self, keys: &[Key], found: &mut dyn FnMut(usize, Result<Record, Miss>)) {
        match &self.0 {
            Ok(core) => core.get_each(keys, found),
            Err(off) => {
                off.misses.fetch_add(keys.len() as u64, Ordering::Relaxed);
                (0..keys.len()).for_each(|at| found(at, Err(Miss::Off)));
            }
        }
    }

    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Refusal> {
        let core = self.core().inspect_err(|_| self.count_refusal())?;
        let put = core.write(key, meta, payload);
        let counter = if put.is_ok() { &core.counters.puts } else { &core.counters.refusals };
        counter.fetch_add(1, Ordering::Relaxed);
        put
    }

    fn entries(&self) -> Vec<StoredEntry> {
        let Ok(core) = &self.0 else { return Vec::new() };
        let by_use = core.index.lock().by_use();
        by_use.into_iter().map(|(key, place)| StoredEntry { key, bytes: u64::from(place.bytes) }).collect()
    }

    fn sync(&self) -> Result<(), Refusal> {
        let core = self.core()?;
        core.write_recency();
        core.sync_now(&mut core.lock_writer())
    }

    fn clear(&self) -> Result<(), Refusal> {
        self.core()?.clear()
    }

    fn gc(&self) -> Result<Collected, Refusal> {
        let core = self.core()?;
        if core.settings.read_only {
            return Err(Refusal::ReadOnly);
        }
        // First, since it counts.
        core.write_recency();
        core.collect(&mut core.lock_writer())
    }

    fn stats(&self) -> StoreStats {
        match &self.0 {
            Ok(core) => core.stats(),
            Err(off) => StoreStats {
                misses: off.misses.load(Ordering::Relaxed),
                refusals: off.refusals.load(Ordering::Relaxed),
                ..StoreStats::default()
            },
        }
    }
}

impl DirectoryStore {
    fn count_refusal(&self) {
        if let Err(off) = &self.0 {
            off.refusals.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Core {
    fn elapsed_ns(&self) -> u64 {
        self.opened.elapsed().as_nanos() as u64
    }

    fn clear(&self) -> Result<(), Refusal> {
        if self.settings.read_only {
            return Err(Refusal::ReadOnly);
        }
        let mut writer = self.lock_writer();
        // Who looks meanwhile would remember what is gone.
        let _nobody_looks = self.looking.lock();
        writer.open = None;
        let names = self.disk.list().map_err(|error| Refusal::from_io("list the directory", &error))?;
        for name in names.iter().filter_map(|name| Name::parse(name)) {
            // The lock stays, since somebody may hold it, and so does a journal that lies beside it in a pack.
            if name != Name::Lock && !name.is_of_a_journal() {
                let removed = self.disk.remove(&name.to_string()).or_else(absent_is_fine);
                removed.map_err(|error| Refusal::from_io("remove an entry", &error))?;
            }
        }
        writer.unsynced.clear();
        self.index.lock().clear();
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let index = self.index.lock();
        StoreStats {
            hits: count(&counters.hits),
            misses: count(&counters.misses),
            damaged: count(&counters.damaged),
            unreadable: count(&counters.unreadable),
            puts: count(&counters.puts),
            refusals: count(&counters.refusals),
            evictions: count(&counters.evictions),
            reinsertions: count(&counters.reinsertions),
            entries: index.entries(),
            resident_bytes: index.resident_bytes(),
            budget_bytes: self.settings.budget_bytes,
        }
    }
}

/// The orderly end: the next process need not scan, and knows the order of use.
impl Drop for Core {
    fn drop(&mut self) {
        if self.settings.read_only {
            return;
        }
        let mut writer = self.lock_writer();
        self.seal(&mut writer);
        drop(writer);
        self.write_recency();
    }
}

impl fmt::Debug for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryStore").field("off", &self.off_reason()).field("stats", &self.stats()).finish()
    }
}
