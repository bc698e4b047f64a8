//! A disk in memory that can stop at any byte, and that tells what a reader finds afterwards from what it would find after
//! the loss of power. Knows nothing of records.

use crate::persist::store::disk::{Disk, DiskFile};
use crate::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// A [`Disk`] with two states: *live*, what processes see, and *durable*, what was synced. Clones are the same disk.
///
/// Work is counted in steps: each byte written is one, and so is each file that is made, renamed, removed or synced, and
/// each sync of the names.
///
/// ```
/// use hapax::{CrashDisk, Disk, PowerLoss};
///
/// let disk = CrashDisk::new();
/// let file = disk.create("a")?;
/// file.write_at(0, b"written")?;
/// assert_eq!(disk.steps(), 8);
/// assert_eq!(disk.after_kill().bytes("a")?, 7);
/// assert!(disk.after_power_loss(PowerLoss::KeepsSynced).list()?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct CrashDisk(Arc<Mutex<State>>);

/// What the loss of power leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PowerLoss {
    /// Nothing.
    KeepsSynced,
    /// All names and lengths, with zeros for the bytes: what a file system leaves that logs names only.
    KeepsNames,
    /// Any part: of each file any of its sectors, of the names any changes. The number says which.
    KeepsSome(u64),
    /// Everything.
    KeepsAll,
}

#[derive(Default)]
struct State {
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    files: Vec<Contents>,
    held: BTreeSet<usize>,
    steps: u64,
    stop_at: Option<u64>,
}

#[derive(Clone, Default)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
}

struct OpenFile {
    state: Arc<Mutex<State>>,
    file: usize,
    holds: bool,
}

const SECTOR_BYTES: usize = 64;

impl CrashDisk {
    /// An empty one.
    pub fn new() -> CrashDisk {
        CrashDisk::default()
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.0.lock().steps
    }

    /// Takes so many steps from now on and then none: a write stops in the middle, and every later call fails, as if the
    /// process had been killed.
    pub fn stop_after(&self, steps: u64) {
        let mut state = self.0.lock();
        state.stop_at = Some(state.steps + steps);
    }

    /// Whether it has stopped.
    pub fn has_stopped(&self) -> bool {
        self.0.lock().has_stopped()
    }

    /// What the next process finds after this one was killed: all that was written.
    pub fn after_kill(&self) -> CrashDisk {
        self.after_power_loss(PowerLoss::KeepsAll)
    }

    /// What the next process finds after power was lost.
    pub fn after_power_loss(&self, loss: PowerLoss) -> CrashDisk {
        let state = self.0.lock();
        let mut random = match loss {
            PowerLoss::KeepsSome(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            _ => 1,
        };
        let mut chance = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random & 1 == 0
        };
        let mut names = match loss {
            PowerLoss::KeepsSynced | PowerLoss::KeepsSome(_) => state.durable.clone(),
            PowerLoss::KeepsNames | PowerLoss::KeepsAll => state.live.clone(),
        };
        if matches!(loss, PowerLoss::KeepsSome(_)) {
            let changed: BTreeSet<&String> = state.live.keys().chain(state.durable.keys()).collect();
            for name in changed {
                match state.live.get(name) {
                    _ if chance() => {}
                    Some(file) => drop(names.insert(name.clone(), *file)),
                    None => drop(names.remove(name)),
                }
            }
        }
        let named: BTreeSet<usize> = names.values().copied().collect();
        let kept = |(file, contents): (usize, &Contents)| {
            if named.contains(&file) { contents.after(loss, &mut chance) } else { Contents::default() }
        };
        let files = state.files.iter().enumerate().map(kept).collect();
        CrashDisk(Arc::new(Mutex::new(State { live: names.clone(), durable: names, files, ..State::default() })))
    }
}

impl Contents {
    fn after(&self, loss: PowerLoss, chance: &mut impl FnMut() -> bool) -> Contents {
        let mut bytes = self.durable.clone();
        match loss {
            PowerLoss::KeepsSynced => {}
            PowerLoss::KeepsNames => bytes.resize(self.live.len(), 0),
            PowerLoss::KeepsAll => bytes.clone_from(&self.live),
            PowerLoss::KeepsSome(_) => {
                bytes.resize(if chance() { self.live.len() } else { self.durable.len() }, 0);
                for (old, new) in bytes.chunks_mut(SECTOR_BYTES).zip(self.live.chunks(SECTOR_BYTES)) {
                    if chance() {
                        let length = old.len().min(new.len());
                        old[..length].copy_from_slice(&new[..length]);
                    }
                }
            }
        }
        Contents { live: bytes.clone(), durable: bytes }
    }
}

impl State {
    fn has_stopped(&self) -> bool {
        self.stop_at.is_some_and(|stop_at| self.steps >= stop_at)
    }

    fn running(&self) -> io::Result<()> {
        if self.has_stopped() { Err(io::Error::other("the process was killed")) } else { Ok(()) }
    }

    fn step(&mut self) -> io::Result<()> {
        self.running()?;
        self.steps += 1;
        Ok(())
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.running()?;
        self.live.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl CrashDisk {
    fn opened(&self, file: usize, holds: bool) -> Arc<dyn DiskFile> {
        Arc::new(OpenFile { state: self.0.clone(), file, holds })
    }
}

impl Disk for CrashDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.lock().find(name)?;
        Ok(self.opened(file, false))
    }

    fn open_held(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let mut state = self.0.lock();
        let file = state.find(name)?;
        let free = state.held.insert(file);
        drop(state);
        Ok(free.then(|| self.opened(file, true)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        if state.live.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.step()?;
        let file = state.files.len();
        state.files.push(Contents::default());
        state.live.insert(name.to_owned(), file);
        state.held.insert(file);
        drop(state);
        Ok(self.opened(file, true))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = state.find(from)?;
        state.step()?;
        state.live.remove(from);
        state.live.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.find(name)?;
        state.step()?;
        state.live.remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        state.running()?;
        Ok(state.live.keys().cloned().collect())
    }

    fn bytes(&self, name: &str) -> io::Result<u64> {
        let state = self.0.lock();
        Ok(state.files[state.find(name)?].live.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.durable = state.live.clone();
        Ok(())
    }
}

impl DiskFile for OpenFile {
    fn read_at(&self, offset: u64, bytes: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let state = self.state.lock();
        state.running()?;
        let contents = &state.files[self.file].live;
        let start = (offset as usize).min(contents.len());
        into.extend(&contents[start..(start + bytes).min(contents.len())]);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.running()?;
        let left = state.stop_at.map_or(u64::MAX, |stop_at| stop_at - state.steps);
        let written = (bytes.len() as u64).min(left) as usize;
        state.steps += written as u64;
        let contents = &mut state.files[self.file].live;
        let end = offset as usize + written;
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[offset as usize..end].copy_from_slice(&bytes[..written]);
        if written == bytes.len() { Ok(()) } else { state.running() }
    }

    fn bytes(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.running()?;
        Ok(state.files[self.file].live.len() as u64)
    }

    fn is_named(&self) -> io::Result<bool> {
        let state = self.state.lock();
        state.running()?;
        Ok(state.live.values().any(|file| *file == self.file))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step()?;
        let contents = &mut state.files[self.file];
        contents.durable.clone_from(&contents.live);
        Ok(())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.holds {
            self.state.lock().held.remove(&self.file);
        }
    }
}
