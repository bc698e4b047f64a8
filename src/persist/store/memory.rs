//! The seams without a disk: for tests, and for processes that keep nothing. Ends with its process; an oracle for the
//! stores that do not.

use crate::persist::envelope::{Key, Meta};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::{
    Collected, Compacted, Journal, JournalEntry, Miss, Record, Refusal, Replay, Store, StoreStats, StoredEntry,
    check_entry,
};
use crate::sync::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A [`Store`] in memory: exact LRU, charged by payload bytes. Clones share it.
///
/// ```
/// use hapax::{Fingerprint, Key, Kind, MemoryStore, Meta, Miss, Store};
///
/// let store = MemoryStore::new(64);
/// let key = |name: &str| Key::new(Kind::CODE, Fingerprint::of("example").part("name", name).finish());
/// store.put(&key("a"), &Meta::default(), &[1; 40])?;
/// assert_eq!(*store.get(&key("a")).unwrap(), [1; 40]);
/// store.put(&key("b"), &Meta::default(), &[2; 40])?; // evicts the first
/// assert_eq!(store.get(&key("a")).unwrap_err(), Miss::Absent);
/// # Ok::<(), hapax::Refusal>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Mutex<Entries>>);

struct Entries {
    by_key: HashMap<Key, (u64, Record)>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    stats: StoreStats,
}

impl MemoryStore {
    /// An empty one that holds at most `budget_bytes` of payloads.
    pub fn new(budget_bytes: u64) -> MemoryStore {
        let stats = StoreStats { budget_bytes, ..StoreStats::default() };
        MemoryStore(Arc::new(Mutex::new(Entries { by_key: HashMap::new(), by_use: BTreeMap::new(), uses: 0, stats })))
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &Key) -> Result<Record, Miss> {
        let mut entries = self.0.lock();
        let found = entries.touch(key);
        match found {
            Some(_) => entries.stats.hits += 1,
            None => entries.stats.misses += 1,
        }
        found.ok_or(Miss::Absent)
    }

    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Refusal> {
        let need_bytes = payload.len() as u64;
        let mut entries = self.0.lock();
        let limit_bytes = entries.stats.budget_bytes;
        if need_bytes > limit_bytes {
            entries.stats.refusals += 1;
            return Err(Refusal::Oversize { need_bytes, limit_bytes });
        }
        entries.take(key);
        while entries.stats.resident_bytes + need_bytes > limit_bytes {
            let (_, oldest) = entries.by_use.pop_first().expect("bytes are resident, so an entry is");
            entries.take(&oldest);
            entries.stats.evictions += 1;
        }
        entries.stats.puts += 1;
        entries.stats.resident_bytes += need_bytes;
        entries.uses += 1;
        let stamp = entries.uses;
        entries.by_use.insert(stamp, *key);
        entries.by_key.insert(*key, (stamp, Record::from_vec(payload.to_vec(), meta.clone())));
        Ok(())
    }

    fn entries(&self) -> Vec<StoredEntry> {
        let entries = self.0.lock();
        entries
            .by_use
            .values()
            .map(|key| StoredEntry { key: *key, bytes: entries.by_key[key].1.len() as u64 })
            .collect()
    }

    fn sync(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn clear(&self) -> Result<(), Refusal> {
        let mut entries = self.0.lock();
        entries.by_key.clear();
        entries.by_use.clear();
        entries.stats.resident_bytes = 0;
        Ok(())
    }

    fn gc(&self) -> Result<Collected, Refusal> {
        Ok(Collected::default())
    }

    fn stats(&self) -> StoreStats {
        let entries = self.0.lock();
        StoreStats { entries: entries.by_key.len() as u64, ..entries.stats }
    }
}

impl Entries {
    fn touch(&mut self, key: &Key) -> Option<Record> {
        let (stamp, record) = self.by_key.get_mut(key)?;
        self.by_use.remove(stamp);
        self.uses += 1;
        *stamp = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(record.clone())
    }

    fn take(&mut self, key: &Key) {
        if let Some((stamp, record)) = self.by_key.remove(key) {
            self.by_use.remove(&stamp);
            self.stats.resident_bytes -= record.len() as u64;
        }
    }
}

/// A [`Journal`] in memory. Clones share it, as processes share a directory.
///
/// ```
/// use hapax::{Fingerprint, Journal, MemoryJournal};
///
/// let journal = MemoryJournal::new();
/// let other_process = journal.clone();
/// journal.append(&Fingerprint::of("example").finish(), b"one")?;
/// other_process.append(&Fingerprint::of("example").finish(), b"two")?;
/// assert_eq!(journal.replay()?.entries.len(), 2);
/// # Ok::<(), hapax::Refusal>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryJournal(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    entries: Vec<JournalEntry>,
    /// The first entries, as many as this, are being folded.
    folding: Option<usize>,
}

impl MemoryJournal {
    /// An empty one.
    pub fn new() -> MemoryJournal {
        MemoryJournal::default()
    }
}

impl Journal for MemoryJournal {
    fn append(&self, fingerprint: &Fingerprint, entry: &[u8]) -> Result<(), Refusal> {
        check_entry(entry)?;
        self.0.lock().entries.push(JournalEntry { fingerprint: *fingerprint, bytes: entry.to_vec() });
        Ok(())
    }

    fn replay(&self) -> Result<Replay, Refusal> {
        Ok(Replay { entries: self.0.lock().entries.clone(), ..Replay::default() })
    }

    fn compact(&self, fold: &mut dyn FnMut(Vec<JournalEntry>) -> Vec<JournalEntry>) -> Result<Compacted, Refusal> {
        let before = {
            let mut log = self.0.lock();
            if log.folding.is_some() {
                return Ok(Compacted::Busy);
            }
            log.folding = Some(log.entries.len());
            log.entries.clone()
        };
        // Ends with this call, also when `fold` panics. It runs out of the lock, since it may append.
        let folding = Folding(&self.0);
        let entries_before = before.len();
        let folded = fold(before);
        let entries_after = folded.len();
        let mut log = self.0.lock();
        let cleared = log.folding == Some(0) && entries_before > 0;
        if !cleared {
            log.entries.splice(..entries_before, folded);
        }
        drop(log);
        drop(folding);
        Ok(Compacted::Done { entries_before, entries_after })
    }

    fn sync(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn clear(&self) -> Result<(), Refusal> {
        let mut log = self.0.lock();
        log.entries.clear();
        log.folding = log.folding.map(|_| 0);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.0.lock().entries.iter().map(|entry| (entry.bytes.len() + size_of::<Fingerprint>()) as u64).sum()
    }
}

struct Folding<'a>(&'a Mutex<Log>);

impl Drop for Folding<'_> {
    fn drop(&mut self) {
        self.0.lock().folding = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::envelope::Kind;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn key(number: u64) -> Key {
        Key::new(Kind::CODE, Fingerprint::of("memory").part("number", number.to_le_bytes()).finish())
    }

    #[test]
    fn the_least_recently_used_go_first_and_the_budget_holds() {
        let store = MemoryStore::new(100);
        for number in 0..3 {
            store.put(&key(number), &Meta::default(), &[0; 30]).unwrap();
        }
        assert!(store.get(&key(0)).is_ok());
        store.put(&key(3), &Meta::default(), &[0; 60]).unwrap();
        let left: Vec<Key> = store.entries().into_iter().map(|entry| entry.key).collect();
        assert_eq!(left, [key(0), key(3)]);
        let stats = store.stats();
        assert_eq!((stats.resident_bytes, stats.evictions, stats.entries), (90, 2, 2));
        assert_eq!(
            store.put(&key(4), &Meta::default(), &[0; 101]),
            Err(Refusal::Oversize { need_bytes: 101, limit_bytes: 100 })
        );
        store.clear().unwrap();
        assert_eq!((store.stats().resident_bytes, store.get(&key(3)).unwrap_err()), (0, Miss::Absent));
    }

    #[test]
    fn the_last_put_wins_and_takes_the_bytes_of_the_one_before() {
        let store = MemoryStore::new(100);
        store.put(&key(0), &Meta::default(), &[1; 80]).unwrap();
        let shared = store.get(&key(0)).unwrap();
        store.put(&key(0), &Meta::default(), &[2; 90]).unwrap();
        assert_eq!((shared.into_vec(), store.get(&key(0)).unwrap().into_vec()), (vec![1; 80], vec![2; 90]));
        assert_eq!(store.stats().evictions, 0);
    }

    #[test]
    fn what_is_appended_while_a_journal_folds_stays() {
        let journal = MemoryJournal::new();
        let name = Fingerprint::of("journal").finish();
        for entry in [b"a", b"b"] {
            journal.append(&name, entry).unwrap();
        }
        let (inner, mut busy) = (journal.clone(), None);
        let done = journal.compact(&mut |entries| {
            inner.append(&name, b"c").unwrap();
            busy = Some(inner.compact(&mut |entries| entries).unwrap());
            let sum = entries.into_iter().flat_map(|entry| entry.bytes).collect();
            vec![JournalEntry { fingerprint: name, bytes: sum }]
        });
        assert_eq!(done, Ok(Compacted::Done { entries_before: 2, entries_after: 1 }));
        assert_eq!(busy, Some(Compacted::Busy));
        let entries: Vec<_> = journal.replay().unwrap().entries.into_iter().map(|entry| entry.bytes).collect();
        assert_eq!(entries, [b"ab".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn a_journal_is_unchanged_by_a_fold_that_panics_and_empty_after_a_clear_in_the_middle() {
        let journal = MemoryJournal::new();
        let name = Fingerprint::of("journal").finish();
        journal.append(&name, b"a").unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| journal.compact(&mut |_| panic!("in the fold"))));
        assert!(panicked.is_err());
        assert_eq!(journal.replay().unwrap().entries.len(), 1);
        let inner = journal.clone();
        journal
            .compact(&mut |entries| {
                inner.clear().unwrap();
                entries
            })
            .unwrap();
        assert!(journal.replay().unwrap().entries.is_empty());
    }
}
