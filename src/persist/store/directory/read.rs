//! Looking entries up: one read, one check, no copy of the payload. Every failure is a miss with its reason. Entries that
//! lie together are read together, and checked one by one.

use crate::persist::envelope::{self, Damage, Key};
use crate::persist::store::directory::Core;
use crate::persist::store::directory::index::{At, Place, large_file_bytes, large_name};
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::segment::{self, FileType, HEADER_BYTES};
use crate::persist::store::disk::{DiskFile, read_all};
use crate::persist::store::{Miss, Record};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is read together is no more than this: a record that is kept keeps all of it.
const TOGETHER_BYTES: u64 = 64 << 10;
/// To read this much that nobody asked for costs less than another call.
const BETWEEN_BYTES: u64 = 2 << 10;

/// A record in a segment that is looked for.
#[derive(Clone, Copy)]
struct Wanted {
    /// Its number among the keys.
    at: usize,
    segment: u64,
    offset: u64,
    place: Place,
}

impl Wanted {
    fn end(&self) -> u64 {
        self.offset + u64::from(self.place.bytes)
    }
}

impl Core {
    pub(super) fn get(&self, key: &Key) -> Result<Record, Miss> {
        let found = self.find(key).map_or(Err(Miss::Absent), |(place, file)| self.read(key, place, file));
        let found = match found {
            // Perhaps another process has put it since, or moved it.
            Err(Miss::Absent) if self.look_if_due() => {
                self.find(key).map_or(Err(Miss::Absent), |(place, file)| self.read(key, place, file))
            }
            found => found,
        };
        self.count(&found);
        found
    }

    pub(super) fn get_many(&self, keys: &[Key]) -> Vec<Result<Record, Miss>> {
        let mut found = self.find_many(keys);
        let is_absent = |found: &Result<Record, Miss>| matches!(found, Err(Miss::Absent));
        if found.iter().any(is_absent) && self.look_if_due() {
            let absent: Vec<usize> = (0..keys.len()).filter(|at| is_absent(&found[*at])).collect();
            let again: Vec<Key> = absent.iter().map(|at| keys[*at]).collect();
            for (at, again) in absent.into_iter().zip(self.find_many(&again)) {
                found[at] = again;
            }
        }
        found.iter().for_each(|found| self.count(found));
        found
    }

    fn count(&self, found: &Result<Record, Miss>) {
        let counters = &self.counters;
        match found {
            Ok(_) => &counters.hits,
            Err(_) => &counters.misses,
        }
        .fetch_add(1, Ordering::Relaxed);
        match found {
            Err(Miss::Damaged(_)) => drop(counters.damaged.fetch_add(1, Ordering::Relaxed)),
            Err(Miss::Unreadable) => drop(counters.unreadable.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    /// Looks all up at once, and reads them in the order in which they lie.
    fn find_many(&self, keys: &[Key]) -> Vec<Result<Record, Miss>> {
        let mut found = vec![Err(Miss::Absent); keys.len()];
        let (mut wanted, mut large) = (Vec::with_capacity(keys.len()), Vec::new());
        {
            let mut index = self.index.lock();
            for (at, key) in keys.iter().enumerate() {
                let Some(place) = index.touch(key) else { continue };
                match place.at {
                    At::Segment { id, offset } => {
                        wanted.push(Wanted { at, segment: id, offset: u64::from(offset), place });
                    }
                    At::Large => large.push((at, place)),
                }
            }
        }
        wanted.sort_unstable_by_key(|wanted| (wanted.segment, wanted.offset));
        let mut rest = &wanted[..];
        while let [first, ..] = rest {
            let mut end = first.end();
            let lies_near = |next: &&Wanted| {
                let near = next.segment == first.segment && next.offset <= end + BETWEEN_BYTES;
                end = end.max(next.end());
                near && end - first.offset <= TOGETHER_BYTES
            };
            let together = 1 + rest[1..].iter().take_while(lies_near).count();
            self.read_together(keys, &rest[..together], &mut found);
            rest = &rest[together..];
        }
        for (at, place) in large {
            found[at] = self.read(&keys[at], place, None);
        }
        found
    }

    /// Reads records of one segment that lie together.
    fn read_together(&self, keys: &[Key], wanted: &[Wanted], found: &mut [Result<Record, Miss>]) {
        let file = self.index.lock().segment(wanted[0].segment).and_then(|segment| segment.file.clone());
        let start = wanted[0].offset;
        let end = wanted.iter().map(Wanted::end).max().unwrap_or(start);
        let read = match wanted.len() {
            1 => None,
            _ => self.read_segment(wanted[0].segment, start, (end - start) as usize, file.clone()).ok(),
        };
        let Some(bytes) = read.map(Arc::new) else {
            // What fails for one of them need not fail for the others.
            for one in wanted {
                found[one.at] = self.read(&keys[one.at], one.place, file.clone());
            }
            return;
        };
        for one in wanted {
            let from = ((one.offset - start) as usize).min(bytes.len());
            let to = ((one.end() - start) as usize).min(bytes.len());
            let key = &keys[one.at];
            found[one.at] = match envelope::decode_expecting(&bytes[from..to], key) {
                Ok(envelope) => {
                    let payload = from + envelope.payload_offset;
                    Ok(Record::part_of(&bytes, payload..payload + envelope.payload.len(), envelope.meta))
                }
                Err(damage) => Err(self.forget_damaged(key, one.place, damage)),
            };
        }
    }

    fn find(&self, key: &Key) -> Option<(Place, Option<Arc<dyn DiskFile>>)> {
        let mut index = self.index.lock();
        let place = index.touch(key)?;
        let file = match place.at {
            At::Segment { id, .. } => index.segment(id).and_then(|segment| segment.file.clone()),
            At::Large => None,
        };
        Some((place, file))
    }

    fn read(&self, key: &Key, place: Place, file: Option<Arc<dyn DiskFile>>) -> Result<Record, Miss> {
        let read = match place.at {
            At::Segment { id, offset } => {
                self.read_segment(id, u64::from(offset), place.bytes as usize, file).map(|bytes| (bytes, 0))
            }
            At::Large => self.read_large(key, place).map(|bytes| (bytes, HEADER_BYTES)),
        };
        let (bytes, skip) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Evicted by another process, or cleared.
                self.index.lock().forget_at(key, place);
                return Err(Miss::Absent);
            }
            // It may be readable the next time.
            Err(_) => return Err(Miss::Unreadable),
        };
        let record = if skip > 0 { segment::body(&bytes, FileType::Large, 0) } else { Ok(&bytes[..]) };
        match record.and_then(|record| envelope::decode_expecting(record, key)) {
            Ok(envelope) => {
                let start = skip + envelope.payload_offset;
                let payload = start..start + envelope.payload.len();
                let meta = envelope.meta;
                Ok(Record::new(bytes, payload, meta))
            }
            Err(damage) => Err(self.forget_damaged(key, place, damage)),
        }
    }

    fn read_segment(&self, id: u64, offset: u64, bytes: usize, file: Option<Arc<dyn DiskFile>>) -> io::Result<Vec<u8>> {
        let file = match file {
            Some(file) => file,
            None => {
                let file = self.disk.open(&Name::Segment(id).to_string())?;
                if let Some(segment) = self.index.lock().segment_mut(id) {
                    segment.file = Some(file.clone());
                }
                file
            }
        };
        let mut read = Vec::with_capacity(bytes);
        file.read_at(offset, bytes, &mut read)?;
        Ok(read)
    }

    fn read_large(&self, key: &Key, place: Place) -> io::Result<Vec<u8>> {
        let file = self.disk.open(&large_name(key, place))?;
        read_all(&*file, large_file_bytes(place.bytes))
    }

    /// It is not looked at again by this process. A large file goes at once; the bytes in a segment go with the segment.
    fn forget_damaged(&self, key: &Key, place: Place, damage: Damage) -> Miss {
        self.index.lock().forget_at(key, place);
        if place.at == At::Large && !self.settings.read_only && !matches!(damage, Damage::OtherVersion(_)) {
            let _ = self.disk.remove(&large_name(key, place));
        }
        Miss::Damaged(damage)
    }
}
