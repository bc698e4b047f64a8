//! Looking entries up: one read, one check, no copy of the payload. Every failure is a miss with its reason.

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

impl Core {
    pub(super) fn get(&self, key: &Key) -> Result<Record, Miss> {
        let counters = &self.counters;
        let found = match self.lookup(key) {
            // Perhaps another process has put it since.
            Err(Miss::Absent) if self.look_if_due(self.settings.look_every_ns) => self.lookup(key),
            found => found,
        };
        let Err(miss) = &found else {
            if counters.hits.fetch_add(1, Ordering::Relaxed) % HITS_PER_GLANCE == 0 {
                // Others may have cleared the directory, and should learn what is used here.
                self.tend_if_due();
            }
            return found;
        };
        counters.misses.fetch_add(1, Ordering::Relaxed);
        match miss {
            Miss::Damaged(_) => drop(counters.damaged.fetch_add(1, Ordering::Relaxed)),
            Miss::Unreadable => drop(counters.unreadable.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        found
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
            At::Segment { id, offset } => self.read_segment(id, offset, place.bytes, file).map(|bytes| (bytes, 0)),
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

    fn read_segment(&self, id: u64, offset: u32, bytes: u32, file: Option<Arc<dyn DiskFile>>) -> io::Result<Vec<u8>> {
        let file = match file {
            Some(file) => file,
            None => {
                let file = self.disk.open(&Name::Segment(id).to_string())?;
                self.index.lock().keep_file(id, file.clone());
                file
            }
        };
        let mut record = Vec::with_capacity(bytes as usize);
        file.read_at(u64::from(offset), bytes as usize, &mut record)?;
        Ok(record)
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
