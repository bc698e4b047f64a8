//! Staying under the budget: which entries stay, which files go, and what is written again so that it stays. Works from
//! what the directory holds now, so the bound spans processes and restarts.
//!
//! An entry goes only if entries used more recently fill three quarters of the budget. Files go whole: large entries
//! that need not stay, then segments, those first in which the least has to stay; that is written again before its segment goes.
//!
//! One process at a time writes again, the one that holds the lock file. Another that needs room meanwhile does not wait: it
//! drops the segments in which the least has to stay as they are.

use crate::persist::envelope::{self, Key};
use crate::persist::store::directory::Core;
use crate::persist::store::directory::index::{At, Place, large_file_bytes, large_name};
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::segment;
use crate::persist::store::directory::write::{Writer, absent_is_fine};
use crate::persist::store::disk::DiskFile;
use crate::persist::store::{Collected, Refusal};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

enum Victim {
    Large(Key, Place),
    Segment(u64),
}

struct Candidate {
    victim: Victim,
    file_bytes: u64,
    bytes_to_keep: u64,
}

impl Core {
    /// Evicts until the files that nobody appends to leave two segments of the budget free: one for what is sealed next and
    /// one for what is written again. A large entry has reserved its bytes by the name of a temporary file. Failures leave
    /// more on disk than there should be, until the next call.
    pub(super) fn make_room(&self, writer: &mut Writer, reserved_bytes: u64) {
        // What cannot be listed is decided on from what is known.
        let _ = self.look();
        let target = self.settings.budget_bytes.saturating_sub(2 * self.settings.segment_bytes + reserved_bytes);
        if self.index.lock().resident_bytes() <= target {
            return;
        }
        self.remove_superseded(writer);
        let in_use = self.segments_of_others();
        if self.sealed_bytes(&in_use) <= target {
            return;
        }
        let lock = self.hold_lock().filter(|_| writer.sync_failed.is_none());
        let keep = self.entries_to_keep(reserved_bytes);
        for candidate in self.candidates(&keep, &in_use) {
            if self.sealed_bytes(&in_use) <= target {
                break;
            }
            self.evict(writer, candidate, &keep, lock.is_some());
        }
    }

    fn remove_superseded(&self, writer: &mut Writer) {
        let superseded = std::mem::take(&mut self.index.lock().superseded);
        for name in superseded {
            if let Name::Large { bytes, .. } = name {
                if self.disk.remove(&name.to_string()).or_else(absent_is_fine).is_ok() {
                    let mut index = self.index.lock();
                    index.other_bytes = index.other_bytes.saturating_sub(u64::from(bytes));
                    writer.names_unsynced = true;
                }
            }
        }
    }

    /// Held by one process at a time while it writes entries again, or folds; never waited for.
    pub(super) fn hold_lock(&self) -> Option<Arc<dyn DiskFile>> {
        let name = Name::Lock.to_string();
        match self.disk.open_held(&name) {
            Ok(held) => held,
            Err(_) => self.disk.create(&name).ok(),
        }
    }

    /// Segments that other live processes append to.
    fn segments_of_others(&self) -> HashSet<u64> {
        let sealed: Vec<u64> = {
            let index = self.index.lock();
            let ours = |id: &u64| index.segment(*id).is_some_and(|segment| segment.ours);
            index.segment_ids().into_iter().filter(|id| !ours(id)).collect()
        };
        let held = |id: &u64| matches!(self.disk.open_held(&Name::Segment(*id).to_string()), Ok(None));
        sealed.into_iter().filter(held).collect()
    }

    fn sealed_bytes(&self, in_use: &HashSet<u64>) -> u64 {
        let index = self.index.lock();
        let open = |id: &u64| index.segment(*id).filter(|segment| segment.ours || in_use.contains(id));
        let open_bytes: u64 = index.segment_ids().iter().filter_map(open).map(|segment| segment.file_bytes).sum();
        index.resident_bytes() - open_bytes
    }

    /// The most recently used that fill three quarters of what the budget leaves.
    fn entries_to_keep(&self, reserved_bytes: u64) -> HashSet<Key> {
        let mut left = (self.settings.budget_bytes / 4 * 3).saturating_sub(reserved_bytes);
        let by_use = self.index.lock().by_use();
        let fits = |(key, place): &(Key, Place)| {
            left = left.checked_sub(u64::from(place.bytes))?;
            Some(*key)
        };
        by_use.iter().rev().map_while(fits).collect()
    }

    /// Every file that may go, in the order in which it should.
    fn candidates(&self, keep: &HashSet<Key>, in_use: &HashSet<u64>) -> Vec<Candidate> {
        let index = self.index.lock();
        let mut bytes_to_keep: HashMap<u64, u64> = HashMap::new();
        let mut candidates = Vec::new();
        for (key, place) in index.by_use() {
            let kept = if keep.contains(&key) { u64::from(place.bytes) } else { 0 };
            match place.at {
                At::Segment { id, .. } => *bytes_to_keep.entry(id).or_default() += kept,
                At::Large => candidates.push(Candidate {
                    victim: Victim::Large(key, place),
                    file_bytes: large_file_bytes(place.bytes),
                    bytes_to_keep: kept,
                }),
            }
        }
        for id in index.segment_ids() {
            let segment = index.segment(id).expect("it is listed");
            if !segment.ours && !in_use.contains(&id) {
                let bytes_to_keep = bytes_to_keep.get(&id).copied().unwrap_or(0);
                candidates.push(Candidate {
                    victim: Victim::Segment(id),
                    file_bytes: segment.file_bytes,
                    bytes_to_keep,
                });
            }
        }
        // By the share that has to stay. The sort is stable: large entries stay in the order of use.
        let share = |candidate: &Candidate| (candidate.bytes_to_keep << 20) / candidate.file_bytes.max(1);
        candidates.sort_by_key(share);
        candidates
    }

    fn evict(&self, writer: &mut Writer, candidate: Candidate, keep: &HashSet<Key>, write_again: bool) {
        match candidate.victim {
            Victim::Large(key, place) => {
                if self.disk.remove(&large_name(&key, place)).or_else(absent_is_fine).is_ok() {
                    self.index.lock().forget_at(&key, place);
                    self.count_evicted(&[key]);
                }
            }
            Victim::Segment(id) => {
                let name = Name::Segment(id).to_string();
                let held = match self.disk.open_held(&name) {
                    Ok(Some(held)) => held,
                    // Somebody has adopted it.
                    Ok(None) => return,
                    // Gone already, or a file that cannot be opened and counts for nothing.
                    Err(_) => return self.index.lock().drop_segment(id),
                };
                if self.catch_up(id, &held) {
                    // It was still being written when it was looked at. It is decided on the next time.
                    return;
                }
                if write_again && candidate.bytes_to_keep > 0 {
                    // On a full or failing disk what cannot be written again is evicted like the rest.
                    let _ = self.write_again(writer, id, &*held, keep);
                }
                if self.disk.remove(&name).is_err() {
                    return;
                }
                let _ = self.disk.remove(&Name::Sidecar(id).to_string());
                let mut index = self.index.lock();
                let lost: Vec<Key> = index.rows(id).iter().map(|row| row.key).collect();
                index.drop_segment(id);
                drop(index);
                self.count_evicted(&lost);
            }
        }
        writer.names_unsynced = true;
    }

    /// Copies what has to stay of a segment into the open one.
    fn write_again(
        &self,
        writer: &mut Writer,
        id: u64,
        file: &dyn DiskFile,
        keep: &HashSet<Key>,
    ) -> Result<(), Refusal> {
        let rows = self.index.lock().rows(id);
        for row in rows.iter().filter(|row| keep.contains(&row.key)) {
            let mut record = Vec::with_capacity(segment::aligned(row.bytes as usize));
            let read = file.read_at(u64::from(row.offset), row.bytes as usize, &mut record);
            if read.is_err() || envelope::decode_expecting(&record, &row.key).is_err() {
                // It would be a miss anyway.
                self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            record.resize(segment::aligned(record.len()), 0);
            self.open_with_room(writer, record.len() as u64)?;
            let at = self.append(writer, &record)?;
            let mut index = self.index.lock();
            let before = At::Segment { id, offset: row.offset };
            if let Some(place) = index.place(&row.key).filter(|place| place.at == before) {
                index.moved(row.key, at, place);
                self.counters.reinsertions.fetch_add(1, Ordering::Relaxed);
            }
        }
        // The copy must be as safe as the original before that goes.
        self.sync_now(writer)
    }

    fn count_evicted(&self, keys: &[Key]) {
        self.counters.evictions.fetch_add(keys.len() as u64, Ordering::Relaxed);
        #[cfg(feature = "testing")]
        self.evicted.lock().extend(keys);
    }

    /// Removes what nothing refers to, then sees to the budget.
    pub(super) fn collect(&self, writer: &mut Writer) -> Result<Collected, Refusal> {
        let refused = |error| Refusal::from_io("list the directory", &error);
        self.look().map_err(refused)?;
        let before = self.index.lock().resident_bytes();
        let names = self.disk.list().map_err(refused)?;
        let parsed: Vec<Name> = names.iter().filter_map(|name| Name::parse(name)).collect();
        let mut files = 0;
        for name in &parsed {
            let left_behind = match *name {
                Name::Temporary(..) => true,
                Name::Sidecar(id) => !parsed.contains(&Name::Segment(id)),
                // Nothing in it is an entry any more, or ever was.
                Name::Segment(id) => {
                    let index = self.index.lock();
                    index.segment(id).is_some_and(|segment| !segment.ours) && index.rows(id).is_empty()
                }
                _ => false,
            };
            // Whoever is writing it holds it.
            let text = name.to_string();
            if left_behind && matches!(self.disk.open_held(&text), Ok(Some(_))) && self.disk.remove(&text).is_ok() {
                files += 1;
                if let Name::Segment(id) = *name {
                    files += u64::from(self.disk.remove(&Name::Sidecar(id).to_string()).is_ok());
                    self.index.lock().drop_segment(id);
                }
            }
        }
        self.make_room(writer, 0);
        self.look().map_err(refused)?;
        writer.names_unsynced |= files > 0;
        let after = self.index.lock().resident_bytes();
        Ok(Collected { files, bytes: before.saturating_sub(after) })
    }
}
