//! What a process knows of a directory: where each entry is, when it was last used, and what every file takes. Plain
//! data under one lock of the caller's; no input or output.

use crate::persist::envelope::Key;
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::recency::USE_BYTES;
use crate::persist::store::directory::segment::{HEADER_BYTES, ROW_BYTES, Row, aligned};
use crate::persist::store::disk::DiskFile;
use hashbrown::HashMap;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

pub(super) struct Index {
    places: HashMap<Key, Place>,
    /// Other places of entries that are in two segments as one put, since a process writes them again and has not yet
    /// removed the old segment, or ended before it did. Which of them goes is not known until it is gone.
    twins: HashMap<Key, Vec<Place>>,
    segments: HashMap<u64, Segment>,
    /// Segments with an open file.
    open_files: usize,
    /// One more than every use seen, of whichever process.
    next_use: u64,
    large_bytes: u64,
    /// Of files that hold no entries: temporary ones of other processes, superseded ones.
    pub(super) other_bytes: u64,
    pub(super) recency_bytes: u64,
    /// Large files whose key was put again since.
    pub(super) superseded: Vec<Name>,
    /// Temporary files of others, and sidecars without a segment: of live processes, or left behind by killed ones.
    pub(super) left_behind: Vec<(Name, u64)>,
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

impl Place {
    /// Of two places of a key the one of the greater rank counts, for every process: the one put later. Of two that were
    /// put at once, under the same number, one in a segment counts, or the longer of two files.
    fn rank(&self) -> (u64, bool, u32) {
        let in_segment = self.at != At::Large;
        (self.order, in_segment, if in_segment { 0 } else { self.bytes })
    }

    fn segment(&self) -> Option<u64> {
        if let At::Segment { id, .. } = self.at { Some(id) } else { None }
    }

    pub(super) fn is_in(&self, segment: u64) -> bool {
        self.segment() == Some(segment)
    }

    /// What the entry takes of its file, and of the sidecar of that.
    pub(super) fn file_bytes(&self) -> u64 {
        match self.at {
            At::Segment { .. } => (aligned(self.bytes as usize) + ROW_BYTES) as u64,
            At::Large => large_file_bytes(self.bytes),
        }
    }

    /// What the entry takes of the budget, with all that lists it.
    pub(super) fn cost_bytes(&self) -> u64 {
        self.file_bytes() + USE_BYTES as u64
    }
}

/// A segment file.
#[derive(Default)]
pub(super) struct Segment {
    /// Opened when it is first read; closed when too many others were used since.
    file: Option<Arc<dyn DiskFile>>,
    /// When that was last used.
    file_used: u64,
    /// Up to here its records are known.
    pub(super) known_to: u64,
    /// How long it was when it was last read: what follows `known_to` up to here is not intact.
    pub(super) read_to: u64,
    /// It and its sidecar, as last looked at.
    pub(super) file_bytes: u64,
    /// There is a sidecar: it was sealed once.
    pub(super) has_sidecar: bool,
    /// It could not be read, so what is in it is not known.
    pub(super) unreadable: bool,
    /// This process appends to it.
    pub(super) ours: bool,
}

impl Segment {
    /// One that this process is about to append to.
    pub(super) fn ours(bytes: u64) -> Segment {
        Segment { known_to: bytes, read_to: bytes, file_bytes: bytes, ours: true, ..Segment::default() }
    }

    pub(super) fn open_file(&self) -> Option<Arc<dyn DiskFile>> {
        self.file.clone()
    }
}

/// A store at its budget has 30 segments and more only if that is above half a gigabyte; a process may open 1,024 files.
const OPEN_FILES_AT_MOST: usize = 64;

/// No process counts so far: a greater order was not written by a store, and would leave no number for later puts.
const ORDER_AT_MOST: u64 = 1 << 62;

impl Default for Index {
    fn default() -> Index {
        Index {
            places: HashMap::new(),
            twins: HashMap::new(),
            segments: HashMap::new(),
            open_files: 0,
            next_use: 1,
            large_bytes: 0,
            other_bytes: 0,
            recency_bytes: 0,
            superseded: Vec::new(),
            left_behind: Vec::new(),
            reservation: None,
            uses_unwritten: false,
        }
    }
}

impl Index {
    pub(super) fn place(&self, key: &Key) -> Option<Place> {
        self.places.get(key).copied()
    }

    /// Whether an entry is found there first, whenever it was used.
    pub(super) fn is_at(&self, key: &Key, place: Place) -> bool {
        self.place(key).is_some_and(|now| Place { last_use: place.last_use, ..now } == place)
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

    /// An entry that was put by this process just now. Returns the place of the large file that is superseded, if one is: the
    /// one before, or this one if another process's put turned out to be the later one meanwhile.
    pub(super) fn put(&mut self, key: Key, at: At, bytes: u32, order: u64) -> Option<Place> {
        let (before, put) = (self.place(&key), Place { at, bytes, order, last_use: order });
        self.found(key, put);
        let now = self.place(&key)?;
        before.into_iter().chain([put]).find(|old| old.at == At::Large && old.rank() < now.rank())
    }

    /// An entry that was found in the directory.
    pub(super) fn found(&mut self, key: Key, mut place: Place) {
        if place.order > ORDER_AT_MOST {
            (place.order, place.last_use) = (0, 0);
        }
        place.last_use = if place.last_use > ORDER_AT_MOST { place.order } else { place.last_use };
        let Some(known) = self.place(&key) else { return self.place_at(key, place) };
        match place.rank().cmp(&known.rank()) {
            Ordering::Less => {}
            Ordering::Greater => {
                self.twins.remove(&key);
                self.place_at(key, Place { last_use: place.last_use.max(known.last_use), ..place });
            }
            Ordering::Equal => {
                // The one found last comes first: the other is about to go, more likely.
                if known.at != place.at {
                    let twins = self.twins.entry(key).or_default();
                    twins.retain(|twin| twin.at != place.at);
                    twins.push(known);
                }
                self.place_at(key, Place { last_use: place.last_use.max(known.last_use), ..place });
            }
        }
    }

    /// An entry was written again, to be kept when its segment goes; until then it is in both. That is no use.
    pub(super) fn moved(&mut self, key: Key, at: At, bytes: u32) {
        let Some(place) = self.place(&key) else { return };
        self.twins.entry(key).or_default().push(place);
        self.place_at(key, Place { at, bytes, ..place });
    }

    /// Where else an entry of a segment is.
    pub(super) fn elsewhere(&self, key: &Key, segment: u64) -> Option<Place> {
        let twins = self.twins.get(key).into_iter().flatten().copied();
        self.place(key).into_iter().chain(twins).find(|place| !place.is_in(segment))
    }

    fn place_at(&mut self, key: Key, place: Place) {
        self.saw_use(place.last_use.max(place.order));
        if place.at == At::Large {
            self.large_bytes += large_file_bytes(place.bytes);
        }
        if let Some(Place { at: At::Large, bytes, .. }) = self.places.insert(key, place) {
            self.large_bytes -= large_file_bytes(bytes);
        }
    }

    /// Forgets a place of an entry, if it still has it. What is left is its twin, or nothing.
    pub(super) fn forget_at(&mut self, key: &Key, gone: Place) {
        let Some(place) = self.place(key).filter(|place| place.order == gone.order) else { return };
        match gone.at {
            At::Segment { id, .. } if place.at != gone.at => self.forget_twin(key, id),
            _ if (place.at, place.bytes) == (gone.at, gone.bytes) => self.forget(key),
            _ => {}
        }
    }

    /// Forgets the place of an entry that comes first.
    fn forget(&mut self, key: &Key) {
        let Some(place) = self.place(key) else { return };
        let twin = self.twins.get_mut(key).and_then(Vec::pop);
        if self.twins.get(key).is_some_and(Vec::is_empty) {
            self.twins.remove(key);
        }
        match twin {
            Some(twin) => self.place_at(*key, Place { last_use: place.last_use, ..twin }),
            None => {
                self.places.remove(key);
                if place.at == At::Large {
                    self.large_bytes -= large_file_bytes(place.bytes);
                }
            }
        }
    }

    fn forget_twin(&mut self, key: &Key, segment: u64) {
        if let Some(twins) = self.twins.get_mut(key) {
            twins.retain(|twin| !twin.is_in(segment));
            if twins.is_empty() {
                self.twins.remove(key);
            }
        }
    }

    /// A use that another process, or an earlier one, has written down.
    pub(super) fn learn_use(&mut self, key: &Key, last_use: u64) {
        if last_use > ORDER_AT_MOST {
            return;
        }
        if let Some(place) = self.places.get_mut(key) {
            place.last_use = place.last_use.max(last_use);
            self.saw_use(last_use);
        }
    }

    fn saw_use(&mut self, last_use: u64) {
        self.next_use = self.next_use.max(last_use + 1);
    }

    pub(super) fn segment(&self, id: u64) -> Option<&Segment> {
        self.segments.get(&id)
    }

    pub(super) fn segment_mut(&mut self, id: u64) -> Option<&mut Segment> {
        self.segments.get_mut(&id)
    }

    pub(super) fn add_segment(&mut self, id: u64, segment: Segment) {
        self.drop_segment(id);
        self.segments.insert(id, segment);
    }

    /// The open file of a segment, which is used now.
    pub(super) fn file(&mut self, id: u64) -> Option<Arc<dyn DiskFile>> {
        let now = self.next_use;
        let segment = self.segments.get_mut(&id)?;
        segment.file_used = now;
        segment.file.clone()
    }

    /// Keeps a segment's file open for later reads, and closes the one that was not used for longest if they are too many.
    pub(super) fn keep_file(&mut self, id: u64, file: Arc<dyn DiskFile>) {
        let now = self.next_use;
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.file_used = now;
        if segment.file.replace(file).is_some() {
            return;
        }
        self.open_files += 1;
        if self.open_files > OPEN_FILES_AT_MOST {
            let others = self.segments.iter().filter(|(other, segment)| **other != id && segment.file.is_some());
            let coldest = others.min_by_key(|(_, segment)| segment.file_used).map(|(other, _)| *other);
            if let Some(segment) = coldest.and_then(|coldest| self.segments.get_mut(&coldest)) {
                segment.file = None;
                self.open_files -= 1;
            }
        }
    }

    /// Forgets a segment that is gone, with the entries that were in it and nowhere else.
    pub(super) fn drop_segment(&mut self, id: u64) {
        self.drop_segments(&HashSet::from([id]));
    }

    fn drop_segments(&mut self, gone: &HashSet<u64>) {
        let mut known = false;
        for id in gone {
            if let Some(segment) = self.segments.remove(id) {
                known = true;
                self.open_files -= usize::from(segment.file.is_some());
            }
        }
        if !known {
            return;
        }
        let is_gone = |place: &Place| place.segment().is_some_and(|id| gone.contains(&id));
        self.twins.retain(|_, twins| {
            twins.retain(|twin| !is_gone(twin));
            !twins.is_empty()
        });
        let without: Vec<Key> = self.places.iter().filter(|(_, place)| is_gone(place)).map(|(key, _)| *key).collect();
        without.iter().for_each(|key| self.forget(key));
    }

    /// Forgets all segments and large entries that are not among those that exist. Returns the last uses of what was there,
    /// which may turn out to be elsewhere.
    pub(super) fn keep_only(&mut self, segments: &HashSet<u64>, large: &HashSet<Name>) -> Vec<(Key, u64)> {
        let gone: HashSet<u64> = self.segments.keys().filter(|id| !segments.contains(id)).copied().collect();
        let is_gone = |(key, place): &(&Key, &Place)| match place.at {
            At::Segment { id, .. } => gone.contains(&id),
            At::Large => !large.contains(&large_name(key, **place)),
        };
        let were_there: Vec<(Key, Place)> =
            self.places.iter().filter(is_gone).map(|(key, place)| (*key, *place)).collect();
        self.drop_segments(&gone);
        for (key, _) in were_there.iter().filter(|(_, place)| place.at == At::Large) {
            self.forget(key);
        }
        were_there.into_iter().map(|(key, place)| (key, place.last_use)).collect()
    }

    /// Segments without a sidecar that this process does not append to: others do, or ended before they sealed them.
    pub(super) fn unsealed_by_others(&self) -> Vec<u64> {
        let unsealed = self.segments.iter().filter(|(_, segment)| !segment.ours && !segment.has_sidecar);
        unsealed.map(|(id, _)| *id).collect()
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
        let segments: u64 = self.segments.values().map(|segment| segment.file_bytes).sum();
        segments + self.large_bytes + self.other_bytes + self.recency_bytes
    }

    /// All entries, the least recently used first.
    pub(super) fn by_use(&self) -> Vec<(Key, Place)> {
        let mut entries: Vec<(Key, Place)> = self.places.iter().map(|(key, place)| (*key, *place)).collect();
        entries.sort_unstable_by_key(|(key, place)| (place.last_use, *key));
        entries
    }

    /// Entries that were used since they were put, with their last uses, in no particular order.
    pub(super) fn uses(&self) -> Vec<(u64, Key)> {
        let used = self.places.iter().filter(|(_, place)| place.last_use > place.order);
        used.map(|(key, place)| (place.last_use, *key)).collect()
    }

    /// The entries of a segment, as its sidecar lists them: those that are in another one, too, as well.
    pub(super) fn rows(&self, segment: u64) -> Vec<Row> {
        let twins = self.twins.iter().flat_map(|(key, twins)| twins.iter().map(move |twin| (key, twin)));
        let row = |(key, place): (&Key, &Place)| match place.at {
            At::Segment { id, offset } if id == segment => {
                let Place { bytes, order, last_use, .. } = *place;
                Some(Row { key: *key, offset, bytes, order, last_use })
            }
            _ => None,
        };
        let mut rows: Vec<Row> = self.places.iter().chain(twins).filter_map(row).collect();
        rows.sort_unstable_by_key(|row| row.offset);
        rows
    }

    /// Segments that were read to their ends and have no entries: they were superseded, or never were any.
    pub(super) fn empty_segments(&self) -> Vec<u64> {
        let twins = self.twins.values().flatten();
        let used: HashSet<u64> = self.places.values().chain(twins).filter_map(Place::segment).collect();
        let is_empty = |(id, segment): &(&u64, &Segment)| !segment.ours && !segment.unreadable && !used.contains(*id);
        self.segments.iter().filter(is_empty).map(|(id, _)| *id).collect()
    }

    /// Every place is in a segment that is known, inside of what is known of it, and the sums add up.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn validate(&self) {
        let mut large_bytes = 0;
        let inside = |key: &Key, place: &Place| {
            let At::Segment { id, offset } = place.at else { return };
            let segment = self.segments.get(&id).unwrap_or_else(|| panic!("{key:?} is in no known segment"));
            assert!(u64::from(offset) + u64::from(place.bytes) <= segment.known_to, "{key:?} ends outside");
        };
        for (key, place) in &self.places {
            assert!(place.last_use < self.next_use, "{key:?} was used later than now");
            inside(key, place);
            large_bytes += if place.at == At::Large { large_file_bytes(place.bytes) } else { 0 };
        }
        assert_eq!(large_bytes, self.large_bytes);
        for (key, twins) in &self.twins {
            let place = self.places.get(key).unwrap_or_else(|| panic!("{key:?} has twins and no place"));
            assert!(!twins.is_empty() && twins.iter().all(|twin| twin.rank() == place.rank() && twin.at != place.at));
            twins.iter().for_each(|twin| inside(key, twin));
        }
        assert_eq!(self.open_files, self.segments.values().filter(|segment| segment.file.is_some()).count());
        assert!(self.open_files <= OPEN_FILES_AT_MOST);
    }
}

/// The file of a large entry.
pub(super) fn large_name(key: &Key, place: Place) -> Name {
    Name::Large { key: *key, order: place.order, bytes: large_file_bytes(place.bytes) as u32 }
}

pub(super) fn large_file_bytes(record_bytes: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(record_bytes)
}
