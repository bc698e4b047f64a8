//! A disk whose calls fail as they are told, in front of any other. Knows nothing of records.

use crate::persist::store::disk::{Disk, DiskFile};
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Another [`Disk`], some of whose calls fail as its [`DiskFaults`] say.
///
/// ```
/// use hapax::{CrashDisk, Disk, DiskFault, FaultDisk};
///
/// let (disk, faults) = FaultDisk::new(CrashDisk::new());
/// faults.fail_call(2, DiskFault::Full);
/// let file = disk.create("a")?;
/// assert_eq!(file.write_at(0, b"bytes").unwrap_err().kind(), std::io::ErrorKind::StorageFull);
/// file.write_at(0, b"bytes")?;
/// assert_eq!(faults.calls(), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct FaultDisk<D: Disk> {
    inner: D,
    faults: DiskFaults,
}

/// Tells a [`FaultDisk`] what to fail. Clones speak to the same disk.
#[derive(Clone, Default)]
pub struct DiskFaults(Arc<Mutex<Plan>>);

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFault {
    /// Nothing happens, and the device reports an error (`EIO`).
    Broken,
    /// Nothing happens, since there is no space (`ENOSPC`).
    Full,
    /// Nothing happens, since the file system became read-only (`EROFS`). Only for calls that change something.
    ReadOnly,
    /// A write stops after half its bytes, for want of space; other calls fail as `Full`.
    ShortWrite,
    /// A write reports success and has written zeros for the second half of its bytes; other calls succeed.
    TornWrite,
    /// A write or a sync reports success and has done nothing; other calls succeed.
    LostWrite,
    /// The process kills itself (`SIGKILL`): a write in the middle of its bytes, other calls before they happen.
    Kill,
}

#[derive(Default)]
struct Plan {
    calls: u64,
    /// By the call's number, counted from 1.
    planned: BTreeMap<u64, DiskFault>,
    /// Every call from this one on.
    from: Option<(u64, DiskFault)>,
}

struct FaultFile {
    inner: Arc<dyn DiskFile>,
    faults: DiskFaults,
}

impl<D: Disk> FaultDisk<D> {
    /// Puts `inner` behind faults, of which none is planned yet.
    pub fn new(inner: D) -> (FaultDisk<D>, DiskFaults) {
        let faults = DiskFaults::default();
        (FaultDisk { inner, faults: faults.clone() }, faults)
    }

    fn file(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultFile { inner, faults: self.faults.clone() })
    }
}

impl DiskFaults {
    /// Fails the `nth` call from now on, once; the next one is 1.
    pub fn fail_call(&self, nth: u64, fault: DiskFault) {
        let mut plan = self.0.lock();
        let call = plan.calls + nth;
        plan.planned.insert(call, fault);
    }

    /// Fails every call from the `nth` from now on.
    pub fn fail_from(&self, nth: u64, fault: DiskFault) {
        let mut plan = self.0.lock();
        plan.from = Some((plan.calls + nth, fault));
    }

    /// Forgets what is planned.
    pub fn disarm(&self) {
        let mut plan = self.0.lock();
        plan.planned.clear();
        plan.from = None;
    }

    /// Calls made so far, failed ones too.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    fn next(&self, changes: bool) -> Option<DiskFault> {
        let mut plan = self.0.lock();
        plan.calls += 1;
        let call = plan.calls;
        let lasting = plan.from.filter(|(from, _)| call >= *from).map(|(_, fault)| fault);
        plan.planned
            .remove(&call)
            .or(lasting)
            .filter(|fault| changes || matches!(fault, DiskFault::Broken | DiskFault::Kill))
    }

    /// A disk that fails as these say.
    pub fn in_front_of<D: Disk>(&self, inner: D) -> FaultDisk<D> {
        FaultDisk { inner, faults: self.clone() }
    }

    /// A call that is no write.
    fn pass<T>(&self, changes: bool, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.next(changes) {
            None | Some(DiskFault::TornWrite | DiskFault::LostWrite) => call(),
            Some(DiskFault::Kill) => die(),
            Some(fault) => Err(error(fault)),
        }
    }
}

fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort();
}

fn error(fault: DiskFault) -> io::Error {
    match fault {
        DiskFault::Full | DiskFault::ShortWrite => io::ErrorKind::StorageFull.into(),
        DiskFault::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
        _ => io::Error::other("input/output error"),
    }
}

impl<D: Disk> Disk for FaultDisk<D> {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.pass(false, || self.inner.open(name)).map(|file| self.file(file))
    }

    fn open_held(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        Ok(self.faults.pass(true, || self.inner.open_held(name))?.map(|file| self.file(file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.pass(true, || self.inner.create(name)).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.pass(true, || self.inner.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.pass(true, || self.inner.remove(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.faults.pass(false, || self.inner.list())
    }

    fn bytes(&self, name: &str) -> io::Result<u64> {
        self.faults.pass(false, || self.inner.bytes(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.pass(true, || self.inner.sync())
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, offset: u64, bytes: usize, into: &mut Vec<u8>) -> io::Result<()> {
        self.faults.pass(false, || self.inner.read_at(offset, bytes, into))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let half = bytes.len() / 2;
        match self.faults.next(true) {
            None => self.inner.write_at(offset, bytes),
            Some(DiskFault::LostWrite) => Ok(()),
            Some(DiskFault::TornWrite) => {
                let mut torn = bytes.to_vec();
                torn[half..].fill(0);
                self.inner.write_at(offset, &torn)
            }
            Some(DiskFault::Kill) => {
                let _ = self.inner.write_at(offset, &bytes[..half]);
                die()
            }
            Some(DiskFault::ShortWrite) => {
                self.inner.write_at(offset, &bytes[..half])?;
                Err(error(DiskFault::ShortWrite))
            }
            Some(fault) => Err(error(fault)),
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        self.faults.pass(false, || self.inner.bytes())
    }

    fn is_named(&self) -> io::Result<bool> {
        self.faults.pass(false, || self.inner.is_named())
    }

    fn sync(&self) -> io::Result<()> {
        match self.faults.next(true) {
            Some(DiskFault::LostWrite) => Ok(()),
            None | Some(DiskFault::TornWrite) => self.inner.sync(),
            Some(DiskFault::Kill) => die(),
            Some(fault) => Err(error(fault)),
        }
    }
}
