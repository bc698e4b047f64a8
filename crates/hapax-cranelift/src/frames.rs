//! Tells the platform's unwinder about tables, so that a panic of the host can pass through compiled frames and a
//! backtrace shows what lies beyond them. Knows no format.

#![expect(unsafe_code, reason = "the unwinder reads the table through a pointer until it is told not to")]

use crate::memory::Sealed;

/// A table that is registered, and the pages that it lies in. Its drop unregisters before the pages go.
pub(crate) struct Registered {
    table: Option<u64>,
    pages: Sealed,
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod unwinder {
    unsafe extern "C" {
        // In libgcc_s, which Rust's own unwinding links on this platform.
        pub(super) fn __register_frame(table: *const u8);
        pub(super) fn __deregister_frame(table: *const u8);
    }
}

/// Whether a panic can pass through compiled frames here.
pub(crate) const SUPPORTED: bool = cfg!(all(target_os = "linux", target_env = "gnu"));

impl Registered {
    /// Registers the table at that address in the pages, which ends with a zero length; `None`: there is none.
    pub(crate) fn new(pages: Sealed, table: Option<u64>) -> Registered {
        let table = table.filter(|_| SUPPORTED);
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        if let Some(table) = table {
            assert!(pages.ranges()[1].contains(&table));
            // SAFETY: The table was written by `unwind::write_table`, which ends it with a zero length; it lies in pages
            // that are readable, that nobody can write any more, and that stay until `drop` has unregistered it.
            unsafe { unwinder::__register_frame(pages.pointer(table)) };
        }
        Registered { table, pages }
    }

    /// The pages that hold the table, and the code that it is about.
    pub(crate) fn pages(&self) -> &Sealed {
        &self.pages
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        if let Some(table) = self.table {
            // SAFETY: `new` registered exactly this table, and this is the only place that unregisters it.
            unsafe { unwinder::__deregister_frame(self.pages.pointer(table)) };
        }
    }
}
