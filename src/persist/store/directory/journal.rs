//! A journal in a directory: each process appends to a log of its own, and a fold turns the logs that nobody appends to
//! into one base. Knows records and files, nothing of what the entries mean.
//!
//! A base lists the logs that it stands for. It gets its name, is made durable, and only then do they go; whoever finds
//! both leaves the logs out. So at every instant, also of a crash, each entry counts once.

use crate::persist::codec;
use crate::persist::envelope::{self, Damage, Key, Kind, Meta};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::directory::names::Name;
use crate::persist::store::directory::options::DirectoryOptions;
use crate::persist::store::directory::real::RealDisk;
use crate::persist::store::directory::root::{self, Distrust, Surroundings};
use crate::persist::store::directory::segment::{self, FileType, HEADER_BYTES};
use crate::persist::store::directory::unsynced::Unsynced;
use crate::persist::store::directory::write::{absent_is_fine, create_held};
use crate::persist::store::disk::{Disk, DiskFile, read_all};
use crate::persist::store::{Compacted, Journal, JournalEntry, Refusal, Replay, check_entry};
use crate::sync::Mutex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::sync::Arc;

const FILE_BYTES_AT_MOST: u64 = 1 << 30;
const HEAD: Key = Key::new(Kind::internal(0xfff3), Fingerprint::from_bytes([0; 32]));
/// A replay that meets this many folds of others, and could not hold them off, gives up.
const TRIES: usize = 16;

/// A [`Journal`] in a directory.
///
/// One that cannot be trusted, or not be opened, is *off*, as a [`DirectoryStore`](crate::DirectoryStore) is: it refuses
/// everything, with the reason.
///
/// ```
/// use hapax::{DirectoryJournal, DirectoryOptions, Fingerprint, Journal};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let options = DirectoryOptions::new("my-compiler").dir(folder);
/// let name = Fingerprint::of("example").finish();
/// DirectoryJournal::open(&options).append(&name, b"compiled once")?;
/// DirectoryJournal::open(&options).append(&name, b"compiled again")?; // another process
/// assert_eq!(DirectoryJournal::open(&options).replay()?.entries.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DirectoryJournal(Result<Core, (Distrust, Arc<str>)>);

struct Core {
    disk: Arc<dyn Disk>,
    read_only: bool,
    log: Mutex<Log>,
}

/// The log of this process.
struct Log {
    open: Option<Open>,
    unsynced: Unsynced,
    process: u32,
}

struct Open {
    id: u64,
    /// Holds the log, which tells others that it still grows.
    file: Arc<dyn DiskFile>,
    end: u64,
}

impl Open {
    fn is_full(&self, record: &[u8]) -> bool {
        self.end + record.len() as u64 > FILE_BYTES_AT_MOST
    }
}

/// The first record of a base.
#[derive(Default, Serialize, Deserialize)]
struct Head {
    /// Logs whose entries are in here, in case they are still there, too.
    folded_logs: Vec<u64>,
    /// Of each record that follows, so that one that is damaged does not hide the rest.
    record_bytes: Vec<u32>,
}

/// What a directory holds at one instant.
struct Seen {
    bases: Vec<u64>,
    logs: Vec<u64>,
    temporary: Vec<String>,
}

/// Another process has folded meanwhile: what was listed is not there any more.
struct Moved;

impl DirectoryJournal {
    /// Opens, and makes what is missing of the directory. Reads nothing yet.
    pub fn open(options: &DirectoryOptions) -> DirectoryJournal {
        Self::open_strict(options).unwrap_or_else(|why| {
            let message = why.to_string().into();
            DirectoryJournal(Err((why, message)))
        })
    }

    /// As [`open`](DirectoryJournal::open), but one that would be off is an error.
    pub fn open_strict(options: &DirectoryOptions) -> Result<DirectoryJournal, Distrust> {
        let surroundings = options.surroundings.clone().unwrap_or_else(Surroundings::real);
        let directory = root::open(options, &surroundings, "hints")?;
        Ok(Self::over(Arc::new(RealDisk::new(directory, surroundings.user)), options.read_only))
    }

    /// Over another disk than the file system, for tests.
    #[cfg(feature = "testing")]
    pub fn over_disk(disk: Arc<dyn Disk>) -> DirectoryJournal {
        Self::over(disk, false)
    }

    fn over(disk: Arc<dyn Disk>, read_only: bool) -> DirectoryJournal {
        let log = Log { open: None, unsynced: Unsynced::default(), process: std::process::id() };
        DirectoryJournal(Ok(Core { disk, read_only, log: Mutex::new(log) }))
    }

    /// Why it is off; `None` if it is not.
    pub fn off_reason(&self) -> Option<&Distrust> {
        self.0.as_ref().err().map(|(why, _)| why)
    }

    fn core(&self) -> Result<&Core, Refusal> {
        self.0.as_ref().map_err(|(_, message)| Refusal::Off(message.clone()))
    }

    fn writing(&self) -> Result<&Core, Refusal> {
        self.core().and_then(|core| if core.read_only { Err(Refusal::ReadOnly) } else { Ok(core) })
    }
}

impl Journal for DirectoryJournal {
    fn append(&self, fingerprint: &Fingerprint, entry: &[u8]) -> Result<(), Refusal> {
        let core = self.writing()?;
        check_entry(entry)?;
        core.append(&encode(fingerprint, entry)).map_err(|error| Refusal::from_io("append an entry", &error))
    }

    fn replay(&self) -> Result<Replay, Refusal> {
        self.core()?.replay().map_err(|error| Refusal::from_io("read the journal", &error))
    }

    fn compact(&self, fold: &mut dyn FnMut(Vec<JournalEntry>) -> Vec<JournalEntry>) -> Result<Compacted, Refusal> {
        self.writing()?.compact(fold).map_err(|error| Refusal::from_io("fold the journal", &error))
    }

    fn sync(&self) -> Result<(), Refusal> {
        let core = self.core()?;
        core.log.lock().unsynced.sync(&*core.disk)
    }

    fn clear(&self) -> Result<(), Refusal> {
        self.writing()?.clear().map_err(|error| Refusal::from_io("remove the journal", &error))
    }

    fn bytes(&self) -> u64 {
        let Ok(core) = &self.0 else { return 0 };
        let names = core.disk.list().unwrap_or_default();
        let ours = names.iter().filter(|name| Name::parse(name).is_some_and(|name| name.is_of_a_journal()));
        ours.map(|name| core.disk.bytes(name).unwrap_or(0)).sum()
    }
}

impl Core {
    fn append(&self, record: &[u8]) -> io::Result<()> {
        let mut log = self.log.lock();
        if log.process != std::process::id() {
            // A forked child must not append where its parent does.
            log.process = std::process::id();
            log.open = None;
        }
        if log.open.as_ref().is_some_and(|open| open.is_full(record) || !open.file.is_named().unwrap_or(false)) {
            // Nobody would read beyond that; or somebody cleared the journal, and what is written there now would be lost.
            log.open = None;
        }
        if log.open.is_none() {
            log.open = Some(self.begin()?);
            log.unsynced.names();
        }
        let open = log.open.as_mut().expect("it was just opened");
        if let Err(error) = open.file.write_at(open.end, record) {
            // What half a record leaves behind is never written over: its inside might look like a record.
            log.open = None;
            return Err(error);
        }
        open.end += record.len() as u64;
        let name = Name::Log(open.id).to_string();
        log.unsynced.file(name);
        Ok(())
    }

    fn begin(&self) -> io::Result<Open> {
        let (id, file) = create_held(&*self.disk, Name::Log)?;
        let begun = file.write_at(0, &segment::header(FileType::Log, id));
        begun.inspect_err(|_| drop(self.disk.remove(&Name::Log(id).to_string())))?;
        Ok(Open { id, file, end: HEADER_BYTES as u64 })
    }

    fn see(&self) -> io::Result<Seen> {
        let mut seen = Seen { bases: Vec::new(), logs: Vec::new(), temporary: Vec::new() };
        for name in self.disk.list()?.iter().filter_map(|name| Name::parse(name)) {
            match name {
                Name::Base(number) => seen.bases.push(number),
                Name::Log(id) => seen.logs.push(id),
                Name::Temporary(..) => seen.temporary.push(name.to_string()),
                _ => {}
            }
        }
        seen.bases.sort_unstable_by(|one, other| other.cmp(one));
        Ok(seen)
    }

    fn replay(&self) -> io::Result<Replay> {
        for tried in 0..TRIES {
            // While this one holds it nobody folds. Not at once: it puts off what others fold.
            let _held = if tried > 0 { self.disk.open_held(&Name::Lock.to_string()).ok().flatten() } else { None };
            let seen = self.see()?;
            let mut replay = Replay { files: seen.bases.len() + seen.logs.len(), ..Replay::default() };
            let read = self.read(&seen, &mut replay)?;
            // A listing is no instant either: a fold may have put its base where the listing had been already.
            if read.is_ok() && self.see()?.bases == seen.bases {
                return Ok(replay);
            }
        }
        Err(io::Error::other("other processes fold it without pause"))
    }

    fn read(&self, seen: &Seen, replay: &mut Replay) -> io::Result<Result<(), Moved>> {
        let Ok(head) = self.read_newest_base(seen, replay)? else { return Ok(Err(Moved)) };
        for id in seen.logs.iter().filter(|id| !head.folded_logs.contains(id)) {
            match self.disk.open(&Name::Log(*id).to_string()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(Moved)),
                // One log that cannot be read takes nothing from the others.
                file => match file.and_then(|file| read_all(&*file, FILE_BYTES_AT_MOST)) {
                    Ok(bytes) => read_log(&bytes, *id, replay),
                    Err(_) => replay.damaged += 1,
                },
            }
        }
        Ok(Ok(()))
    }

    /// The entries of the newest base that can be read, and what it stands for. One whose head is damaged stands for nothing:
    /// what it folded and is still there counts again.
    fn read_newest_base(&self, seen: &Seen, replay: &mut Replay) -> io::Result<Result<Head, Moved>> {
        for number in &seen.bases {
            let file = match self.disk.open(&Name::Base(*number).to_string()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(Moved)),
                opened => opened?,
            };
            let bytes = read_all(&*file, FILE_BYTES_AT_MOST)?;
            match read_base(&bytes, *number, replay) {
                Ok(head) => return Ok(Ok(head)),
                Err(_) => replay.damaged += 1,
            }
        }
        Ok(Ok(Head::default()))
    }

    fn compact(&self, fold: &mut dyn FnMut(Vec<JournalEntry>) -> Vec<JournalEntry>) -> io::Result<Compacted> {
        let lock = Name::Lock.to_string();
        let held = match self.disk.open_held(&lock) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(&lock).map(Some),
            held => held,
        };
        let _held = match held {
            Ok(Some(held)) => held,
            Ok(None) => return Ok(Compacted::Busy),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Compacted::Busy),
            Err(error) => return Err(error),
        };
        // What this process has appended so far is folded, too; from now on it appends to another log.
        self.log.lock().open = None;

        let seen = self.see()?;
        self.remove_abandoned(&seen);
        let mut replay = Replay::default();
        // Open, so that it can be asked whether they still have names.
        let bases = seen.bases.iter().map(|number| self.disk.open(&Name::Base(*number).to_string()));
        let bases: Vec<Arc<dyn DiskFile>> = bases.filter_map(Result::ok).collect();
        let Ok(head) = self.read_newest_base(&seen, &mut replay)? else { return Ok(Compacted::Busy) };
        let mut folded_logs = Vec::new();
        // Until they are gone: who made one and did not come to hold it yet makes another, and nothing is written where it is lost.
        let mut held_logs = Vec::new();
        for id in &seen.logs {
            let name = Name::Log(*id).to_string();
            // A log that is held still grows. One that cannot be read now stays, for a fold that can.
            let Ok(Some(file)) = self.disk.open_held(&name) else { continue };
            // One that was folded before only its removal is left of.
            if !head.folded_logs.contains(id) {
                let Ok(bytes) = read_all(&*file, FILE_BYTES_AT_MOST) else { continue };
                if bytes.is_empty() {
                    // Who made it may not have come to hold it. If this one ends before it is gone that one goes on with it, so
                    // the base must not stand for it.
                    let _ = self.disk.remove(&name);
                    continue;
                }
                read_log(&bytes, *id, &mut replay);
            }
            folded_logs.push(*id);
            held_logs.push(file);
        }
        let entries_before = replay.entries.len();
        let folded = fold(replay.entries);
        let next =
            |newest: &u64| newest.checked_add(1).ok_or_else(|| io::Error::other("the base's number is the last"));
        let number = seen.bases.first().map_or(Ok(0), next)?;
        let are_there = || {
            for file in bases.iter().chain(&held_logs) {
                if !file.is_named()? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        if !self.write_base(number, folded_logs.clone(), &folded, &are_there)? {
            return Ok(Compacted::Busy);
        }
        for name in folded_logs.into_iter().map(Name::Log).chain(seen.bases.into_iter().map(Name::Base)) {
            // One that stays is left out by every reader, and goes with the next fold.
            let _ = self.disk.remove(&name.to_string());
        }
        Ok(Compacted::Done { entries_before, entries_after: folded.len() })
    }

    /// What folds that were killed have left. Whoever writes one holds it.
    fn remove_abandoned(&self, seen: &Seen) {
        for name in &seen.temporary {
            // Held until it is gone, so that nobody begins to write there in between.
            if let Ok(Some(_held)) = self.disk.open_held(name) {
                let _ = self.disk.remove(name);
            }
        }
    }

    /// False if what was folded is not there any more: somebody has cleared the journal, and it must not come back.
    fn write_base(
        &self,
        number: u64,
        folded_logs: Vec<u64>,
        entries: &[JournalEntry],
        are_there: &dyn Fn() -> io::Result<bool>,
    ) -> io::Result<bool> {
        let records: Vec<Vec<u8>> = entries.iter().map(|entry| encode(&entry.fingerprint, &entry.bytes)).collect();
        let record_bytes = records.iter().map(|record| record.len() as u32).collect();
        let head = codec::to_bytes(&Head { folded_logs, record_bytes });
        if head.len() > codec::BYTES_AT_MOST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = segment::whole_file(FileType::Base, number, &HEAD, &head);
        bytes.resize(segment::aligned(bytes.len()), 0);
        records.iter().for_each(|record| bytes.extend(record));
        if bytes.len() as u64 > FILE_BYTES_AT_MOST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let (id, file) = create_held(&*self.disk, |id| Name::Temporary(id, bytes.len() as u32))?;
        let (temporary, base) = (Name::Temporary(id, bytes.len() as u32).to_string(), Name::Base(number).to_string());
        // The logs that the base before this one stands for are sure to be gone before this one, which does not list them, is there.
        let written = file.write_at(0, &bytes).and_then(|()| file.sync()).and_then(|()| self.disk.sync());
        let named = written.and_then(|()| {
            if are_there()? && file.is_named()? {
                self.disk.rename(&temporary, &base).map(|()| true)
            } else {
                Ok(false)
            }
        });
        if !matches!(named, Ok(true)) {
            let _ = self.disk.remove(&temporary);
            return named;
        }
        if !are_there()? {
            let _ = self.disk.remove(&base);
            return Ok(false);
        }
        // Before the logs go, the base must be sure to stay.
        self.disk.sync().map(|()| true)
    }

    fn clear(&self) -> io::Result<()> {
        let mut log = self.log.lock();
        log.open = None;
        log.unsynced.clear();
        // In a pack a store's files lie beside it.
        let ours = |name: &&String| Name::parse(name).is_some_and(|name| name.is_of_a_journal());
        for name in self.disk.list()?.iter().filter(ours) {
            self.disk.remove(name).or_else(absent_is_fine)?;
        }
        // Whoever folds sees that what it folds is gone, unless it named its base after the listing and before that.
        let seen = self.see()?;
        for number in &seen.bases {
            self.disk.remove(&Name::Base(*number).to_string()).or_else(absent_is_fine)?;
        }
        self.remove_abandoned(&seen);
        Ok(())
    }
}

fn encode(fingerprint: &Fingerprint, entry: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    let key = Key::new(Kind::HINT, *fingerprint);
    envelope::encode(&key, 0, &Meta::default(), entry, &mut record).expect("entries are short");
    record.resize(segment::aligned(record.len()), 0);
    record
}

fn read_log(bytes: &[u8], id: u64, replay: &mut Replay) {
    let body = match segment::body(bytes, FileType::Log, id) {
        Ok(body) => body,
        Err(damage) => {
            // A process that died early may not have come to write the header.
            replay.damaged += u64::from(damage != Damage::Truncated);
            return;
        }
    };
    let scan = segment::scan(body, HEADER_BYTES);
    for (row, payload) in scan.records {
        replay.entries.push(JournalEntry { fingerprint: row.key.fingerprint, bytes: payload.to_vec() });
    }
    // Half an entry at the end, or one without all of its padding, was never acknowledged.
    replay.damaged += u64::from(!matches!(scan.stopped_by, None | Some(Damage::Truncated)));
}

fn read_base(bytes: &[u8], number: u64, replay: &mut Replay) -> Result<Head, Damage> {
    let first = envelope::decode_expecting(segment::body(bytes, FileType::Base, number)?, &HEAD)?;
    let head: Head = codec::from_bytes(first.payload).ok_or(Damage::Header)?;
    let mut at = segment::aligned(HEADER_BYTES + first.record_bytes());
    for record_bytes in &head.record_bytes {
        let end = at + *record_bytes as usize;
        match bytes.get(at..end).ok_or(Damage::Truncated).and_then(envelope::decode) {
            Ok(entry) => {
                let fingerprint = entry.key.fingerprint;
                replay.entries.push(JournalEntry { fingerprint, bytes: entry.payload.to_vec() });
            }
            Err(_) => replay.damaged += 1,
        }
        at = end;
    }
    Ok(head)
}

impl fmt::Debug for DirectoryJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryJournal").field("off", &self.off_reason()).finish_non_exhaustive()
    }
}
