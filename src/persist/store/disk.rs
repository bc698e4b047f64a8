//! The few things that a directory store asks of a file system: one directory, its files, no paths. Knows nothing of
//! records. The real one is in `directory::real`; tests put others in its place, which fail or lose power.

use std::io;
use std::sync::Arc;

/// One directory, held open. Names are plain file names.
///
/// The locks are advisory and never waited for; they end with the process that holds them.
pub trait Disk: Send + Sync {
    /// Opens a regular file for reading.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for writing too, and holds it until it is dropped; `None` if somebody else holds it.
    fn open_held(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>>;

    /// Makes a new file and holds it until it is dropped. Fails if the name is taken.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, at once and in place of what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Files that are open stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// How long a file is.
    fn bytes(&self, name: &str) -> io::Result<u64>;

    /// Makes the names, as they are now, survive the loss of power.
    fn sync(&self) -> io::Result<()>;
}

/// An open file of a [`Disk`].
pub trait DiskFile: Send + Sync {
    /// Adds the bytes from `offset` on to `into`, `bytes` of them or as many as there are.
    fn read_at(&self, offset: u64, bytes: usize, into: &mut Vec<u8>) -> io::Result<()>;

    /// Writes all bytes at `offset`, or fails with any part of them written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// How long it is.
    fn bytes(&self) -> io::Result<u64>;

    /// Whether it still has a name.
    fn is_named(&self) -> io::Result<bool>;

    /// Makes its bytes, as they are now, survive the loss of power.
    fn sync(&self) -> io::Result<()>;
}

impl<D: Disk + ?Sized> Disk for Arc<D> {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        (**self).open(name)
    }

    fn open_held(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        (**self).open_held(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        (**self).create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        (**self).list()
    }

    fn bytes(&self, name: &str) -> io::Result<u64> {
        (**self).bytes(name)
    }

    fn sync(&self) -> io::Result<()> {
        (**self).sync()
    }
}

/// All bytes of a file, unless there are more than `at_most`.
pub(crate) fn read_all(file: &dyn DiskFile, at_most: u64) -> io::Result<Vec<u8>> {
    let bytes = file.bytes()?;
    if bytes > at_most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut all = Vec::with_capacity(bytes as usize);
    file.read_at(0, bytes as usize, &mut all)?;
    Ok(all)
}
