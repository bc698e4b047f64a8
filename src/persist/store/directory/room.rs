//! Staying under the budget: which entries stay, which files go, and what is written again so that it stays. Works from
//! what the directory holds now, so the bound spans processes and restarts.
//!
//! An entry goes only if it and those used more recently take more than three quarters of the budget, with what lists them. Files
//! go whole: large entries that need not stay, then segments, those first in which the least has to stay; that is written again
//! before its segment goes. As what has to stay is four fifths of what may be there, a fifth of it goes on average, and
//! a segment that frees less than an eighth of itself is left alone.
//!
//! One process at a time writes again, the one that holds the lock file. Another that needs room meanwhile does not wait: it
//! drops the segments in which the least has to stay as they are.

use crate::persist::envelope::{self, Key};
use crate::persist::store::directory::Core;
use crate::persist::store::directory::index::{At, Place, Segment, large_file_bytes, large_name};
use crate::persist::store::directory::look::Contents;
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::segment::{self, Row};
use crate::persist::store::directory::write::{Writer, absent_is_fine, file_name};
use crate::persist::store::disk::DiskFile;
use crate::persist::store::{Collected, Refusal};
use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is to stay.
type Keep = hashbrown::HashSet<Key>;

enum Victim {
    Large(Key, Place),
    Segment(u64),
}

struct Candidate {
    victim: Victim,
    file_bytes: u64,
    bytes_to_keep: u64,
    /// The last use of any of its entries.
    used: u64,
    /// Of a segment: up to here its entries were known when it was decided on.
    known_to: u64,
    unreadable: bool,
}

impl Candidate {
    /// Writing again what stays of a segment that is nearly full of it costs more than it gains.
    fn frees_enough(&self) -> bool {
        self.unreadable || self.bytes_to_keep <= self.file_bytes / 8 * 7
    }

    /// In parts of a million.
    fn share_to_keep(&self) -> u64 {
        (self.bytes_to_keep << 20) / self.file_bytes.max(1)
    }
}

/// Segments that hold what has to stay of another one, held until that is gone: somebody who finds an entry in both may
/// be about to remove these, and count on the other.
type Copies = HashMap<u64, Arc<dyn DiskFile>>;

/// Why what has to stay of a segment could not be saved.
enum Unsaved {
    /// It could not be written again: the disk is full, or fails.
    Unwritten,
    /// The copies could not be synced.
    Unsynced,
}

impl Core {
    /// Evicts until the files that nobody appends to leave two segments of the budget free: one for what is sealed next and
    /// one for what is written again. A large entry has reserved its bytes by the name of a temporary file. Failures leave
    /// more on disk than there should be, until the next call.
    pub(super) fn make_room(&self, writer: &mut Writer, reserved_bytes: u64) {
        // What cannot be listed is decided on from what is known.
        let _ = self.look();
        let target = self.settings.budget_bytes.saturating_sub(2 * self.settings.segment_bytes + reserved_bytes);
        if self.index.lock().resident_bytes() > target {
            self.evict_down_to(writer, target);
        }
        self.write_recency_if_worth(&mut writer.since_recency);
    }

    fn evict_down_to(&self, writer: &mut Writer, target: u64) {
        let lock = self.hold_lock();
        if lock.is_some() {
            self.remove_left_behind(writer);
        }
        self.remove_superseded_now(writer);
        let mut in_use = self.segments_of_others();
        if self.sealed_bytes(&in_use) <= target {
            return;
        }
        // What others use has to stay, too.
        self.read_recency();
        // Four fifths suffice unless much is in files that cannot go now; the bound comes before what should stay.
        for fifths in (0..5).rev() {
            let by_use = self.index.lock().by_use();
            let keep = self.entries_to_keep(&by_use, target, fifths);
            for candidate in self.candidates(&by_use, &keep, &in_use) {
                if self.sealed_bytes(&in_use) <= target {
                    return;
                }
                let write_again = lock.is_some() && !writer.unsynced.has_failed();
                if write_again && !candidate.frees_enough() {
                    continue;
                }
                self.evict(writer, &candidate, &keep, &mut in_use, write_again);
            }
        }
    }

    /// As room is needed, whether or not what is in their place can be synced.
    fn remove_superseded_now(&self, writer: &mut Writer) -> u64 {
        let superseded = self.successors_unsynced(writer);
        if superseded.is_empty() {
            return 0;
        }
        let files = superseded.len() as u64;
        let _ = self.sync_now(writer);
        self.remove_superseded(superseded);
        files
    }

    /// Held by one process at a time while it writes entries again, or folds; never waited for.
    pub(super) fn hold_lock(&self) -> Option<Arc<dyn DiskFile>> {
        let name = Name::Lock.to_string();
        match self.disk.open_held(&name) {
            Ok(held) => held,
            Err(_) => self.disk.create(&name).ok(),
        }
    }

    /// Segments that other live processes append to. Those that are sealed are not asked for, since to ask is to hold them
    /// for a moment; of those that somebody goes on with it turns out when they are to go.
    fn segments_of_others(&self) -> HashSet<u64> {
        let unsealed = self.index.lock().unsealed_by_others();
        let held = |id: &u64| matches!(self.disk.open_held(&Name::Segment(*id).to_string()), Ok(None));
        unsealed.into_iter().filter(held).collect()
    }

    fn sealed_bytes(&self, in_use: &HashSet<u64>) -> u64 {
        let index = self.index.lock();
        let open = |id: &u64| index.segment(*id).filter(|segment| segment.ours || in_use.contains(id));
        let open_bytes: u64 = index.segment_ids().iter().filter_map(open).map(|segment| segment.file_bytes).sum();
        index.resident_bytes() - open_bytes
    }

    /// The most recently used that fill so many fifths of what entries may take. Four are three quarters of the budget at
    /// least, as a segment is at most a 32nd of it.
    fn entries_to_keep(&self, by_use: &[(Key, Place)], target: u64, fifths: u64) -> Keep {
        let mut left = target.saturating_sub(self.index.lock().other_bytes) / 5 * fifths;
        let fits = |(key, place): &(Key, Place)| {
            left = left.checked_sub(place.cost_bytes())?;
            Some(*key)
        };
        by_use.iter().rev().filter_map(fits).collect()
    }

    /// Every file that may go, in the order in which it should.
    fn candidates(&self, by_use: &[(Key, Place)], keep: &Keep, in_use: &HashSet<u64>) -> Vec<Candidate> {
        let index = self.index.lock();
        let mut of_segments: HashMap<u64, (u64, u64)> = HashMap::new();
        let mut candidates = Vec::new();
        for &(key, place) in by_use {
            let kept = if keep.contains(&key) { place.file_bytes() } else { 0 };
            match place.at {
                At::Segment { id, .. } => {
                    let (bytes_to_keep, used) = of_segments.entry(id).or_default();
                    *bytes_to_keep += kept;
                    *used = place.last_use;
                }
                At::Large => candidates.push(Candidate {
                    victim: Victim::Large(key, place),
                    file_bytes: large_file_bytes(place.bytes),
                    bytes_to_keep: kept,
                    used: place.last_use,
                    known_to: 0,
                    unreadable: false,
                }),
            }
        }
        for id in index.segment_ids() {
            let segment = index.segment(id).expect("it is listed");
            if !segment.ours && !in_use.contains(&id) {
                let (bytes_to_keep, used) = of_segments.get(&id).copied().unwrap_or_default();
                candidates.push(Candidate {
                    victim: Victim::Segment(id),
                    file_bytes: segment.file_bytes,
                    bytes_to_keep,
                    used,
                    known_to: segment.known_to,
                    unreadable: segment.unreadable,
                });
            }
        }
        // First what only seems to take room; then by the share that has to stay, and by use where that is equal.
        candidates.sort_by_key(|candidate| {
            let is_segment = matches!(candidate.victim, Victim::Segment(_));
            (Reverse(candidate.unreadable), candidate.share_to_keep(), is_segment, candidate.used)
        });
        candidates
    }

    fn evict(
        &self,
        writer: &mut Writer,
        candidate: &Candidate,
        keep: &Keep,
        in_use: &mut HashSet<u64>,
        write_again: bool,
    ) {
        match candidate.victim {
            Victim::Large(key, place) => {
                let removed = self.disk.remove(&large_name(&key, place).to_string()).or_else(absent_is_fine);
                if removed.is_ok() {
                    self.index.lock().forget_at(&key, place);
                    self.count_evicted(&[key]);
                }
            }
            Victim::Segment(id) => {
                let name = Name::Segment(id).to_string();
                let held = match self.disk.open_held(&name) {
                    Ok(Some(held)) => held,
                    // Somebody goes on with it, or evicts it.
                    Ok(None) => {
                        in_use.insert(id);
                        return;
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        self.index.lock().drop_segment(id);
                        return;
                    }
                    Err(_) => return self.count_as_nothing(id),
                };
                // It was still being written when it was looked at. It is decided on the next time.
                let decided_on = |segment: &Segment| segment.known_to == candidate.known_to;
                match self.catch_up(id, &*held) {
                    // Another thread may have read on, too.
                    Contents::Known if self.index.lock().segment(id).is_some_and(decided_on) => {}
                    Contents::Known | Contents::Grown => return,
                    Contents::Unreadable => return self.count_as_nothing(id),
                }
                let mut copies = Copies::new();
                // On a full or failing disk what cannot be written again is evicted like the rest. What was written and
                // cannot be synced is in both segments until it can be.
                if write_again
                    && matches!(self.write_again(writer, id, &*held, keep, &mut copies), Err(Unsaved::Unsynced))
                {
                    return;
                }
                // Before it is gone: a look by another thread forgets it then.
                let lost = self.lost_with(writer, id, &mut copies);
                if self.disk.remove(&name).is_err() {
                    return;
                }
                let _ = self.disk.remove(&Name::Sidecar(id).to_string());
                self.index.lock().drop_segment(id);
                self.count_evicted(&lost);
            }
        }
        writer.unsynced.names();
    }

    /// A segment that cannot be read is not removed, as its entries may be well. Until it is looked at again, nothing else
    /// goes in its stead either.
    fn count_as_nothing(&self, id: u64) {
        if let Some(segment) = self.index.lock().segment_mut(id) {
            segment.file_bytes = 0;
        }
    }

    /// Copies what has to stay of a segment into the open one, unless it is in another one already.
    fn write_again(
        &self,
        writer: &mut Writer,
        id: u64,
        file: &dyn DiskFile,
        keep: &Keep,
        copies: &mut Copies,
    ) -> Result<(), Unsaved> {
        let mut rows = self.index.lock().rows(id);
        rows.retain(|row| keep.contains(&row.key));
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let elsewhere = self.index.lock().elsewhere(&row.key, id);
            if let Some(place) = elsewhere.filter(|place| self.stays(writer, &row.key, *place, copies)) {
                // Whoever wrote it again may have ended before it synced that.
                writer.unsynced.file(file_name(&row.key, place).to_string());
                continue;
            }
            let mut record = Vec::with_capacity(segment::aligned(row.bytes as usize));
            let read = file.read_at(u64::from(row.offset), row.bytes as usize, &mut record);
            if read.is_err() || envelope::decode_expecting(&record, &row.key).is_err() {
                // It would be a miss anyway.
                self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            record.resize(segment::aligned(record.len()), 0);
            self.open_with_room(writer, record.len() as u64).map_err(|_| Unsaved::Unwritten)?;
            let at = self.append(writer, &record).map_err(|_| Unsaved::Unwritten)?;
            copies.extend(writer.open.as_ref().map(|open| (open.id, open.file.clone())));
            let mut index = self.index.lock();
            if index.place(&row.key).is_some_and(|place| place.order == row.order) {
                index.moved(row.key, at, row.bytes);
                self.counters.reinsertions.fetch_add(1, Ordering::Relaxed);
            }
        }
        // The copy must be as safe as the original before that goes.
        writer.unsynced.names();
        self.sync_now(writer).map_err(|_| Unsaved::Unsynced)
    }

    /// Whether an entry is intact in another segment, which nobody removes as long as it is among the copies.
    fn stays(&self, writer: &Writer, key: &Key, place: Place, copies: &mut Copies) -> bool {
        let At::Segment { id, offset } = place.at else { return false };
        if let Entry::Vacant(copy) = copies.entry(id) {
            let file = match &writer.open {
                Some(open) if open.id == id => Some(open.file.clone()),
                _ => self.disk.open_held(&Name::Segment(id).to_string()).ok().flatten(),
            };
            let Some(file) = file.filter(|file| file.is_named().unwrap_or(false)) else { return false };
            copy.insert(file);
        }
        let mut record = Vec::new();
        copies[&id].read_at(u64::from(offset), place.bytes as usize, &mut record).is_ok()
            && envelope::decode_expecting(&record, key).is_ok()
    }

    /// The entries that go with a segment. One that is in another one, too, as far as is known, goes if that may be gone.
    fn lost_with(&self, writer: &Writer, id: u64, copies: &mut Copies) -> Vec<Key> {
        let mut entries: Vec<(Key, Option<Place>)> = {
            let index = self.index.lock();
            let elsewhere = |row: &Row| (row.key, index.elsewhere(&row.key, id));
            index.rows(id).iter().map(elsewhere).collect()
        };
        // What was just written again was looked at.
        let is_copied = |place: &Place| copies.keys().any(|id| place.is_in(*id));
        entries.retain(|(_, elsewhere)| !elsewhere.as_ref().is_some_and(is_copied));
        entries.retain(|(key, elsewhere)| !elsewhere.is_some_and(|place| self.stays(writer, key, place, copies)));
        entries.into_iter().map(|(key, _)| key).collect()
    }

    fn count_evicted(&self, keys: &[Key]) {
        self.counters.evictions.fetch_add(keys.len() as u64, Ordering::Relaxed);
        #[cfg(feature = "testing")]
        self.evicted.lock().extend(keys);
    }

    /// Removes what nobody holds and nothing refers to: temporary files and sidecars of killed processes, and segments
    /// without entries. Returns how many files.
    fn remove_left_behind(&self, writer: &mut Writer) -> u64 {
        let (left_behind, empty) = {
            let mut index = self.index.lock();
            (std::mem::take(&mut index.left_behind), index.empty_segments())
        };
        // Whoever is writing it holds it.
        let hold = |name: &str| self.disk.open_held(name).ok().flatten();
        let mut files = 0;
        for (name, bytes) in left_behind {
            // A segment that was made and sealed during the listing may be missing from that.
            if matches!(name, Name::Sidecar(id) if self.disk.bytes(&Name::Segment(id).to_string()).is_ok()) {
                continue;
            }
            let name = name.to_string();
            // Held until it is gone: a writer that has just made it would take it for its own in between.
            let Some(_held) = hold(&name) else { continue };
            if self.disk.remove(&name).is_ok() {
                let mut index = self.index.lock();
                index.other_bytes = index.other_bytes.saturating_sub(bytes);
                files += 1;
            }
        }
        for id in empty {
            let name = Name::Segment(id).to_string();
            let Some(held) = hold(&name) else { continue };
            // It may have been read on, by this thread or another one, since it was found empty.
            let is_empty = self.catch_up(id, &*held) == Contents::Known && self.index.lock().rows(id).is_empty();
            if is_empty && self.disk.remove(&name).is_ok() {
                files += 1 + u64::from(self.disk.remove(&Name::Sidecar(id).to_string()).is_ok());
                self.index.lock().drop_segment(id);
            }
        }
        if files > 0 {
            writer.unsynced.names();
        }
        files
    }

    /// Removes what nothing refers to, sees to the budget, and seals what stays.
    pub(super) fn collect(&self, writer: &mut Writer) -> Result<Collected, Refusal> {
        let refused = |error| Refusal::from_io("list the directory", &error);
        self.look().map_err(refused)?;
        let before = self.index.lock().resident_bytes();
        let files = self.remove_left_behind(writer) + self.remove_superseded_now(writer);
        self.make_room(writer, 0);
        self.seal_all(writer);
        self.look().map_err(refused)?;
        let after = self.index.lock().resident_bytes();
        Ok(Collected { files, bytes: before.saturating_sub(after) })
    }
}
