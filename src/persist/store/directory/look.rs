//! Looking at the directory: what it holds when it is opened, and what other processes have done since. Reads only.

use crate::persist::envelope::{Damage, Key};
use crate::persist::store::directory::Core;
use crate::persist::store::directory::index::{At, Index, Place, Segment, large_name};
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::segment::{self, FileType, HEADER_BYTES, Row};
use crate::persist::store::disk::{DiskFile, read_all};
use crate::sync::MutexGuard;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::Ordering;

/// No segment is longer; what is was not written by this version.
const SEGMENT_BYTES_AT_MOST: u64 = 1 << 30;

/// A look that finds this often that others evict meanwhile leaves what they wrote again to the next.
const TRIES: usize = 4;

/// What was found in a segment since it was last looked at.
#[derive(Default)]
struct Found {
    /// With the last use as the sidecar lists it, or the put where a scan found them.
    rows: Vec<Row>,
    /// Up to here the rows were known before.
    since: u64,
    known_to: u64,
    read_to: u64,
    file_bytes: u64,
    has_sidecar: bool,
    damaged: bool,
    unreadable: bool,
}

impl Core {
    /// Brings the index up to what the directory holds now. Costs one listing, one look at the length of each segment, and
    /// reading what is new.
    pub(super) fn look(&self) -> io::Result<()> {
        self.look_alone(&self.looking.lock())
    }

    /// Of a place that turned out to be empty. Whoever emptied it may have written the entry again, which only a look that
    /// begins now is sure to find.
    pub(super) fn look_past(&self, key: &Key, empty: Place) {
        let alone = self.looking.lock();
        let has_looked = !self.index.lock().is_at(key, empty);
        if !has_looked {
            // What cannot be listed now is found at a later look.
            let _ = self.look_alone(&alone);
        }
        self.index.lock().forget_at(key, empty);
    }

    fn look_alone(&self, _one_at_a_time: &MutexGuard<'_, ()>) -> io::Result<()> {
        self.looked_ns.store(self.elapsed_ns(), Ordering::Relaxed);
        let (mut names, mut found) = self.list_and_read()?;
        for _ in 1..TRIES {
            // What is gone since it was listed may have been written again, into a segment that was read before.
            if found.iter().all(|(_, found)| found.is_some()) {
                break;
            }
            (names, found) = self.list_and_read()?;
        }
        let (mut segments, mut large, mut sidecars) = (HashSet::new(), HashSet::new(), HashSet::new());
        let (mut other_bytes, mut recency_bytes) = (0, 0);
        let mut left_behind = Vec::new();
        let reservation = self.index.lock().reservation;
        for name in &names {
            match *name {
                Name::Segment(id) => drop(segments.insert(id)),
                Name::Sidecar(id) => drop(sidecars.insert(id)),
                Name::Large { .. } => drop(large.insert(*name)),
                Name::Temporary(id, _) if reservation == Some(id) => {}
                Name::Temporary(_, bytes) => {
                    other_bytes += u64::from(bytes);
                    left_behind.push((*name, u64::from(bytes)));
                }
                Name::Recency => recency_bytes = self.disk.bytes(&name.to_string()).unwrap_or(0),
                Name::Lock | Name::Log(_) | Name::Base(_) => {}
            }
        }
        for id in sidecars.difference(&segments) {
            let bytes = self.disk.bytes(&Name::Sidecar(*id).to_string()).unwrap_or(0);
            other_bytes += bytes;
            left_behind.push((Name::Sidecar(*id), bytes));
        }
        segments = found.iter().filter(|(_, found)| found.is_some()).map(|(id, _)| *id).collect();
        let mut index = self.index.lock();
        // What this process made after the listing is not in it.
        let lately = std::mem::take(&mut *self.lately.lock());
        segments.extend(lately.segments);
        segments.extend(index.segment_ids().into_iter().filter(|id| index.segment(*id).is_some_and(|own| own.ours)));
        let mut large_there = large.clone();
        large_there.extend(lately.large);
        // What is gone goes first: it would hide what was put since, if that has the lower number.
        let uses = index.keep_only(&segments, &large_there);
        for (id, found) in found {
            if let Some(found) = found {
                self.merge(&mut index, id, found);
            }
        }
        for name in &large {
            if let Name::Large { key, order, bytes } = *name {
                let record_bytes = bytes.saturating_sub(HEADER_BYTES as u32);
                index.found(key, Place { at: At::Large, bytes: record_bytes, order, last_use: order });
            }
        }
        uses.into_iter().for_each(|(key, last_use)| index.learn_use(&key, last_use));
        let is_superseded = |name: &Name| match name {
            Name::Large { key, .. } => index.place(key).is_some_and(|now| large_name(key, now) != *name),
            _ => false,
        };
        let superseded: Vec<Name> = large.iter().filter(|name| is_superseded(name)).copied().collect();
        index.other_bytes = other_bytes + superseded.iter().map(Name::large_file_bytes).sum::<u64>();
        index.recency_bytes = recency_bytes;
        index.superseded = superseded;
        index.left_behind = left_behind;
        Ok(())
    }

    /// What there is, and what is new in each segment: `None` of one that is gone.
    fn list_and_read(&self) -> io::Result<(Vec<Name>, Vec<(u64, Option<Found>)>)> {
        let names: Vec<Name> = self.disk.list()?.iter().filter_map(|name| Name::parse(name)).collect();
        let there: HashSet<&Name> = names.iter().collect();
        let look_into = |name: &Name| match *name {
            Name::Segment(id) => Some((id, self.look_into(id, there.contains(&Name::Sidecar(id))))),
            _ => None,
        };
        let found = names.iter().filter_map(look_into).collect();
        Ok((names, found))
    }

    /// Looks if nobody has for so long. True if the index may have changed.
    pub(super) fn look_if_due(&self, every_ns: u64) -> bool {
        let now = self.elapsed_ns();
        let looked = self.looked_ns.load(Ordering::Relaxed);
        let due = now.saturating_sub(looked) >= every_ns;
        // Of many threads that find it due at once, one looks.
        due && self.looked_ns.compare_exchange(looked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && self.look().is_ok()
    }

    /// `None` if the segment is gone.
    fn look_into(&self, id: u64, has_sidecar: bool) -> Option<Found> {
        let mut found = Found { has_sidecar, ..Found::default() };
        let file = {
            let index = self.index.lock();
            let known = index.segment(id);
            if let Some(segment) = known {
                (found.since, found.known_to, found.read_to) = (segment.known_to, segment.known_to, segment.read_to);
                found.file_bytes = segment.file_bytes;
                found.unreadable = segment.unreadable;
                if segment.ours {
                    return Some(found);
                }
            }
            known.and_then(Segment::open_file)
        };
        let sidecar = Name::Sidecar(id).to_string();
        // Before the length is asked for: of a segment that another process has gone on with meanwhile, and sealed again,
        // it would cover more.
        let listed = (found.known_to == 0 && has_sidecar)
            .then(|| self.disk.open(&sidecar).and_then(|file| read_all(&*file, SEGMENT_BYTES_AT_MOST)));
        let bytes = self.disk.bytes(&Name::Segment(id).to_string()).ok()?;
        let sidecar_bytes = if has_sidecar { self.disk.bytes(&sidecar).unwrap_or(0) } else { 0 };
        found.file_bytes = bytes + sidecar_bytes;
        if bytes > SEGMENT_BYTES_AT_MOST {
            found.damaged = true;
            return Some(found);
        }
        match listed {
            None => {}
            // Removed just now, and the segment is next.
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Some(Ok(read)) => match segment::decode_sidecar(id, &read) {
                Ok((covered, rows)) if covered <= bytes => {
                    (found.rows, found.known_to) = (rows, covered);
                    (found.read_to, found.unreadable) = (covered, false);
                }
                // The segment's own records are intact all the same.
                Ok(_) | Err(_) => found.damaged = true,
            },
            Some(Err(_)) => found.damaged = true,
        }
        // What is not intact is read once, and again only when something was added.
        if bytes > found.known_to && (bytes != found.read_to || found.unreadable) {
            let opened = match file {
                Some(file) => Ok(file),
                None => self.disk.open(&Name::Segment(id).to_string()),
            };
            match opened {
                Ok(file) => scan_on(id, &*file, &mut found, bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(_) => found.unreadable = true,
            }
        }
        Some(found)
    }

    /// Reads on in a segment that the caller holds, so that it cannot grow any more.
    pub(super) fn catch_up(&self, id: u64, held: &dyn DiskFile) -> Contents {
        let mut found = Found::default();
        {
            let index = self.index.lock();
            let Some(segment) = index.segment(id) else { return Contents::Unreadable };
            (found.since, found.known_to, found.read_to) = (segment.known_to, segment.known_to, segment.read_to);
            (found.file_bytes, found.has_sidecar) = (segment.file_bytes, segment.has_sidecar);
            found.unreadable = segment.unreadable;
        }
        let Ok(bytes) = held.bytes() else { return Contents::Unreadable };
        if bytes > SEGMENT_BYTES_AT_MOST || (bytes <= found.known_to && !found.unreadable) {
            return Contents::Known;
        }
        scan_on(id, held, &mut found, bytes);
        let contents = match (found.unreadable, found.rows.is_empty()) {
            (true, _) => Contents::Unreadable,
            (false, true) => Contents::Known,
            (false, false) => Contents::Grown,
        };
        self.merge(&mut self.index.lock(), id, found);
        contents
    }

    fn merge(&self, index: &mut Index, id: u64, found: Found) {
        if index.segment(id).is_none() {
            // Another thread has dropped it meanwhile, with its rows.
            if found.since > 0 {
                return;
            }
            index.add_segment(id, Segment::default());
            // Later looks stop at the same place, so it is counted once.
            self.counters.damaged.fetch_add(u64::from(found.damaged), Ordering::Relaxed);
        }
        let segment = index.segment_mut(id).expect("it is there, or was just added");
        if segment.ours {
            return;
        }
        segment.known_to = segment.known_to.max(found.known_to);
        segment.read_to = found.read_to;
        segment.file_bytes = found.file_bytes;
        segment.has_sidecar = found.has_sidecar;
        segment.unreadable = found.unreadable;
        for Row { key, offset, bytes, order, last_use } in found.rows {
            index.found(key, Place { at: At::Segment { id, offset }, bytes, order, last_use });
        }
    }
}

/// What is known of a segment that is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// All of it.
    Known,
    /// All of it, and more than before.
    Grown,
    /// It cannot be read.
    Unreadable,
}

/// Reads on from where the rows end. A segment that another process appends to may end in half a record: it is read again
/// when it has grown.
fn scan_on(id: u64, file: &dyn DiskFile, found: &mut Found, bytes: u64) {
    let from = found.known_to;
    let mut stretch = Vec::new();
    found.unreadable = file.read_at(from, (bytes - from) as usize, &mut stretch).is_err();
    if found.unreadable {
        return;
    }
    found.read_to = bytes;
    let (offset, body) = if from == 0 {
        match segment::body(&stretch, FileType::Segment, id) {
            Ok(body) => (HEADER_BYTES, body),
            Err(damage) => {
                found.damaged |= damage != Damage::Truncated;
                return;
            }
        }
    } else {
        (from as usize, &stretch[..])
    };
    let scan = segment::scan(body, offset);
    found.damaged |= !matches!(scan.stopped_by, None | Some(Damage::Truncated));
    found.known_to = scan.end as u64;
    found.rows.extend(scan.records.into_iter().map(|(row, _)| row));
}
