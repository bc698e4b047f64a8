//! A disk that tells of calls before they happen, and whose reads and opens fail while it is told so.

use hapax::{CrashDisk, Disk, DiskFile};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Is told of a call and the name that it is about. What it does itself is not told.
type Hook = Box<dyn FnMut(&str, &str) + Send>;

#[derive(Default)]
pub struct Watch {
    hook: Mutex<Option<Hook>>,
    pub reads_fail: AtomicBool,
    pub opens_fail: AtomicBool,
    pub bytes_read: AtomicU64,
    /// So many files that are made next are held by somebody else before who made them can hold them.
    pub creates_taken: AtomicU64,
    /// Told of each listing, by whichever thread.
    on_list: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Watch {
    pub fn on_call(&self, hook: impl FnMut(&str, &str) + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    pub fn on_list(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.on_list.lock().unwrap() = Some(Arc::new(hook));
    }
}

pub struct Spy {
    inner: CrashDisk,
    watch: Arc<Watch>,
}

struct SpyFile(Arc<dyn DiskFile>, Arc<Watch>);

impl Spy {
    pub fn on(inner: CrashDisk) -> (Arc<Spy>, Arc<Watch>) {
        let watch = Arc::new(Watch::default());
        (Arc::new(Spy { inner, watch: watch.clone() }), watch)
    }

    fn tell(&self, call: &str, name: &str) {
        let hook = self.watch.hook.lock().unwrap().take();
        if let Some(mut hook) = hook {
            hook(call, name);
            self.watch.hook.lock().unwrap().get_or_insert(hook);
        }
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(SpyFile(file, self.watch.clone()))
    }
}

impl Disk for Spy {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.tell("open", name);
        if self.watch.opens_fail.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(24)); // EMFILE
        }
        self.inner.open(name).map(|file| self.file(file))
    }

    fn open_held(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        self.tell("open_held", name);
        Ok(self.inner.open_held(name)?.map(|file| self.file(file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.tell("create", name);
        let file = self.inner.create(name)?;
        let taken = |left: u64| left.checked_sub(1);
        if self.watch.creates_taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.tell("rename", to);
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.tell("remove", name);
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let hook = self.watch.on_list.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook();
        }
        self.inner.list()
    }

    fn bytes(&self, name: &str) -> io::Result<u64> {
        self.tell("bytes", name);
        self.inner.bytes(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

impl DiskFile for SpyFile {
    fn read_at(&self, offset: u64, bytes: usize, into: &mut Vec<u8>) -> io::Result<()> {
        if self.1.reads_fail.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5)); // EIO
        }
        let before = into.len();
        let read = self.0.read_at(offset, bytes, into);
        self.1.bytes_read.fetch_add((into.len() - before) as u64, Ordering::Relaxed);
        read
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn is_named(&self) -> io::Result<bool> {
        self.0.is_named()
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
