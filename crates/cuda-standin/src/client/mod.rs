//! The stand-in seen from a test: the control functions of the loaded library, with types. Knows no model; the
//! library under control may be another copy of this crate than the one linked in here.
#![expect(unsafe_code, reason = "calls functions found with dlsym")]

mod alias;
pub mod allocator;
pub mod install;
pub mod session;

use crate::code::Code;
use crate::settings::{Mode, Pageable, Personality};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;

pub use crate::client::install::{Driver, InstallError};

/// Drives and watches the stand-in that this process has loaded as its CUDA driver. Copies drive the same one.
#[derive(Clone, Copy)]
pub struct Control(Functions);

/// Numbers that a test compares at its end. All of the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Device memory that was allocated and not freed. A stream-ordered free counts when it has run.
    pub live_bytes: u64,
    /// Blocks that these bytes are in.
    pub live_blocks: u64,
    /// Page-locked memory that was allocated and not freed; registered memory is not counted.
    pub page_locked_bytes: u64,
    /// Streams that were created and not destroyed.
    pub streams: u64,
    /// Events that were created and not destroyed.
    pub events: u64,
    /// Modules that were loaded and not unloaded.
    pub modules: u64,
    /// Contexts that exist, primary ones included.
    pub contexts: u64,
    /// Graphs and executable graphs.
    pub graphs: u64,
    /// Operations that were submitted and have not run.
    pub pending: u64,
    /// Faults that were planned and not met.
    pub faults: u64,
    /// Driver calls made so far.
    pub calls: u64,
}

macro_rules! functions {
    ($($field:ident: $name:literal $type:ty;)*) => {
        #[derive(Clone, Copy)]
        struct Functions { $($field: $type,)* }

        impl Functions {
            /// `None`: the library is not the stand-in.
            ///
            /// # Safety
            /// `library` was opened with `dlopen` and stays open.
            unsafe fn of(library: *mut c_void) -> Option<Functions> {
                Some(Functions { $($field: {
                    // SAFETY: an open library, and a C string.
                    let symbol = unsafe { libc::dlsym(library, $name.as_ptr()) };
                    if symbol.is_null() {
                        return None;
                    }
                    // SAFETY: the function of this name has this type in every release with the same marker, and
                    // the marker is checked before any other is called.
                    unsafe { std::mem::transmute::<*mut c_void, $type>(symbol) }
                },)* })
            }
        }
    };
}

functions! {
    marker: c"cuda_standin_marker" extern "C" fn() -> *const c_char;
    set: c"cuda_standin_set" unsafe extern "C" fn(*const c_char) -> c_int;
    reset: c"cuda_standin_reset" extern "C" fn();
    counter: c"cuda_standin_counter" unsafe extern "C" fn(*const c_char) -> u64;
    calls: c"cuda_standin_calls" unsafe extern "C" fn(*const c_char) -> u64;
    violation: c"cuda_standin_violation" unsafe extern "C" fn(u64, *mut c_char, usize) -> usize;
    clear_violations: c"cuda_standin_clear_violations" extern "C" fn();
    fail: c"cuda_standin_fail" unsafe extern "C" fn(*const c_char, u64, u32, c_int);
    lose_device: c"cuda_standin_lose_device" extern "C" fn(u32, u32);
    run: c"cuda_standin_run" extern "C" fn(u64) -> u64;
    run_stream: c"cuda_standin_run_stream" extern "C" fn(u64) -> c_int;
    peek: c"cuda_standin_peek" unsafe extern "C" fn(u64, *mut u8, usize) -> c_int;
    host_access: c"cuda_standin_host_access" extern "C" fn(u64, u64, c_int);
    host_freed: c"cuda_standin_host_freed" extern "C" fn(u64, u64);
}

impl Control {
    /// Makes the stand-in this process's CUDA driver: loads it, so that whoever opens `libcuda.so` or
    /// `libcuda.so.1` from now on gets it. Call it before anything else opens the driver; again does no harm.
    ///
    /// # Errors
    /// The built library is not found, is of another release, or another driver was loaded before.
    pub fn install() -> Result<Control, InstallError> {
        install::install()
    }

    /// The stand-in, if that is what `libcuda.so` is in this process. Loads what is found if nothing is.
    pub fn open() -> Option<Control> {
        match install::driver() {
            Driver::StandIn(control) => Some(control),
            Driver::Other | Driver::Absent => None,
        }
    }

    /// The shared library that was built beside this test.
    pub fn library_path() -> Option<PathBuf> {
        install::library_path()
    }

    /// A directory that holds the library as `libcuda.so` and `libcuda.so.1`, for the `LD_LIBRARY_PATH` of another
    /// process.
    ///
    /// # Errors
    /// The built library is not found, or the directory cannot be made beside it.
    pub fn search_dir() -> std::io::Result<PathBuf> {
        install::search_dir()
    }

    /// # Safety
    /// `library` was opened with `dlopen` and stays open.
    unsafe fn of(library: *mut c_void) -> Option<Control> {
        // SAFETY: the caller's promise.
        unsafe { Functions::of(library) }.map(Control)
    }

    /// Name and version of the library under control.
    pub fn marker(self) -> &'static str {
        let marker = (self.0.marker)();
        // SAFETY: the function returns a constant of a library that is never unloaded.
        unsafe { CStr::from_ptr(marker) }.to_str().unwrap_or("not UTF-8")
    }

    /// Forgets contexts, memory, work, violations, counts, faults and settings. Addresses and handles stay used, so
    /// that stale ones are recognised.
    pub fn reset(self) {
        (self.0.reset)();
    }

    /// Changes a setting by name; README.md lists them.
    ///
    /// # Panics
    /// The setting is not understood.
    pub fn set(self, key: &str, value: impl std::fmt::Display) {
        let pair = format!("{key}={value}");
        let text = CString::new(pair.as_str()).expect("a setting holds no zero");
        // SAFETY: `text` lives through the call.
        let done = unsafe { (self.0.set)(text.as_ptr()) };
        assert_eq!(done, 0, "the stand-in does not understand `{pair}`");
    }

    /// When submitted work runs from now on.
    pub fn set_mode(self, mode: Mode) {
        self.set("mode", mode);
    }

    /// What asynchronous copies do with pageable memory from now on.
    pub fn set_pageable(self, pageable: Pageable) {
        self.set("pageable", if pageable == Pageable::Late { "late" } else { "staged" });
    }

    /// What a presence probe finds from now on.
    pub fn set_personality(self, personality: Personality) {
        self.set("driver", personality);
    }

    /// Device memory of each device.
    pub fn set_vram_bytes(self, bytes: u64) {
        self.set("vram", bytes);
    }

    /// Lets the `nth` call of `name` from now fail with `code`, the next one being the first.
    pub fn fail(self, name: &str, nth: u64, code: Code) {
        self.plan(Some(name), nth, code, false);
    }

    /// Lets the `nth` driver call from now fail with `code`, whichever it is.
    pub fn fail_any(self, nth: u64, code: Code) {
        self.plan(None, nth, code, false);
    }

    /// As [`Control::fail`], and every later call on the context that is current then.
    pub fn fail_for_good(self, name: &str, nth: u64, code: Code) {
        self.plan(Some(name), nth, code, true);
    }

    /// Every later call that needs the device fails with `code`.
    pub fn lose_device(self, ordinal: u32, code: Code) {
        (self.0.lose_device)(ordinal, code.0);
    }

    /// Runs up to `count` operations that can run, in order of submission, and returns how many did.
    pub fn run(self, count: u64) -> u64 {
        (self.0.run)(count)
    }

    /// Runs what the stream of this handle holds now, and what that waits for. The program learns nothing of it: to it
    /// the work is as pending as before.
    ///
    /// # Panics
    /// There is no such stream.
    pub fn run_stream(self, stream: u64) {
        let done = (self.0.run_stream)(stream);
        assert_eq!(done, 0, "{stream:#x} is no stream");
    }

    /// What went wrong since the last reset, in order.
    pub fn violations(self) -> Vec<String> {
        (0..).map_while(|index| self.violation(index)).collect()
    }

    /// As [`Control::violations`], and forgets them.
    pub fn take_violations(self) -> Vec<String> {
        let found = self.violations();
        (self.0.clear_violations)();
        found
    }

    /// Where things stand.
    pub fn counters(self) -> Counters {
        let counter = |name: &CStr| {
            // SAFETY: a C string that lives for ever.
            unsafe { (self.0.counter)(name.as_ptr()) }
        };
        Counters {
            live_bytes: counter(c"live_bytes"),
            live_blocks: counter(c"live_blocks"),
            page_locked_bytes: counter(c"page_locked_bytes"),
            streams: counter(c"streams"),
            events: counter(c"events"),
            modules: counter(c"modules"),
            contexts: counter(c"contexts"),
            graphs: counter(c"graphs"),
            pending: counter(c"pending"),
            faults: counter(c"faults"),
            calls: counter(c"calls"),
        }
    }

    /// How often a driver call was made since the last reset, by its exported name.
    pub fn calls(self, name: &str) -> u64 {
        let name = CString::new(name).expect("a call's name holds no zero");
        // SAFETY: `name` lives through the call.
        unsafe { (self.0.calls)(name.as_ptr()) }
    }

    /// Device or page-locked memory as it is now; orders nothing and waits for nothing. `None`: no such memory.
    pub fn peek(self, address: u64, bytes: usize) -> Option<Vec<u8>> {
        let mut copied = vec![0; bytes];
        // SAFETY: `copied` has room for `bytes` bytes.
        let done = unsafe { (self.0.peek)(address, copied.as_mut_ptr(), bytes) };
        (done == 0).then_some(copied)
    }

    /// Declares that the program reads these bytes now: a violation if a copy into them is not known to be over.
    pub fn host_reads<T>(self, bytes: &[T]) {
        (self.0.host_access)(bytes.as_ptr() as u64, size_of_val(bytes) as u64, 0);
    }

    /// Declares that the program writes these bytes now: a violation if any copy of them is not known to be over.
    pub fn host_writes<T>(self, bytes: &mut [T]) {
        (self.0.host_access)(bytes.as_ptr() as u64, size_of_val(bytes) as u64, 1);
    }

    /// Declares that the program frees host memory now. [`crate::WatchedAllocator`] does it for all of the heap.
    pub fn host_freed(self, address: *const u8, bytes: usize) {
        (self.0.host_freed)(address as u64, bytes as u64);
    }

    fn plan(self, name: Option<&str>, nth: u64, code: Code, sticky: bool) {
        let name = name.map(|name| CString::new(name).expect("a call's name holds no zero"));
        let text = name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
        // SAFETY: `text` is null, or lives through the call.
        unsafe { (self.0.fail)(text, nth, code.0, c_int::from(sticky)) };
    }

    fn violation(self, index: u64) -> Option<String> {
        let mut text = vec![0_u8; 512];
        loop {
            // SAFETY: the buffer has as much room as is said.
            let bytes = unsafe { (self.0.violation)(index, text.as_mut_ptr().cast(), text.len()) };
            if bytes <= text.len() {
                text.truncate(bytes);
                break;
            }
            text.resize(bytes, 0);
        }
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Control").field(&self.marker()).finish()
    }
}
