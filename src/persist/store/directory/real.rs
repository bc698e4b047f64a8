//! The file system itself, one directory of it. Every name is resolved from the open directory and never through a
//! symbolic link, so that nobody who can write elsewhere can redirect it. Knows nothing of records.

use crate::persist::store::disk::{Disk, DiskFile};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

/// One call lists a directory as it is at one instant, several do not: of a file made and one removed between them, neither may
/// be listed. This is enough for 1,300 segments, or 500 large entries.
const LISTED_AT_ONCE_BYTES: usize = 64 << 10;

/// A directory that was checked when it was opened.
pub(crate) struct RealDisk {
    directory: OwnedFd,
    user: u32,
}

impl RealDisk {
    /// Files of others than `user` and root are refused one by one.
    pub(crate) fn new(directory: OwnedFd, user: u32) -> RealDisk {
        RealDisk { directory, user }
    }

    fn open_as(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        // NONBLOCK: a FIFO that somebody left under the name must not hang the reader.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = rustix::fs::fstat(&file)?;
        let owned = stat.st_uid == self.user || stat.st_uid == 0;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !owned {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file of this user or root"));
        }
        Ok(file)
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(self.open_as(name, OFlags::RDONLY)?)))
    }

    fn open_held(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let file = self.open_as(name, OFlags::RDWR)?;
        Ok(if hold(&file)? { Some(Arc::new(RealFile(file))) } else { None })
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_as(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        // Whoever listed the directory just now may have been faster to hold it.
        if hold(&file)? { Ok(Arc::new(RealFile(file))) } else { Err(io::ErrorKind::AlreadyExists.into()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, from, &self.directory, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        // Opened anew, as two threads may list at once.
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, c".", flags, Mode::empty())?;
        let mut entries = Vec::with_capacity(LISTED_AT_ONCE_BYTES);
        let mut entries = RawDir::new(directory, entries.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn bytes(&self, name: &str) -> io::Result<u64> {
        Ok(rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_size as u64)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }
}

struct RealFile(OwnedFd);

impl DiskFile for RealFile {
    fn read_at(&self, mut offset: u64, bytes: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let end = into.len() + bytes;
        into.reserve_exact(bytes);
        while into.len() < end {
            // The spare capacity may be more than was asked for, so what came too much is cut off below.
            match rustix::io::pread(&self.0, rustix::buffer::spare_capacity(into), offset) {
                Ok(0) => break,
                Ok(read) => offset += read as u64,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        into.truncate(end);
        Ok(())
    }

    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.0, bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    bytes = &bytes[written..];
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.0)?.st_size as u64)
    }

    fn is_named(&self) -> io::Result<bool> {
        Ok(rustix::fs::fstat(&self.0)?.st_nlink > 0)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }
}

fn hold(file: &OwnedFd) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
