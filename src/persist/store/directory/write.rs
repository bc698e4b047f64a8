//! Putting entries into files: the segment that this process appends to, and files of large entries. One writer at a
//! time in a process, none waits for another process.

use crate::persist::envelope::{self, Key, Meta};
use crate::persist::store::Refusal;
use crate::persist::store::directory::Core;
use crate::persist::store::directory::index::{At, Place, Segment, large_file_bytes, large_name};
use crate::persist::store::directory::look::Contents;
use crate::persist::store::directory::names::{Name, fresh_id};
use crate::persist::store::directory::segment::{self, FileType, HEADER_BYTES};
use crate::persist::store::directory::unsynced::Unsynced;
use crate::persist::store::disk::{Disk, DiskFile};
use crate::sync::MutexGuard;
use std::io;
use std::sync::Arc;

/// What only writing needs to know. Behind a lock that is held while a record is written: records must reach the file in
/// the order in which they are acknowledged, since whoever scans it stops at the first hole.
pub(super) struct Writer {
    pub(super) open: Option<Open>,
    pub(super) unsynced: Unsynced,
    /// Bytes since the list of uses was written.
    pub(super) since_recency: u64,
    process: u32,
}

/// The segment that this process appends to. The handle holds the file, which tells other processes that it is in use.
pub(super) struct Open {
    pub(super) id: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) end: u64,
    /// Its name is in `unsynced`.
    listed: bool,
    /// Records in it, each of which takes a row of its sidecar.
    rows: usize,
}

impl Open {
    /// Whether a record fits, with what lists it: a segment and its sidecar together stay within a segment's length.
    fn fits(&self, record_bytes: u64, segment_bytes: u64) -> bool {
        self.end + record_bytes + segment::sidecar_bytes(self.rows + 1) <= segment_bytes
    }
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer { open: None, unsynced: Unsynced::default(), since_recency: 0, process: std::process::id() }
    }
}

impl Core {
    pub(super) fn write(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Refusal> {
        if self.settings.read_only {
            return Err(Refusal::ReadOnly);
        }
        let (mut order, mut record) = self.encode(key, meta, payload)?;
        let mut writer = self.lock_writer();
        const TRIES: usize = 4;
        for _ in 1..TRIES {
            self.write_record(&mut writer, key, order, record)?;
            // A look may have come upon a later put meanwhile, of another process, that is gone by now: this one must not be lost
            // behind it, and is put once more, after that.
            if self.index.lock().place(key).is_none_or(|place| place.order <= order) {
                return Ok(());
            }
            (order, record) = self.encode(key, meta, payload)?;
        }
        self.write_record(&mut writer, key, order, record)
    }

    /// The record of a put that happens now, and its number.
    fn encode(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(u64, Vec<u8>), Refusal> {
        let limit_bytes = self.settings.budget_bytes.saturating_sub(2 * self.settings.segment_bytes);
        let need_bytes = payload.len() as u64 + 2 * envelope::PREFIX_BYTES as u64;
        let order = self.index.lock().take_use();
        let mut record = Vec::new();
        if need_bytes > limit_bytes || envelope::encode(key, order, meta, payload, &mut record).is_none() {
            return Err(Refusal::Oversize {
                need_bytes,
                limit_bytes: limit_bytes.min(envelope::PAYLOAD_BYTES_AT_MOST as u64),
            });
        }
        Ok((order, record))
    }

    fn write_record(&self, writer: &mut Writer, key: &Key, order: u64, record: Vec<u8>) -> Result<(), Refusal> {
        if record.len() as u64 > self.settings.inline_bytes {
            self.write_large(writer, key, order, &record)
        } else {
            self.write_inline(writer, key, order, record)
        }
    }

    fn write_inline(&self, writer: &mut Writer, key: &Key, order: u64, mut record: Vec<u8>) -> Result<(), Refusal> {
        let bytes = record.len() as u32;
        record.resize(segment::aligned(record.len()), 0);
        self.make_ready(writer, record.len() as u64)?;
        let at = self.append(writer, &record)?;
        self.place(key, at, bytes, order);
        if self.settings.sync_each_put { self.sync_now(writer) } else { Ok(()) }
    }

    fn write_large(&self, writer: &mut Writer, key: &Key, order: u64, record: &[u8]) -> Result<(), Refusal> {
        let mut bytes = segment::header(FileType::Large, 0).to_vec();
        bytes.extend(record);
        let name = Name::Large { key: *key, order, bytes: bytes.len() as u32 };
        let written = again_if_cleared(|| self.write_in_room(writer, &name, &bytes));
        written.map_err(|error| Refusal::from_io("write an entry", &error))?;
        self.lately.lock().large.push(name);
        writer.unsynced.file(name.to_string());
        writer.unsynced.names();
        writer.since_recency += bytes.len() as u64;
        self.place(key, At::Large, record.len() as u32, order);
        if self.settings.sync_each_put { self.sync_now(writer) } else { Ok(()) }
    }

    /// Makes room for a file of its own, and writes it. The reservation comes first: two processes that make room at once each
    /// see the other's.
    fn write_in_room(&self, writer: &mut Writer, name: &Name, bytes: &[u8]) -> io::Result<()> {
        let (reservation, file) = self.create_temporary(bytes.len() as u32)?;
        self.index.lock().reservation = Some(reservation);
        self.make_room(writer, bytes.len() as u64);
        let written = self.write_beside(reservation, &*file, &name.to_string(), bytes);
        self.index.lock().reservation = None;
        written
    }

    /// An entry has been written. A large file that it supersedes stays until this one is synced, or room is needed; it
    /// loses by its order.
    fn place(&self, key: &Key, at: At, bytes: u32, order: u64) {
        let mut index = self.index.lock();
        if let Some(superseded) = index.put(*key, at, bytes, order) {
            index.other_bytes += large_file_bytes(superseded.bytes);
            index.superseded.push(large_name(key, superseded));
        }
    }

    /// Adds a record, padded, to the open segment, which has room for it.
    pub(super) fn append(&self, writer: &mut Writer, record: &[u8]) -> Result<At, Refusal> {
        let open = writer.open.as_mut().expect("the caller has made it ready");
        let (id, offset) = (open.id, open.end);
        if let Err(error) = open.file.write_at(offset, record) {
            // What half a record leaves behind is never written over: its inside might look like a record.
            self.leave(writer);
            return Err(Refusal::from_io("write an entry", &error));
        }
        open.end += record.len() as u64;
        open.rows += 1;
        let end = open.end;
        writer.since_recency += record.len() as u64;
        if !std::mem::replace(&mut open.listed, true) {
            writer.unsynced.file(Name::Segment(id).to_string());
        }
        if let Some(segment) = self.index.lock().segment_mut(id) {
            segment.known_to = end;
            segment.read_to = end;
            segment.file_bytes = end;
        }
        Ok(At::Segment { id, offset: offset as u32 })
    }

    /// Sees to an open segment with room for so many bytes, and to the budget whenever a new one begins.
    fn make_ready(&self, writer: &mut Writer, bytes: u64) -> Result<(), Refusal> {
        if let Some(open) = &writer.open {
            if !open.file.is_named().unwrap_or(false) {
                // Somebody cleared the directory: what is written there now would be lost.
                let id = open.id;
                writer.open = None;
                self.index.lock().drop_segment(id);
            } else if open.fits(bytes, self.settings.segment_bytes) {
                return Ok(());
            }
        }
        // What is written again may fill the new one, too. That is sealed then, for which there must be room again.
        const TRIES: usize = 4;
        for _ in 0..TRIES {
            self.open_another(writer, bytes)?;
            self.make_room(writer, 0);
            if writer.open.as_ref().is_some_and(|open| open.fits(bytes, self.settings.segment_bytes)) {
                return Ok(());
            }
        }
        self.open_another(writer, bytes)
    }

    /// The open segment, or the next one if it has no room.
    pub(super) fn open_with_room(&self, writer: &mut Writer, bytes: u64) -> Result<(), Refusal> {
        match &writer.open {
            Some(open) if open.fits(bytes, self.settings.segment_bytes) => Ok(()),
            _ => self.open_another(writer, bytes),
        }
    }

    fn open_another(&self, writer: &mut Writer, bytes: u64) -> Result<(), Refusal> {
        self.seal(writer);
        if self.adopt(writer, bytes) {
            return Ok(());
        }
        let created = again_if_cleared(|| self.create_segment());
        let (id, file, reader) = created.map_err(|error| Refusal::from_io("create a segment", &error))?;
        let end = HEADER_BYTES as u64;
        self.lately.lock().segments.push(id);
        let mut index = self.index.lock();
        index.add_segment(id, Segment::ours(end));
        index.keep_file(id, reader);
        drop(index);
        writer.unsynced.names();
        writer.open = Some(Open { id, file, end, listed: false, rows: 0 });
        Ok(())
    }

    /// Goes on with a segment that an ended process left half empty. Without this, each short-lived process would leave a file.
    fn adopt(&self, writer: &mut Writer, bytes: u64) -> bool {
        const TRIES: usize = 4;
        // With what lists it, as far as that is listed already.
        let room = |found: &Segment| {
            let rows = segment::sidecar_bytes(1) + (found.file_bytes - found.known_to.min(found.file_bytes));
            found.known_to < self.settings.segment_bytes / 2
                && found.known_to + bytes + rows <= self.settings.segment_bytes
        };
        let candidates: Vec<(u64, u64)> = {
            let index = self.index.lock();
            let fitting = |id: u64| {
                index.segment(id).filter(|found| !found.ours && room(found)).map(|found| (id, found.known_to))
            };
            index
                .segment_ids()
                .into_iter()
                .filter_map(fitting)
                .filter(|(_, known_to)| *known_to > 0)
                .take(TRIES)
                .collect()
        };
        for (id, end) in candidates {
            let Ok(Some(file)) = self.disk.open_held(&Name::Segment(id).to_string()) else { continue };
            // Not one whose end is torn, nor one that is gone or has grown since it was looked at.
            if !file.is_named().unwrap_or(false)
                || file.bytes().ok() != Some(end)
                || end as usize != segment::aligned(end as usize)
            {
                continue;
            }
            let mut index = self.index.lock();
            let Some(segment) = index.segment_mut(id) else { continue };
            if segment.known_to != end {
                continue;
            }
            segment.ours = true;
            writer.open = Some(Open { id, file, end, listed: false, rows: index.rows(id).len() });
            return true;
        }
        false
    }

    /// Ends the open segment with a sidecar, so that nobody has to scan it.
    pub(super) fn seal(&self, writer: &mut Writer) {
        let Some(open) = &writer.open else { return };
        let (id, end) = (open.id, open.end);
        self.write_sidecar(writer, id, end, end);
        self.leave(writer);
    }

    /// Seals the open segment, and those that ended processes left without a sidecar.
    pub(super) fn seal_all(&self, writer: &mut Writer) {
        self.seal(writer);
        let unsealed = self.index.lock().unsealed_by_others();
        for id in unsealed {
            // Whoever is writing it holds it, and seals it.
            let Ok(Some(held)) = self.disk.open_held(&Name::Segment(id).to_string()) else { continue };
            if !held.is_named().unwrap_or(false) || self.catch_up(id, &*held) == Contents::Unreadable {
                continue;
            }
            let known_to = self.index.lock().segment(id).map_or(0, |found| found.known_to);
            if let Some(bytes) = held.bytes().ok().filter(|_| known_to > 0) {
                self.write_sidecar(writer, id, known_to, bytes);
            }
        }
    }

    /// Of a segment that this process holds, so that nobody appends to it.
    fn write_sidecar(&self, writer: &mut Writer, id: u64, covered_bytes: u64, segment_bytes: u64) {
        let rows = self.index.lock().rows(id);
        let sidecar = segment::encode_sidecar(id, covered_bytes, &rows);
        // Without it the segment is scanned: slower, as safe.
        let sidecar_bytes = match self.replace(&Name::Sidecar(id).to_string(), &sidecar) {
            Ok(()) => sidecar.len() as u64,
            Err(_) => 0,
        };
        writer.unsynced.names();
        if let Some(segment) = self.index.lock().segment_mut(id) {
            segment.file_bytes = segment_bytes + sidecar_bytes;
            segment.has_sidecar |= sidecar_bytes > 0;
        }
    }

    fn leave(&self, writer: &mut Writer) {
        if let Some(open) = writer.open.take() {
            if let Some(segment) = self.index.lock().segment_mut(open.id) {
                segment.ours = false;
            }
        }
    }

    pub(super) fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        let mut writer = self.writer.lock();
        self.notice_fork(&mut writer);
        writer
    }

    /// A forked child must not append where its parent does.
    fn notice_fork(&self, writer: &mut Writer) {
        let process = std::process::id();
        if writer.process != process {
            writer.process = process;
            self.leave(writer);
        }
    }

    /// Writes a whole file beside, then gives it its name.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (id, file) = self.create_temporary(bytes.len() as u32)?;
        self.write_beside(id, &*file, name, bytes)
    }

    fn write_beside(&self, id: u64, file: &dyn DiskFile, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = Name::Temporary(id, bytes.len() as u32).to_string();
        let written = file.write_at(0, bytes).and_then(|()| self.disk.rename(&temporary, name));
        written.inspect_err(|_| drop(self.disk.remove(&temporary)))
    }

    /// An empty segment, held, and the same file for readers.
    fn create_segment(&self) -> io::Result<(u64, Arc<dyn DiskFile>, Arc<dyn DiskFile>)> {
        let (id, file) = create_held(&*self.disk, Name::Segment)?;
        let name = Name::Segment(id).to_string();
        let begun = file.write_at(0, &segment::header(FileType::Segment, id)).and_then(|()| self.disk.open(&name));
        let reader = begun.inspect_err(|_| drop(self.disk.remove(&name)))?;
        Ok((id, file, reader))
    }

    fn create_temporary(&self, bytes: u32) -> io::Result<(u64, Arc<dyn DiskFile>)> {
        create_held(&*self.disk, |id| Name::Temporary(id, bytes))
    }

    /// Makes everything that this process wrote survive the loss of power. What that supersedes goes then, and not before.
    pub(super) fn sync_now(&self, writer: &mut Writer) -> Result<(), Refusal> {
        let superseded = self.successors_unsynced(writer);
        if let Some(open) = &mut writer.open {
            open.listed = false;
        }
        writer.unsynced.sync(&*self.disk)?;
        self.remove_superseded(superseded);
        Ok(())
    }

    /// The superseded files, once what stands in their place is listed as not synced: another process may have put it.
    pub(super) fn successors_unsynced(&self, writer: &mut Writer) -> Vec<Name> {
        let mut index = self.index.lock();
        let mut superseded = std::mem::take(&mut index.superseded);
        superseded.retain(|name| {
            let Name::Large { key, .. } = name else { return false };
            // If that is damaged or evicted, the next look finds this one instead.
            let Some(place) = index.place(key).filter(|place| large_name(key, *place) != *name) else { return false };
            writer.unsynced.file(file_name(key, place).to_string());
            writer.unsynced.names();
            true
        });
        index.superseded.clone_from(&superseded);
        superseded
    }

    pub(super) fn remove_superseded(&self, superseded: Vec<Name>) {
        for name in superseded {
            if self.disk.remove(&name.to_string()).or_else(absent_is_fine).is_ok() {
                let mut index = self.index.lock();
                let before = index.superseded.len();
                index.superseded.retain(|other| *other != name);
                if index.superseded.len() < before {
                    index.other_bytes = index.other_bytes.saturating_sub(name.large_file_bytes());
                }
            }
        }
    }
}

/// Makes a file of a new number, and holds it.
pub(super) fn create_held(disk: &dyn Disk, name: impl Fn(u64) -> Name) -> io::Result<(u64, Arc<dyn DiskFile>)> {
    loop {
        let id = fresh_id();
        match disk.create(&name(id).to_string()) {
            Ok(file) if file.is_named()? => return Ok((id, file)),
            // Somebody who collects held it, or removed it, before we could hold it.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Another process that clears the directory takes what is just being made, too: it is made once more.
fn again_if_cleared<T>(mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const TRIES: usize = 4;
    for _ in 1..TRIES {
        match make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => return made,
        }
    }
    make()
}

/// The file that an entry is in.
pub(super) fn file_name(key: &Key, place: Place) -> Name {
    match place.at {
        At::Segment { id, .. } => Name::Segment(id),
        At::Large => large_name(key, place),
    }
}

pub(super) fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
