//! What a `Jit` counts. Plain numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A `Jit`'s figures since it was built, and its bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct JitStats {
    /// Requests whose code was in memory.
    pub memory_hits: u64,
    /// Functions whose code came from the store instead of from the compiler, whether they were asked for or compiled ahead; or
    /// from another thread that had just compiled them.
    pub store_hits: u64,
    /// Functions compiled.
    pub compiles: u64,
    /// Of those, the ones that could not be kept.
    pub unkept: u64,
    /// Artifacts that the store gave and that do not fit this process; they were compiled again.
    pub unusable: u64,
    /// Artifacts stored.
    pub puts: u64,
    /// Artifacts that the store refused.
    pub puts_refused: u64,
    /// Time spent lowering and compiling.
    pub compile_ns: u64,
    /// Time that the store's hits took to compile once, by the clock of whoever compiled them.
    pub compile_ns_saved: u64,
    /// Bytes of code in memory, retired code included.
    pub code_bytes: u64,
    /// Bytes of the pages that code and its data lie in. Stubs are not counted.
    pub page_bytes: u64,
    /// Definitions that were replaced or removed, and not freed yet.
    pub retired: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    memory_hits: AtomicU64,
    store_hits: AtomicU64,
    compiles: AtomicU64,
    unkept: AtomicU64,
    unusable: AtomicU64,
    puts: AtomicU64,
    puts_refused: AtomicU64,
    compile_ns: AtomicU64,
    compile_ns_saved: AtomicU64,
}

impl Counters {
    pub(crate) fn memory_hit(&self) {
        self.memory_hits.fetch_add(1, Relaxed);
    }

    pub(crate) fn store_hits(&self, hits: u64, compile_ns: u64) {
        self.store_hits.fetch_add(hits, Relaxed);
        self.compile_ns_saved.fetch_add(compile_ns, Relaxed);
    }

    pub(crate) fn compiled(&self, compile_ns: u64, kept: bool) {
        self.compiles.fetch_add(1, Relaxed);
        self.unkept.fetch_add(u64::from(!kept), Relaxed);
        self.compile_ns.fetch_add(compile_ns, Relaxed);
    }

    pub(crate) fn unusable(&self) {
        self.unusable.fetch_add(1, Relaxed);
    }

    pub(crate) fn put(&self, stored: bool) {
        if stored { &self.puts } else { &self.puts_refused }.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self, code_bytes: u64, page_bytes: u64, retired: u64) -> JitStats {
        JitStats {
            memory_hits: self.memory_hits.load(Relaxed),
            store_hits: self.store_hits.load(Relaxed),
            compiles: self.compiles.load(Relaxed),
            unkept: self.unkept.load(Relaxed),
            unusable: self.unusable.load(Relaxed),
            puts: self.puts.load(Relaxed),
            puts_refused: self.puts_refused.load(Relaxed),
            compile_ns: self.compile_ns.load(Relaxed),
            compile_ns_saved: self.compile_ns_saved.load(Relaxed),
            code_bytes,
            page_bytes,
            retired,
        }
    }
}
