//! What a cache was asked for, written as it happens. Knows keys as numbers, sizes and costs; no entries, no order, no cache.

use crate::sync::Mutex;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

/// Writes the requests of a cache as text, for choosing a policy and a budget:
/// [`CacheOptions::trace`](crate::CacheOptions::trace), and the example `policy_study`.
///
/// A line is `time,key,size,cost_ns`: microseconds since the writer was made, a number for the key, charged bytes, and
/// what the entry costs to make. There is one for each hit, and one for each entry put in, by commit or insert; a miss that
/// is never filled, or whose fill was refused, leaves no line. Keys are numbered by a hash that does not change from run to run.
/// Lines of several threads may be a few microseconds out of order.
///
/// Lines are collected and written in blocks of 64 KiB, never while the cache is locked, though other requests that are traced wait
/// for the block. Clones write to the same place; the last to go writes the rest.
///
/// ```
/// use hapax::{CacheOptions, Heap, HeapOptions, HostDevice, Lookup, TraceWriter, VramCache};
///
/// let path = std::env::temp_dir().join(format!("trace-{}.csv", std::process::id()));
/// let trace = TraceWriter::new(std::fs::File::create(&path)?);
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let stream = heap.new_stream()?;
/// let options = CacheOptions::new(1 << 16).trace(trace.clone());
/// let cache: VramCache<&str, [u8]> = VramCache::with_options(&heap, options)?;
/// if let Lookup::Miss(vacancy) = cache.lookup(&"kernel", &stream)? {
///     drop(vacancy.cost_ns(9_000).fill_from(b"ret").map_err(hapax::Error::from)?);
/// }
/// drop(cache.get("kernel", &stream)?);
/// trace.flush()?;
/// let lines = std::fs::read_to_string(&path)?;
/// assert_eq!(lines.lines().filter(|line| line.ends_with(",256,9000")).count(), 2); // the fill, and the hit
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TraceWriter(Arc<Shared>);

struct Shared {
    begun: Instant,
    sink: Mutex<Sink>,
}

struct Sink {
    to: Box<dyn Write + Send>,
    lines: Vec<u8>,
    /// The first failure. Nothing is written after it.
    failed: Option<io::Error>,
}

const BLOCK: usize = 64 << 10;

impl TraceWriter {
    /// Writes to a file, or whatever else takes bytes.
    pub fn new(to: impl Write + Send + 'static) -> Self {
        let sink = Sink { to: Box::new(to), lines: Vec::with_capacity(BLOCK + 128), failed: None };
        TraceWriter(Arc::new(Shared { begun: Instant::now(), sink: Mutex::new(sink) }))
    }

    /// Writes what was collected so far.
    ///
    /// # Errors
    /// The first error of the underlying writer, once. It does not disturb the cache; the trace ends where it happened.
    pub fn flush(&self) -> io::Result<()> {
        self.0.sink.lock().flush()
    }

    /// The number of a key. Never 0, so that one that may be missing takes no more room.
    pub(crate) fn number<Q: ?Sized + Hash>(key: &Q) -> NonZeroU64 {
        let mut hasher = DefaultHasher::new(); // without a seed of its own
        key.hash(&mut hasher);
        NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MAX)
    }

    pub(crate) fn record(&self, key: NonZeroU64, charge_bytes: u64, cost_ns: u64) {
        let time_us = self.0.begun.elapsed().as_micros();
        let sink = &mut *self.0.sink.lock();
        if charge_bytes > 0 && sink.failed.is_none() {
            // Into memory: this cannot fail.
            let _ = writeln!(sink.lines, "{time_us},{key},{charge_bytes},{cost_ns}");
            if sink.lines.len() >= BLOCK {
                sink.write_block();
            }
        }
    }
}

impl Sink {
    fn write_block(&mut self) {
        if self.failed.is_none() {
            self.failed = self.to.write_all(&self.lines).err();
        }
        self.lines.clear();
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_block();
        let flushed = self.to.flush();
        match self.failed.take() {
            Some(error) => {
                self.failed = Some(error.kind().into()); // it stays failed
                Err(error)
            }
            None => flushed,
        }
    }
}

/// Errors of the last block have nobody to go to: flush first, if they matter.
impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

impl fmt::Debug for TraceWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceWriter").finish_non_exhaustive()
    }
}
