//! What a process knows of a directory: where each entry is, when it was last used, and what every file takes. Plain
//! data under one lock of the caller's; no input or output.

use crate::persist::envelope::Key;
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::segment::{HEADER_BYTES, Row};
use crate::persist::store::disk::DiskFile;
use hashbrown::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

pub(super) struct Index {
    places: HashMap<Key, Place>,
    segments: HashMap<u64, Segment>,
    /// One more than every use seen, of whichever process.
    next_use: u64,
    large_bytes: u64,
    /// Of files that hold no entries: temporary ones of other processes, the recency list.
    pub(super) other_bytes: u64,
    /// Large files whose key was put again since.
    pub(super) superseded: Vec<Name>,
    /// The temporary file of this process's own that reserves room for a large entry.
    pub(super) reservation: Option<u64>,
    /// Whether uses are known here that no file has.
    pub(super) uses_unwritten: bool,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: At,
    /// Of its record.
    pub(super) bytes: u32,
    /// When it was put: of two places of a key all processes agree on the one that was put later.
    pub(super) order: u64,
    pub(super) last_use: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Segment { id: u64, offset: u32 },
    Large,
}

/// A segment file.
pub(super) struct Segment {
    /// Opened when it is first read.
    pub(super) file: Option<Arc<dyn DiskFile>>,
    /// Up to here its records are known.
    pub(super) known_to: u64,
    /// It and its sidecar, as last looked at.
    pub(super) file_bytes: u64,
    /// This process appends to it.
    pub(super) ours: bool,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            places: HashMap::new(),
            segments: HashMap::new(),
            next_use: 1,
            large_bytes: 0,
            other_bytes: 0,
            superseded: Vec::new(),
            reservation: None,
            uses_unwritten: false,
        }
    }
}

impl Index {
    pub(super) fn place(&self, key: &Key) -> Option<Place> {
        self.places.get(key).copied()
    }

    /// The place, and from now on the most recently used.
    pub(super) fn touch(&mut self, key: &Key) -> Option<Place> {
        let last_use = self.take_use();
        let place = self.places.get_mut(key)?;
        place.last_use = last_use;
        self.uses_unwritten = true;
        Some(*place)
    }

    /// A number for a use that happens now.
    pub(super) fn take_use(&mut self) -> u64 {
        self.next_use += 1;
        self.next_use - 1
    }

    /// An entry that was put by this process just now. Returns what it supersedes; if another process's put turned out to be
    /// the later one meanwhile, that stays, as it does for everybody else.
    pub(super) fn put(&mut self, key: Key, at: At, bytes: u32, order: u64) -> Option<Place> {
        self.uses_unwritten = true;
        let known = self.places.get(&key).copied();
        if known.is_some_and(|known| known.order > order) {
            return None;
        }
        self.place_at(key, Place { at, bytes, order, last_use: order });
        known
    }

    /// An entry that was found in the directory. Of two that were put as one, since one was written again, the one found
    /// last counts: the other is about to go.
    pub(super) fn found(&mut self, key: Key, mut place: Place) {
        if let Some(known) = self.places.get(&key) {
            if known.order > place.order {
                return;
            }
            place.last_use = place.last_use.max(known.last_use);
        }
        self.place_at(key, place);
    }

    /// An entry that was written again, to be kept when its segment goes. That is no use.
    pub(super) fn moved(&mut self, key: Key, at: At, place: Place) {
        self.place_at(key, Place { at, ..place });
    }

    fn place_at(&mut self, key: Key, place: Place) {
        self.forget(&key);
        self.saw_use(place.last_use.max(place.order));
        if place.at == At::Large {
            self.large_bytes += large_file_bytes(place.bytes);
        }
        self.places.insert(key, place);
    }

    /// Forgets an entry, if it is still there.
    pub(super) fn forget_at(&mut self, key: &Key, gone: Place) {
        if self.places.get(key).is_some_and(|place| (place.at, place.order) == (gone.at, gone.order)) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(place) = self.places.remove(key) {
            if place.at == At::Large {
                self.large_bytes -= large_file_bytes(place.bytes);
            }
        }
    }

    /// A use that another process, or an earlier one, has written down.
    pub(super) fn learn_use(&mut self, key: &Key, last_use: u64) {
        if let Some(place) = self.places.get_mut(key) {
            place.last_use = place.last_use.max(last_use);
            self.saw_use(last_use);
        }
    }

    fn saw_use(&mut self, last_use: u64) {
        self.next_use = self.next_use.max(last_use.saturating_add(1));
    }

    pub(super) fn segment(&self, id: u64) -> Option<&Segment> {
        self.segments.get(&id)
    }

    pub(super) fn segment_mut(&mut self, id: u64) -> Option<&mut Segment> {
        self.segments.get_mut(&id)
    }

    pub(super) fn add_segment(&mut self, id: u64, segment: Segment) {
        self.segments.insert(id, segment);
    }

    /// Forgets a segment that is gone, with the entries that were in it.
    pub(super) fn drop_segment(&mut self, id: u64) {
        if self.segments.remove(&id).is_some() {
            self.places.retain(|_, place| !matches!(place.at, At::Segment { id: of, .. } if of == id));
        }
    }

    /// Forgets all segments and large entries that are not among those that exist.
    pub(super) fn keep_only(&mut self, segments: &HashSet<u64>, large: &HashSet<(Key, u64)>) {
        let gone: Vec<u64> = self.segments.keys().filter(|id| !segments.contains(id)).copied().collect();
        gone.into_iter().for_each(|id| self.drop_segment(id));
        let is_gone = |(key, place): &(&Key, &Place)| place.at == At::Large && !large.contains(&(**key, place.order));
        let gone: Vec<Key> = self.places.iter().filter(is_gone).map(|(key, _)| *key).collect();
        gone.iter().for_each(|key| self.forget(key));
    }

    pub(super) fn segment_ids(&self) -> Vec<u64> {
        self.segments.keys().copied().collect()
    }

    pub(super) fn clear(&mut self) {
        *self = Index { next_use: self.next_use, reservation: self.reservation, ..Index::default() };
    }

    pub(super) fn entries(&self) -> u64 {
        self.places.len() as u64
    }

    /// Of all files.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.file_bytes).sum::<u64>() + self.large_bytes + self.other_bytes
    }

    /// All entries, the least recently used first.
    pub(super) fn by_use(&self) -> Vec<(Key, Place)> {
        let mut entries: Vec<(Key, Place)> = self.places.iter().map(|(key, place)| (*key, *place)).collect();
        entries.sort_unstable_by_key(|(key, place)| (place.last_use, *key));
        entries
    }

    /// The entries of a segment, as its sidecar lists them.
    pub(super) fn rows(&self, segment: u64) -> Vec<Row> {
        let row = |(key, place): (&Key, &Place)| match place.at {
            At::Segment { id, offset } if id == segment => {
                Some(Row { key: *key, offset, bytes: place.bytes, order: place.order, last_use: place.last_use })
            }
            _ => None,
        };
        let mut rows: Vec<Row> = self.places.iter().filter_map(row).collect();
        rows.sort_unstable_by_key(|row| row.offset);
        rows
    }

    /// Every place is in a segment that is known, inside of what is known of it, and the sums add up.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn validate(&self) {
        let mut large_bytes = 0;
        for (key, place) in &self.places {
            assert!(place.last_use < self.next_use, "{key:?} was used later than now");
            match place.at {
                At::Large => large_bytes += large_file_bytes(place.bytes),
                At::Segment { id, offset } => {
                    let segment = self.segments.get(&id).unwrap_or_else(|| panic!("{key:?} is in no known segment"));
                    assert!(u64::from(offset) + u64::from(place.bytes) <= segment.known_to, "{key:?} ends outside");
                }
            }
        }
        assert_eq!(large_bytes, self.large_bytes);
    }
}

/// The file of a large entry.
pub(super) fn large_name(key: &Key, place: Place) -> String {
    Name::Large { key: *key, order: place.order, bytes: large_file_bytes(place.bytes) as u32 }.to_string()
}

pub(super) fn large_file_bytes(record_bytes: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(record_bytes)
}
