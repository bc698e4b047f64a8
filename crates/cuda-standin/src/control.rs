//! The control interface: C functions beside the driver's, found with `dlsym` in whichever library is loaded. A real
//! driver has none of them. Knows no rule; it sets the model and asks it.
#![expect(unsafe_code, reason = "exports C functions and reads the caller's buffers")]

use crate::api;
use crate::api::entry;
use crate::code::Code;
use crate::model::clock::Epoch;
use crate::settings::Settings;
use std::ffi::{CStr, c_char, c_int};

/// Name and version; that it is there tells which driver was loaded.
pub const MARKER: &CStr =
    match CStr::from_bytes_with_nul(concat!("cuda-standin ", env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("the version holds no zero"),
    };

const REFUSED: c_int = -1;

#[unsafe(no_mangle)]
extern "C" fn cuda_standin_marker() -> *const c_char {
    MARKER.as_ptr()
}

/// Changes a setting, `key=value`. -1: not understood.
///
/// # Safety
/// `pair` is text that ends with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuda_standin_set(pair: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    let Some(pair) = (unsafe { text(pair) }) else { return REFUSED };
    let mut model = entry::model();
    let done = model.settings.set(&pair);
    model.apply_settings();
    done.map_or(REFUSED, |()| 0)
}

/// Forgets everything and goes back to the settings of the environment.
#[unsafe(no_mangle)]
extern "C" fn cuda_standin_reset() {
    entry::model().reset(Settings::from_environment().unwrap_or_default());
    entry::wake_waiters();
}

/// A number by name; `u64::MAX` if there is none of that name.
///
/// # Safety
/// `name` is text that ends with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuda_standin_counter(name: *const c_char) -> u64 {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    name.and_then(|name| entry::model().counter(&name)).unwrap_or(u64::MAX)
}

/// How often a driver call was made.
///
/// # Safety
/// `call` is text that ends with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuda_standin_calls(call: *const c_char) -> u64 {
    // SAFETY: the caller's promise.
    let call = unsafe { text(call) };
    call.map_or(0, |call| entry::model().report.calls(&call))
}

/// Copies the text of a violation, without a final zero, as far as it fits; returns its length, 0 if there is none.
///
/// # Safety
/// `buffer` is good for `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuda_standin_violation(index: u64, buffer: *mut c_char, room: usize) -> usize {
    let mut model = entry::model();
    let hits = model.host.take_hits();
    model.violations(hits);
    let Some(violation) = model.report.violations().get(index as usize) else { return 0 };
    let bytes = violation.len().min(room);
    // SAFETY: `bytes` is at most what the caller has room for and the text has.
    unsafe { std::ptr::copy_nonoverlapping(violation.as_ptr(), buffer.cast(), bytes) };
    violation.len()
}

#[unsafe(no_mangle)]
extern "C" fn cuda_standin_clear_violations() {
    let mut model = entry::model();
    let _seen = model.host.take_hits();
    model.report.clear();
}

/// Lets the `nth` call from now fail: of all, or of those of a name. `sticky`: the current context is lost with it.
///
/// # Safety
/// `call` is null or text that ends with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuda_standin_fail(call: *const c_char, nth: u64, code: u32, sticky: c_int) {
    // SAFETY: the caller's promise.
    let call = unsafe { text(call) };
    entry::model().faults.add(call, nth, Code(code), sticky != 0);
}

/// From now on every call that needs the device fails with `code`.
#[unsafe(no_mangle)]
extern "C" fn cuda_standin_lose_device(ordinal: u32, code: u32) {
    entry::model().lose_device(ordinal, Code(code));
}

/// Runs up to `count` operations that can run, in order of submission; returns how many did.
#[unsafe(no_mangle)]
extern "C" fn cuda_standin_run(count: u64) -> u64 {
    let ran = entry::model().run_some(count);
    api::start_host_functions();
    ran
}

/// Runs what a stream holds, and what that waits for, as far as no host function is in the way; the host learns
/// nothing of it. -1: no such stream.
#[unsafe(no_mangle)]
extern "C" fn cuda_standin_run_stream(stream: u64) -> c_int {
    let mut model = entry::model();
    let Some(number) = model.streams.get(&stream).map(|stream| stream.last) else { return REFUSED };
    model.run_until(Epoch { stream, number });
    drop(model);
    api::start_host_functions();
    0
}

/// Copies device or page-locked memory as it is now, ordered with nothing. -1: no such memory.
///
/// # Safety
/// `buffer` is good for `bytes` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuda_standin_peek(address: u64, buffer: *mut u8, bytes: usize) -> c_int {
    use crate::model::kernel::Memory;
    let model = entry::model();
    let Some(end) = address.checked_add(bytes as u64) else { return REFUSED };
    if !model.is_memory(&(address..end)) {
        return REFUSED;
    }
    let mut copied = vec![0; bytes];
    model.read(address, &mut copied);
    // SAFETY: the caller has room for `bytes` bytes.
    unsafe { std::ptr::copy_nonoverlapping(copied.as_ptr(), buffer, bytes) };
    0
}

/// The program says that it reads (`writes` = 0) or writes host memory now.
#[unsafe(no_mangle)]
extern "C" fn cuda_standin_host_access(address: u64, bytes: u64, writes: c_int) {
    entry::model().host_access(&(address..address.saturating_add(bytes)), writes != 0);
}

/// The program says that it frees host memory now.
#[unsafe(no_mangle)]
extern "C" fn cuda_standin_host_freed(address: u64, bytes: u64) {
    let mut model = entry::model();
    if model.host.holds() > 0 {
        model.host_memory_gone(&(address..address.saturating_add(bytes)), "the program's free");
    }
}

/// # Safety
/// `text` is null or text that ends with a zero.
unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: not null, so by the caller's promise text that ends with a zero.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
