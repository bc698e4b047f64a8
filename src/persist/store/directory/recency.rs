//! When which entry was last used, over restarts and processes: one small file, replaced as a whole. Uses are numbers
//! that grow, not times, so a clock that goes backwards changes nothing. A list that is lost costs order, no entries.
//!
//! It lists what was used since it was put: when it was put stands in the record. It is written by `sync`, by `refresh`, when
//! a segment is sealed, every 10 s by a process that only hits, and at the end, so an end without notice costs little.

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
pub(super) const USE_BYTES: usize = 42;
/// While a segment is sealed it is written only so often, or when as much was put as it takes: what it costs stays below
/// what is put.
const EVERY_NS: u64 = 2_000_000_000;

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

    /// Writes what is known, with what others wrote meanwhile, if anything is known that is not written. Of two that write
    /// at once, one's news are lost: they cost order alone, so nobody waits for a lock.
    pub(super) fn write_recency(&self) {
        if self.settings.read_only || !self.index.lock().uses_unwritten {
            return;
        }
        // Uses of what this process does not know yet would be left out.
        self.look_if_due(self.settings.look_every_ns);
        self.read_recency();
        let mut uses = {
            let mut index = self.index.lock();
            index.uses_unwritten = false;
            index.uses()
        };
        // While it is replaced it is there twice, so it may take half of a segment: more would break the bound.
        let rows = self.settings.segment_bytes as usize / 2 / USE_BYTES;
        if uses.len() > rows {
            uses.select_nth_unstable_by(rows, |a, b| b.cmp(a));
            uses.truncate(rows);
        }
        let mut payload = Vec::with_capacity(uses.len() * USE_BYTES);
        for (last_use, key) in uses {
            payload.extend(last_use.to_le_bytes());
            payload.extend(key.kind.number().to_le_bytes());
            payload.extend(key.fingerprint.as_bytes());
        }
        let bytes = segment::whole_file(FileType::Recency, 0, &RECENCY, &payload);
        // A failure leaves the older list, which is still a list.
        let _ = self.replace(&Name::Recency.to_string(), &bytes);
        self.recency_ns.store(self.elapsed_ns(), Ordering::Relaxed);
        self.recency_bytes.store(bytes.len() as u64, Ordering::Relaxed);
    }

    /// A segment was sealed, and so much was written since the list was.
    pub(super) fn write_recency_if_worth(&self, written_since: &mut u64) {
        let rested = self.elapsed_ns().saturating_sub(self.recency_ns.load(Ordering::Relaxed)) >= EVERY_NS;
        if rested || *written_since >= self.recency_bytes.load(Ordering::Relaxed) {
            *written_since = 0;
            self.write_recency();
        }
    }

    /// What a process sees to that only finds what it looks up, a hundredth as often as one that misses looks.
    pub(super) fn tend_if_due(&self) {
        let every_ns = self.settings.look_every_ns.saturating_mul(100);
        let now = self.elapsed_ns();
        let tended = self.tended_ns.load(Ordering::Relaxed);
        if now.saturating_sub(tended) < every_ns
            || self.tended_ns.compare_exchange(tended, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        self.look_if_due(every_ns);
        self.write_recency();
    }
}

fn learn(index: &mut Index, row: &[u8]) {
    let last_use = u64::from_le_bytes(row[..8].try_into().expect("eight bytes"));
    let kind = Kind::internal(u16::from_le_bytes([row[8], row[9]]));
    let fingerprint = Fingerprint::from_bytes(row[10..].try_into().expect("32 bytes"));
    index.learn_use(&Key::new(kind, fingerprint), last_use);
}
