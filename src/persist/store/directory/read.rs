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

/// What was read together before, and may be done with: the next is read into the same memory, which is there, and in the
/// processor's cache.
#[derive(Default)]
struct Before([Option<Arc<Vec<u8>>>; 2]);

impl Before {
    /// Memory for so many bytes that nobody reads any more, or new one. What is read fills all of it, so that little is read in
    /// vain only if it is not much more.
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let most = TOGETHER_BYTES as usize;
        if bytes <= most / 2 {
            return Vec::with_capacity(bytes);
        }
        let free = self.0.iter_mut().find(|bytes| bytes.as_ref().is_some_and(|bytes| Arc::strong_count(bytes) == 1));
        let bytes = free.and_then(Option::take).and_then(|bytes| Arc::try_unwrap(bytes).ok());
        let mut bytes = bytes.unwrap_or_else(|| Vec::with_capacity(most));
        bytes.clear();
        bytes
    }

    fn keep(&mut self, bytes: Arc<Vec<u8>>) {
        if bytes.capacity() == TOGETHER_BYTES as usize {
            self.0.rotate_right(1);
            self.0[0] = Some(bytes);
        }
    }
}

impl Core {
    pub(super) fn get(&self, key: &Key) -> Result<Record, Miss> {
        let found = match self.lookup(key) {
            // Perhaps another process has put it since.
            Err(Miss::Absent) if self.look_if_due(self.settings.look_every_ns) => self.lookup(key),
            found => found,
        };
        let hits = self.count_miss(&found);
        self.count_hits(hits);
        found
    }

    pub(super) fn get_each(&self, keys: &[Key], found: &mut dyn FnMut(usize, Result<Record, Miss>)) {
        let (mut hits, mut absent) = (0, Vec::new());
        self.lookup_each(keys, &mut |at, record| match record {
            Err(Miss::Absent) => absent.push(at),
            record => {
                hits += self.count_miss(&record);
                found(at, record);
            }
        });
        if !absent.is_empty() && self.look_if_due(self.settings.look_every_ns) {
            let again: Vec<Key> = absent.iter().map(|at| keys[*at]).collect();
            self.lookup_each(&again, &mut |which, record| {
                hits += self.count_miss(&record);
                found(absent[which], record);
            });
        } else {
            for at in absent {
                hits += self.count_miss(&Err(Miss::Absent));
                found(at, Err(Miss::Absent));
            }
        }
        self.count_hits(hits);
    }

    /// As `lookup` of each: what is not where it was found is looked for again, by itself, after the others.
    fn lookup_each(&self, keys: &[Key], found: &mut dyn FnMut(usize, Result<Record, Miss>)) {
        let mut missed = Vec::new();
        let nowhere = self.find_each(keys, &mut |at, record| match record {
            Err(miss @ (Miss::Absent | Miss::Damaged(_))) => missed.push((at, miss)),
            record => found(at, record),
        });
        nowhere.into_iter().for_each(|at| found(at, Err(Miss::Absent)));
        for (at, miss) in missed {
            let again = match self.lookup(&keys[at]) {
                Err(Miss::Absent) => Err(miss),
                again => again,
            };
            found(at, again);
        }
    }

    /// Returns how many hits it is.
    fn count_miss(&self, found: &Result<Record, Miss>) -> u64 {
        let counters = &self.counters;
        let Err(miss) = found else { return 1 };
        counters.misses.fetch_add(1, Ordering::Relaxed);
        match miss {
            Miss::Damaged(_) => drop(counters.damaged.fetch_add(1, Ordering::Relaxed)),
            Miss::Unreadable => drop(counters.unreadable.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        0
    }

    fn count_hits(&self, hits: u64) {
        let before = self.counters.hits.fetch_add(hits, Ordering::Relaxed);
        if before.next_multiple_of(HITS_PER_GLANCE) < before + hits {
            // Others may have cleared the directory, and should learn what is used here.
            self.tend_if_due();
        }
    }

    /// Looks all up at once, and reads them in the order in which they lie. Returns which of them have no place.
    fn find_each(&self, keys: &[Key], found: &mut dyn FnMut(usize, Result<Record, Miss>)) -> Vec<usize> {
        let (mut wanted, mut large, mut nowhere) = (Vec::with_capacity(keys.len()), Vec::new(), Vec::new());
        {
            let mut index = self.index.lock();
            for (at, key) in keys.iter().enumerate() {
                let Some(place) = index.touch(key) else {
                    nowhere.push(at);
                    continue;
                };
                match place.at {
                    At::Segment { id, offset } => {
                        wanted.push(Wanted { at, segment: id, offset: u64::from(offset), place });
                    }
                    At::Large => large.push((at, place)),
                }
            }
        }
        wanted.sort_unstable_by_key(|wanted| (wanted.segment, wanted.offset));
        let mut before = Before::default();
        let mut rest = &wanted[..];
        while let [first, ..] = rest {
            let mut end = first.end();
            let lies_near = |next: &&Wanted| {
                let near = next.segment == first.segment && next.offset <= end + BETWEEN_BYTES;
                end = end.max(next.end());
                near && end - first.offset <= TOGETHER_BYTES
            };
            let together = 1 + rest[1..].iter().take_while(lies_near).count();
            self.read_together(keys, &rest[..together], &mut before, found);
            rest = &rest[together..];
        }
        for (at, place) in large {
            found(at, self.read(&keys[at], place, None));
        }
        nowhere
    }

    /// Reads records of one segment that lie together.
    fn read_together(
        &self,
        keys: &[Key],
        wanted: &[Wanted],
        before: &mut Before,
        found: &mut dyn FnMut(usize, Result<Record, Miss>),
    ) {
        let file = self.index.lock().file(wanted[0].segment);
        let start = wanted[0].offset;
        let end = wanted.iter().map(Wanted::end).max().unwrap_or(start);
        let read = match wanted.len() {
            1 => None,
            _ => {
                let (segment, length) = (wanted[0].segment, (end - start) as usize);
                self.read_segment(segment, start, length, file.clone(), before.take(length)).ok()
            }
        };
        let Some(bytes) = read.map(Arc::new) else {
            // What fails for one of them need not fail for the others.
            for one in wanted {
                found(one.at, self.read(&keys[one.at], one.place, file.clone()));
            }
            return;
        };
        for one in wanted {
            let from = ((one.offset - start) as usize).min(bytes.len());
            let to = ((one.end() - start) as usize).min(bytes.len());
            let key = &keys[one.at];
            let record = match envelope::decode_expecting(&bytes[from..to], key) {
                Ok(envelope) => {
                    let payload = from + envelope.payload_offset;
                    Ok(Record::part_of(&bytes, payload..payload + envelope.payload.len(), envelope.meta))
                }
                Err(damage) => Err(self.forget_damaged(key, one.place, damage)),
            };
            found(one.at, record);
        }
        before.keep(bytes);
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
                let read = self.read_segment(id, u64::from(offset), place.bytes as usize, file, Vec::new());
                read.map(|bytes| (bytes, 0))
            }
            At::Large => self.read_large(key, place).map(|bytes| (bytes, HEADER_BYTES)),
        };
        let (bytes, skip) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Evicted by another process, or cleared.
                self.look_past(key, place);
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

    /// Into `read`, which is empty.
    fn read_segment(
        &self,
        id: u64,
        offset: u64,
        bytes: usize,
        file: Option<Arc<dyn DiskFile>>,
        mut read: Vec<u8>,
    ) -> io::Result<Vec<u8>> {
        let file = match file {
            Some(file) => file,
            None => {
                let file = self.disk.open(&Name::Segment(id).to_string())?;
                self.index.lock().keep_file(id, file.clone());
                file
            }
        };
        read.reserve_exact(bytes);
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
