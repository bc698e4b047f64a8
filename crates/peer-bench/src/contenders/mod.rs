//! What is compared, each behind the same four operations.

mod bare;
mod hapax;
mod peers;

pub use bare::Bare;
pub use hapax::Hapax;
pub use peers::{Foyer, Moka, MutexLru, QuickCache, TinyUfo};

use ::hapax::{Mode, Policy};
use std::hint::black_box;

/// What peers store: the size of what a slot of hapax stores of a handle.
pub type Payload = [u64; 3];

/// Bytes of every entry in the timed rows.
pub const ENTRY_BYTES: u64 = 256;

/// Names of the contenders, in the order of the tables.
pub const NAMES: [&str; 8] =
    ["hapax", "hapax relaxed", "hapax CAMP", "Mutex<lru>", "quick_cache", "moka", "foyer-memory", "TinyUFO"];
/// Only beside hapax's own rows, and on one thread.
pub const BARE: &str = "bare dense LRU";

/// A cache under test. `Thread` is what one thread keeps beside it.
pub trait Operations: Sync {
    type Thread;

    fn thread(&self) -> Self::Thread;
    /// Looks up and reads. Whether it was there.
    fn get(&self, key: u128, thread: &mut Self::Thread) -> bool;
    /// Puts an entry in, in place of what the cache chooses.
    fn insert(&self, key: u128, thread: &mut Self::Thread);
}

/// Whole batches, so that no call through a table of functions is timed.
pub trait Contender: Sync {
    /// Hits among them.
    fn look_up(&self, keys: &[u128]) -> usize;
    fn insert_all(&self, keys: &[u128]);
    /// Looks up, and inserts what is missing. Hits among them.
    fn use_all(&self, keys: &[u128]) -> usize;
}

impl<T: Operations> Contender for T {
    fn look_up(&self, keys: &[u128]) -> usize {
        let mut thread = self.thread();
        keys.iter().filter(|&&key| self.get(key, &mut thread)).count()
    }

    fn insert_all(&self, keys: &[u128]) {
        let mut thread = self.thread();
        for &key in keys {
            self.insert(key, &mut thread);
        }
    }

    fn use_all(&self, keys: &[u128]) -> usize {
        let mut thread = self.thread();
        let mut hits = 0;
        for &key in keys {
            if self.get(key, &mut thread) {
                hits += 1;
            } else {
                self.insert(key, &mut thread);
            }
        }
        hits
    }
}

/// A contender with room for so many entries.
pub fn contender(name: &str, entries: usize) -> Box<dyn Contender> {
    match name {
        "hapax" => Box::new(Hapax::new(entries, Policy::Lru, Mode::Exact)),
        "hapax relaxed" => Box::new(Hapax::new(entries, Policy::Lru, Mode::Relaxed)),
        "hapax CAMP" => Box::new(Hapax::new(entries, Policy::Camp, Mode::Exact)),
        "Mutex<lru>" => Box::new(MutexLru::new(entries)),
        "quick_cache" => Box::new(QuickCache::new(entries)),
        "moka" => Box::new(Moka::new(entries)),
        "foyer-memory" => Box::new(Foyer::new(entries)),
        "TinyUFO" => Box::new(TinyUfo::new(entries)),
        BARE => Box::new(Bare::new(entries)),
        _ => panic!("no contender `{name}`; there are {NAMES:?}"),
    }
}

fn payload(key: u128) -> Payload {
    [key as u64; 3]
}

fn read(payload: &Payload) {
    black_box(payload[0]);
}
