//! When which entry was last used, over restarts and processes: one small file, replaced as a whole. Uses are numbers
//! that grow, not times, so a clock that goes backwards changes nothing. A list that is lost costs order, no entries.

use crate::persist::envelope::{Key, Kind};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::directory::Core;
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::segment::{self, FileType, Row};
use crate::persist::store::disk::read_all;
use std::sync::atomic::Ordering;

const RECENCY: Key = Key::new(Kind::internal(0xfff2), Fingerprint::from_bytes([0; 32]));
const BYTES_AT_MOST: u64 = 1 << 30;

impl Core {
    /// Learns what the file says.
    pub(super) fn read_recency(&self) {
        let Ok(file) = self.disk.open(&Name::Recency.to_string()) else { return };
        let Ok(bytes) = read_all(&*file, BYTES_AT_MOST) else { return };
        let rows = segment::whole_payload(&bytes, FileType::Recency, 0, &RECENCY).and_then(segment::decode_rows);
        match rows {
            Ok(rows) => {
                let mut index = self.index.lock();
                rows.iter().for_each(|row| index.learn_use(&row.key, row.last_use));
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
        let rows: Vec<Row> = {
            let mut index = self.index.lock();
            index.uses_unwritten = false;
            index.uses()
        };
        let mut payload = Vec::new();
        segment::encode_rows(&rows, &mut payload);
        let bytes = segment::whole_file(FileType::Recency, 0, &RECENCY, &payload);
        // A failure leaves the older list, which is still a list.
        let _ = self.replace(&Name::Recency.to_string(), &bytes);
    }
}
