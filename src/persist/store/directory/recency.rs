//! When which entry was last used, over restarts and processes: one small file, replaced as a whole. Uses are numbers
//! that grow, not times, so a clock that goes backwards changes nothing. A list that is lost costs order, no entries.

use crate::persist::envelope::{Key, Kind};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::directory::Core;
use crate::persist::store::directory::index::Index;
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::segment::{self, FileType};
use crate::persist::store::disk::read_all;
use std::sync::atomic::Ordering;

const RECENCY: Key = Key::new(Kind::internal(0xfff2), Fingerprint::from_bytes([0; 32]));
const BYTES_AT_MOST: u64 = 1 << 30;
/// Of each entry: its last use (8), its kind (2), its fingerprint (32).
const USE_BYTES: usize = 42;

impl Core {
    /// Learns what the file says.
    pub(super) fn read_recency(&self) {
        let Ok(file) = self.disk.open(&Name::Recency.to_string()) else { return };
        let Ok(bytes) = read_all(&*file, BYTES_AT_MOST) else { return };
        match segment::whole_payload(&bytes, FileType::Recency, 0, &RECENCY) {
            Ok(rows) => {
                let mut index = self.index.lock();
                rows.chunks_exact(USE_BYTES).for_each(|row| learn(&mut index, row));
            }
            Err(_) => drop(self.counters.damaged.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Writes what is known, with what others wrote meanwhile. Of two that write at once, one's news are lost: they cost
    /// order alone, so nobody waits for a lock.
    pub(super) fn write_recency(&self) {
        if !self.index.lock().uses_unwritten {
            return;
        }
        self.read_recency();
        let uses = {
            let mut index = self.index.lock();
            index.uses_unwritten = false;
            index.by_use()
        };
        let mut payload = Vec::with_capacity(uses.len() * USE_BYTES);
        for (key, place) in uses {
            payload.extend(place.last_use.to_le_bytes());
            payload.extend(key.kind.number().to_le_bytes());
            payload.extend(key.fingerprint.as_bytes());
        }
        let bytes = segment::whole_file(FileType::Recency, 0, &RECENCY, &payload);
        // A failure leaves the older list, which is still a list.
        let _ = self.replace(&Name::Recency.to_string(), &bytes);
    }
}

fn learn(index: &mut Index, row: &[u8]) {
    let last_use = u64::from_le_bytes(row[..8].try_into().expect("eight bytes"));
    let kind = Kind::internal(u16::from_le_bytes([row[8], row[9]]));
    let fingerprint = Fingerprint::from_bytes(row[10..].try_into().expect("32 bytes"));
    index.learn_use(&Key::new(kind, fingerprint), last_use);
}
