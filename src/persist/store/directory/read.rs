//! Looking entries up: one read, one check, no copy of the payload. Every failure is a miss with its reason.

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
        let counters = &self.counters;
        match &found {
            Ok(_) => &counters.hits,
            Err(_) => &counters.misses,
        }
        .fetch_add(1, Ordering::Relaxed);
        match &found {
            Err(Miss::Damaged(_)) => drop(counters.damaged.fetch_add(1, Ordering::Relaxed)),
            Err(Miss::Unreadable) => drop(counters.unreadable.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        found
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
            At::Segment { id, offset } => self.read_segment(id, offset, place.bytes, file).map(|bytes| (bytes, 0)),
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

    fn read_segment(&self, id: u64, offset: u32, bytes: u32, file: Option<Arc<dyn DiskFile>>) -> io::Result<Vec<u8>> {
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
        let mut record = Vec::with_capacity(bytes as usize);
        file.read_at(u64::from(offset), bytes as usize, &mut record)?;
        Ok(record)
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
