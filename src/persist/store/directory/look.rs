//! Looking at the directory: what it holds when it is opened, and what other processes have done since. Reads only.

use crate::persist::envelope::Damage;
use crate::persist::store::directory::Core;
use crate::persist::store::directory::index::{At, Index, Place, Segment};
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::segment::{self, FileType, HEADER_BYTES, Row};
use crate::persist::store::disk::{DiskFile, read_all};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// No segment is longer; what is was not written by this version.
const SEGMENT_BYTES_AT_MOST: u64 = 1 << 30;

/// What was found in a segment since it was last looked at.
#[derive(Default)]
struct Found {
    file: Option<Arc<dyn DiskFile>>,
    /// With the last use as the sidecar lists it, or the put where a scan found them.
    rows: Vec<Row>,
    known_to: u64,
    file_bytes: u64,
    damaged: bool,
}

impl Core {
    /// Brings the index up to what the directory holds now. Costs one listing, one look at the length of each segment, and
    /// reading what is new.
    pub(super) fn look(&self) -> io::Result<()> {
        let _one_at_a_time = self.looking.lock();
        self.looked_ns.store(self.elapsed_ns(), Ordering::Relaxed);
        let names: Vec<Name> = self.disk.list()?.iter().filter_map(|name| Name::parse(name)).collect();
        let (mut segments, mut large, mut sidecars) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut other_bytes = 0;
        let reservation = self.index.lock().reservation;
        for name in &names {
            match *name {
                Name::Segment(id) => drop(segments.insert(id)),
                Name::Sidecar(id) => drop(sidecars.insert(id)),
                Name::Large { key, order, .. } => drop(large.insert((key, order))),
                Name::Temporary(id, _) if reservation == Some(id) => {}
                Name::Temporary(_, bytes) => other_bytes += u64::from(bytes),
                Name::Recency => other_bytes += self.disk.bytes(&name.to_string()).unwrap_or(0),
                Name::Lock | Name::Log(_) | Name::Base(_) => {}
            }
        }
        let found: Vec<(u64, Option<Found>)> =
            segments.iter().map(|id| (*id, self.look_into(*id, sidecars.contains(id)))).collect();
        let mut index = self.index.lock();
        let mut rows = Vec::new();
        for (id, found) in found {
            match found {
                Some(found) => self.merge(&mut index, id, found, &mut rows),
                None => drop(segments.remove(&id)),
            }
        }
        for (id, row) in rows {
            let Row { key, offset, bytes, order, last_use } = row;
            index.found(key, Place { at: At::Segment { id, offset }, bytes, order, last_use });
        }
        let mut superseded = Vec::new();
        for name in &names {
            if let Name::Large { key, order, bytes } = *name {
                let record_bytes = bytes.saturating_sub(HEADER_BYTES as u32);
                index.found(key, Place { at: At::Large, bytes: record_bytes, order, last_use: order });
                if index.place(&key).is_some_and(|place| place.order > order) {
                    other_bytes += u64::from(bytes);
                    superseded.push(*name);
                }
            }
        }
        index.superseded = superseded;
        // What this process made after the listing is not in it.
        let lately = std::mem::take(&mut *self.lately.lock());
        segments.extend(lately.segments);
        segments.extend(index.segment_ids().into_iter().filter(|id| index.segment(*id).is_some_and(|own| own.ours)));
        large.extend(lately.large);
        index.keep_only(&segments, &large);
        index.other_bytes = other_bytes;
        Ok(())
    }

    /// Looks if nobody has for a while. True if the index may have changed.
    pub(super) fn look_if_due(&self) -> bool {
        let now = self.elapsed_ns();
        let looked = self.looked_ns.load(Ordering::Relaxed);
        let due = now.saturating_sub(looked) >= self.settings.look_every_ns;
        // Of many threads that miss at once, one looks.
        due && self.looked_ns.compare_exchange(looked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && self.look().is_ok()
    }

    /// `None` if the segment is gone.
    fn look_into(&self, id: u64, has_sidecar: bool) -> Option<Found> {
        let (known_to, file) = {
            let index = self.index.lock();
            match index.segment(id) {
                Some(segment) if segment.ours => {
                    let (known_to, file_bytes) = (segment.known_to, segment.file_bytes);
                    return Some(Found { known_to, file_bytes, ..Found::default() });
                }
                Some(segment) => (segment.known_to, segment.file.clone()),
                None => (0, None),
            }
        };
        let bytes = self.disk.bytes(&Name::Segment(id).to_string()).ok()?;
        let sidecar = Name::Sidecar(id).to_string();
        let sidecar_bytes = if has_sidecar { self.disk.bytes(&sidecar).unwrap_or(0) } else { 0 };
        let mut found = Found { file, known_to, file_bytes: bytes + sidecar_bytes, ..Found::default() };
        if bytes > SEGMENT_BYTES_AT_MOST {
            found.damaged = known_to == 0;
            return Some(found);
        }
        if known_to == 0 && has_sidecar {
            match self.disk.open(&sidecar).and_then(|file| read_all(&*file, SEGMENT_BYTES_AT_MOST)) {
                Ok(read) => match segment::decode_sidecar(id, &read) {
                    Ok((covered, rows)) if covered <= bytes => {
                        (found.rows, found.known_to) = (rows, covered);
                    }
                    // The segment's own records are intact all the same.
                    Ok(_) | Err(_) => found.damaged = true,
                },
                Err(_) => found.damaged = true,
            }
        }
        if bytes > found.known_to {
            self.scan_on(id, &mut found, bytes);
        }
        Some(found)
    }

    /// Reads on from where the rows end. A segment that another process appends to may end in half a record: it is looked
    /// at again the next time.
    fn scan_on(&self, id: u64, found: &mut Found, bytes: u64) {
        let opened = match &found.file {
            Some(file) => Ok(file.clone()),
            None => self.disk.open(&Name::Segment(id).to_string()),
        };
        let Ok(file) = opened else { return };
        let from = found.known_to;
        let mut stretch = Vec::new();
        if file.read_at(from, (bytes - from) as usize, &mut stretch).is_err() {
            found.damaged = true;
            return;
        }
        let (offset, body) = if from == 0 {
            match segment::body(&stretch, FileType::Segment, id) {
                Ok(body) => (HEADER_BYTES, body),
                Err(damage) => {
                    found.damaged = damage != Damage::Truncated;
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
        found.file = Some(file);
    }

    /// Reads on in a segment that the caller holds, so that it cannot grow any more. True if there was more in it than was
    /// known.
    pub(super) fn catch_up(&self, id: u64, held: &Arc<dyn DiskFile>) -> bool {
        let known_to = self.index.lock().segment(id).map_or(0, |segment| segment.known_to);
        let bytes = held.bytes().unwrap_or(0);
        if bytes <= known_to {
            return false;
        }
        let mut found = Found { file: Some(held.clone()), known_to, file_bytes: bytes, ..Found::default() };
        self.scan_on(id, &mut found, bytes);
        // Kept for reading, the handle would hold the segment.
        found.file = None;
        let had_more = !found.rows.is_empty();
        let (mut index, mut rows) = (self.index.lock(), Vec::new());
        self.merge(&mut index, id, found, &mut rows);
        for (id, Row { key, offset, bytes, order, last_use }) in rows {
            index.found(key, Place { at: At::Segment { id, offset }, bytes, order, last_use });
        }
        had_more
    }

    fn merge(&self, index: &mut Index, id: u64, found: Found, rows: &mut Vec<(u64, Row)>) {
        if index.segment(id).is_none() {
            index.add_segment(id, Segment { file: None, known_to: 0, file_bytes: 0, ours: false });
            // Later looks stop at the same place, so it is counted once.
            self.counters.damaged.fetch_add(u64::from(found.damaged), Ordering::Relaxed);
        }
        let segment = index.segment_mut(id).expect("it is there, or was just added");
        if segment.ours {
            return;
        }
        segment.known_to = segment.known_to.max(found.known_to);
        segment.file_bytes = found.file_bytes;
        segment.file = segment.file.take().or(found.file);
        rows.extend(found.rows.into_iter().map(|row| (id, row)));
    }
}
