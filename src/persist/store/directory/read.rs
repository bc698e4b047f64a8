//! Looking entries up: one read, one check, no copy of the payload. Every failure is a miss with its reason. Entries that
//! lie together are read together, and checked one by one.

use crate::persist::envelope::{self, Damage, Key};
use crate::persist::store::directory::Core;
use crate::persist::store::directory::index::{At, Place, large_file_bytes, large_name};
use crate::persist::store::directory::look::LOOK_NOW;
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::segment::{self, FileType, HEADER_BYTES};
use crate::persist::store::disk::{DiskFile, read_all};
use crate::persist::store::{Miss, Record};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A lookup that finds the place of its entry changed this often gives up.
const TRIES: usize = 4;
/// A hit asks for the time only every so often: that costs as much as a hundredth of it.
const HITS_PER_GLANCE: u64 = 16;
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
        let found = match self.lookup(key) {
            // Perhaps another process has put it since.
            Err(Miss::Absent) if self.look_if_due(self.settings.look_every_ns) => self.lookup(key),
            found => found,
        };
        self.count(std::slice::from_ref(&found));
        found
    }

    pub(super) fn get_many(&self, keys: &[Key]) -> Vec<Result<Record, Miss>> {
        let mut found = self.lookup_many(keys);
        let is_absent = |found: &Result<Record, Miss>| matches!(found, Err(Miss::Absent));
        if found.iter().any(is_absent) && self.look_if_due(self.settings.look_every_ns) {
            let absent: Vec<usize> = (0..keys.len()).filter(|at| is_absent(&found[*at])).collect();
            let again: Vec<Key> = absent.iter().map(|at| keys[*at]).collect();
            for (at, again) in absent.into_iter().zip(self.lookup_many(&again)) {
                found[at] = again;
            }
        }
        self.count(&found);
        found
    }

    /// As `lookup` of each: what is not where it was found is looked for again, by itself.
    fn lookup_many(&self, keys: &[Key]) -> Vec<Result<Record, Miss>> {
        let (mut found, had_place) = self.find_many(keys);
        for ((key, found), _) in keys.iter().zip(&mut found).zip(had_place).filter(|(_, had_place)| *had_place) {
            if let Err(Miss::Absent | Miss::Damaged(_)) = found {
                match self.lookup(key) {
                    Err(Miss::Absent) => {}
                    again => *found = again,
                }
            }
        }
        found
    }

    fn count(&self, found: &[Result<Record, Miss>]) {
        let counters = &self.counters;
        let mut hits = 0;
        for found in found {
            let Err(miss) = found else {
                hits += 1;
                continue;
            };
            counters.misses.fetch_add(1, Ordering::Relaxed);
            match miss {
                Miss::Damaged(_) => drop(counters.damaged.fetch_add(1, Ordering::Relaxed)),
                Miss::Unreadable => drop(counters.unreadable.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
        }
        let before = counters.hits.fetch_add(hits, Ordering::Relaxed);
        if before.next_multiple_of(HITS_PER_GLANCE) < before.wrapping_add(hits) {
            // Others may have cleared the directory, and should learn what is used here.
            self.tend_if_due();
        }
    }

    /// Looks all up at once, and reads them in the order in which they lie. Also, which of them had a place.
    fn find_many(&self, keys: &[Key]) -> (Vec<Result<Record, Miss>>, Vec<bool>) {
        let mut found = vec![Err(Miss::Absent); keys.len()];
        let mut had_place = vec![false; keys.len()];
        let (mut wanted, mut large) = (Vec::with_capacity(keys.len()), Vec::new());
        {
            let mut index = self.index.lock();
            for (at, key) in keys.iter().enumerate() {
                let Some(place) = index.touch(key) else { continue };
                had_place[at] = true;
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
        (found, had_place)
    }

    /// Reads records of one segment that lie together.
    fn read_together(&self, keys: &[Key], wanted: &[Wanted], found: &mut [Result<Record, Miss>]) {
        let file = self.index.lock().file(wanted[0].segment);
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

    /// Reads an entry where it is, and where it is then if that has changed: another thread may have written it again and
    /// removed the old segment, and another process may have left it in two.
    fn lookup(&self, key: &Key) -> Result<Record, Miss> {
        let mut missed = Miss::Absent;
        for _ in 0..TRIES {
            let Some((place, file)) = self.find(key) else { return Err(missed) };
            match self.read(key, place, file) {
                Err(miss @ (Miss::Absent | Miss::Damaged(_))) => missed = miss,
                found => return found,
            }
        }
        Err(missed)
    }

    fn find(&self, key: &Key) -> Option<(Place, Option<Arc<dyn DiskFile>>)> {
        let mut index = self.index.lock();
        let place = index.touch(key)?;
        let file = match place.at {
            At::Segment { id, .. } => index.file(id),
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
                // Evicted by another process, or cleared. That one may have written it again, so the next miss looks.
                self.looked_ns.store(LOOK_NOW, Ordering::Relaxed);
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
                self.index.lock().keep_file(id, file.clone());
                file
            }
        };
        let mut read = Vec::with_capacity(bytes);
        file.read_at(offset, bytes, &mut read)?;
        Ok(read)
    }

    fn read_large(&self, key: &Key, place: Place) -> io::Result<Vec<u8>> {
        let file = self.disk.open(&large_name(key, place).to_string())?;
        read_all(&*file, large_file_bytes(place.bytes))
    }

    /// It is not looked at again by this process. A large file goes at once; the bytes in a segment go with the segment.
    fn forget_damaged(&self, key: &Key, place: Place, damage: Damage) -> Miss {
        self.index.lock().forget_at(key, place);
        if place.at == At::Large && !self.settings.read_only && !matches!(damage, Damage::OtherVersion(_)) {
            let _ = self.disk.remove(&large_name(key, place).to_string());
        }
        Miss::Damaged(damage)
    }
}
