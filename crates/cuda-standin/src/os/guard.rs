//! Pages the program under test must not touch yet, and a note of each time it did. Knows no copy and no stream.
//!
//! A guarded page faults. The signal handler finds the guard, notes the access, opens the page and lets the program
//! go on, so that a test ends with a report and not with a crash. The handler takes no lock and allocates nothing:
//! the fault may have come from inside the allocator.
#![expect(unsafe_code, reason = "changes page protections and handles the faults that follow")]

use crate::os::PAGE;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What a guarded page still allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    Nothing,
    Reads,
}

/// An access that a guard saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What [`raise`] was given.
    pub tag: u64,
    pub address: u64,
}

const SLOTS: usize = 256;
const HITS: usize = 64;

/// Guards in place: pages `start..end`, and whose they are. An empty slot has `end` 0.
static GUARDS: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];
static HIT_TAGS: [AtomicU64; HITS] = [const { AtomicU64::new(0) }; HITS];
static HIT_ADDRESSES: [AtomicU64; HITS] = [const { AtomicU64::new(0) }; HITS];
static HITS_SEEN: AtomicUsize = AtomicUsize::new(0);
/// How often a guard was lowered, and that number at the last fault that met no guard.
static LOWERED: AtomicU64 = AtomicU64::new(0);
static RETRIED: AtomicU64 = AtomicU64::new(0);
/// Reserved address space: device memory, which no fault handler ever opens.
static DEVICE_START: AtomicU64 = AtomicU64::new(u64::MAX);
static DEVICE_END: AtomicU64 = AtomicU64::new(0);
static PREVIOUS: Previous = Previous(UnsafeCell::new(None));
static INSTALL: Once = Once::new();

struct Slot {
    start: AtomicU64,
    end: AtomicU64,
    tag: AtomicU64,
    reads: AtomicBool,
}

struct Previous(UnsafeCell<Option<libc::sigaction>>);

// SAFETY: written once, inside `INSTALL`, before the handler that reads it is in place.
unsafe impl Sync for Previous {}

impl Slot {
    const fn new() -> Slot {
        Slot { start: AtomicU64::new(0), end: AtomicU64::new(0), tag: AtomicU64::new(0), reads: AtomicBool::new(false) }
    }
}

/// The pages that lie whole inside `bytes`: only they can be shut without shutting out a neighbour.
pub fn whole_pages(bytes: Range<u64>) -> Range<u64> {
    let page = PAGE as u64;
    let start = bytes.start.next_multiple_of(page);
    start..(bytes.end / page * page).max(start)
}

/// Shuts `pages` and notes accesses under `tag`. `false` if they cannot be shut, or all slots are taken.
pub fn raise(pages: &Range<u64>, allow: Allow, tag: u64) -> bool {
    if pages.is_empty() {
        return false;
    }
    install();
    let Some(slot) = GUARDS.iter().find(|slot| slot.end.load(Ordering::Acquire) == 0) else { return false };
    slot.start.store(pages.start, Ordering::Relaxed);
    slot.tag.store(tag, Ordering::Relaxed);
    slot.reads.store(allow == Allow::Reads, Ordering::Relaxed);
    slot.end.store(pages.end, Ordering::Release);
    let shut = protect(pages, access(allow));
    if !shut {
        slot.end.store(0, Ordering::Release);
    }
    keep_others(pages);
    shut
}

/// Opens what [`raise`] shut under `tag`, as far as no other guard is on it. Memory that the program owns may have been
/// freed since and be someone else's mapping: only what is still shut is opened then.
pub fn lower(pages: &Range<u64>, tag: u64, ours: bool) {
    for part in if ours { vec![pages.clone()] } else { still_shut(pages) } {
        protect(&part, libc::PROT_READ | libc::PROT_WRITE);
    }
    for slot in GUARDS.iter().filter(|slot| slot.tag.load(Ordering::Relaxed) == tag) {
        slot.end.store(0, Ordering::Release);
    }
    LOWERED.fetch_add(1, Ordering::AcqRel);
    keep_others(pages);
}

/// The accesses seen since the last call. More than 64 between two calls overwrite the oldest.
pub fn take_hits() -> Vec<Hit> {
    let seen = HITS_SEEN.swap(0, Ordering::AcqRel).min(HITS);
    let hit =
        |i: usize| Hit { tag: HIT_TAGS[i].load(Ordering::Relaxed), address: HIT_ADDRESSES[i].load(Ordering::Relaxed) };
    (0..seen).map(hit).collect()
}

/// Says which addresses are device memory, for the message when the program dereferences one.
pub fn name_device_memory(range: Range<u64>) {
    install();
    DEVICE_START.fetch_min(range.start, Ordering::Relaxed);
    DEVICE_END.fetch_max(range.end, Ordering::Relaxed);
}

fn find(address: u64) -> Option<&'static Slot> {
    GUARDS.iter().find(|slot| {
        let end = slot.end.load(Ordering::Acquire);
        address < end && slot.start.load(Ordering::Relaxed) <= address
    })
}

/// Guards may overlap; the strictest holds.
fn keep_others(pages: &Range<u64>) {
    for allow in [Allow::Reads, Allow::Nothing] {
        for slot in &GUARDS {
            let start = slot.start.load(Ordering::Relaxed).max(pages.start);
            let end = slot.end.load(Ordering::Acquire).min(pages.end);
            if start < end && slot.reads.load(Ordering::Relaxed) == (allow == Allow::Reads) {
                protect(&(start..end), access(allow));
            }
        }
    }
}

fn still_shut(pages: &Range<u64>) -> Vec<Range<u64>> {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return Vec::new() };
    let shut = maps.lines().filter_map(|line| {
        let (start, rest) = line.split_once('-')?;
        let (end, rest) = rest.split_once(' ')?;
        let start = u64::from_str_radix(start, 16).ok()?.max(pages.start);
        let end = u64::from_str_radix(end, 16).ok()?.min(pages.end);
        (start < end && (rest.starts_with("---") || rest.starts_with("r--"))).then_some(start..end)
    });
    shut.collect()
}

fn access(allow: Allow) -> libc::c_int {
    match allow {
        Allow::Nothing => libc::PROT_NONE,
        Allow::Reads => libc::PROT_READ,
    }
}

fn protect(pages: &Range<u64>, access: libc::c_int) -> bool {
    let bytes = (pages.end - pages.start) as usize;
    // SAFETY: the pages belong to a host buffer that the program handed to the device; shutting them cannot make a
    // correct program read other bytes, and a fault opens them again.
    unsafe { libc::mprotect(pages.start as *mut libc::c_void, bytes, access) == 0 }
}

fn install() {
    INSTALL.call_once(|| {
        // SAFETY: an all-zero `sigaction` is a valid value to fill in.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: as above.
        let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks for the action in place and changes nothing.
        unsafe { libc::sigaction(libc::SIGSEGV, ptr::null(), &mut previous) };
        // SAFETY: `INSTALL` runs this once, and the handler that reads the value is installed only below.
        unsafe { *PREVIOUS.0.get() = Some(previous) };
        // SAFETY: `on_fault` has the signature that SA_SIGINFO asks for and does only what a handler may.
        unsafe { libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()) };
    });
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `info` to a handler installed with SA_SIGINFO.
    let info_of = unsafe { &*info };
    // SAFETY: SIGSEGV fills `si_addr`.
    let address = unsafe { info_of.si_addr() } as u64;
    if let Some(slot) = find(address) {
        let at = HITS_SEEN.fetch_add(1, Ordering::AcqRel) % HITS;
        HIT_TAGS[at].store(slot.tag.load(Ordering::Relaxed), Ordering::Relaxed);
        HIT_ADDRESSES[at].store(address, Ordering::Relaxed);
        let page = address / PAGE as u64 * PAGE as u64;
        if protect(&(page..page + PAGE as u64), libc::PROT_READ | libc::PROT_WRITE) {
            return;
        }
    }
    let lowered = LOWERED.load(Ordering::Acquire);
    if RETRIED.swap(lowered, Ordering::AcqRel) != lowered {
        return; // the guard was lowered after the fault: the access is repeated, and now succeeds
    }
    if (DEVICE_START.load(Ordering::Relaxed)..DEVICE_END.load(Ordering::Relaxed)).contains(&address) {
        let text = b"cuda-standin: the host dereferenced a device pointer\n";
        // SAFETY: writes a constant to the standard error stream; `write` may be called from a handler.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
    pass_on(signal, info, context);
}

/// Not ours: whoever was there before decides, or the process dies as it would have.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: written before this handler was installed and never since.
    let previous = unsafe { *PREVIOUS.0.get() };
    match previous {
        Some(action) if ![libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction) => {
            if action.sa_flags & libc::SA_SIGINFO != 0 {
                type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                // SAFETY: with SA_SIGINFO set, this is what the field holds.
                let handler: Handler = unsafe { std::mem::transmute(action.sa_sigaction) };
                handler(signal, info, context);
            } else {
                // SAFETY: without SA_SIGINFO, this is what the field holds.
                let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(action.sa_sigaction) };
                handler(signal);
            }
        }
        _ => {
            // SAFETY: restores the default; returning repeats the access, which then ends the process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::TwoFaced;
    use std::sync::Mutex;

    /// Hits are noted for the process, and taken by whoever asks.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    #[test]
    fn an_access_to_a_guarded_page_is_noted_and_the_program_goes_on() {
        let _alone = ONE_AT_A_TIME.lock();
        let memory = TwoFaced::new(2 * PAGE).unwrap();
        memory.write(0, &[7; 2 * PAGE]);
        let pages = whole_pages(memory.address()..memory.address() + 2 * PAGE as u64);
        assert!(raise(&pages, Allow::Nothing, 42));
        // SAFETY: the memory is mapped; the guard opens the page on the first access.
        let read = unsafe { ptr::read_volatile((memory.address() + 5) as *const u8) };
        assert_eq!(read, 7);
        assert!(take_hits().contains(&Hit { tag: 42, address: memory.address() + 5 }));
        lower(&pages, 42, true);
        // SAFETY: the memory is mapped and open again.
        unsafe { ptr::write_volatile((memory.address() + PAGE as u64) as *mut u8, 1) };
        assert!(!take_hits().iter().any(|hit| hit.tag == 42));
    }

    #[test]
    fn reads_pass_where_only_writes_are_shut_out() {
        let _alone = ONE_AT_A_TIME.lock();
        let memory = TwoFaced::new(PAGE).unwrap();
        let pages = whole_pages(memory.address()..memory.address() + PAGE as u64);
        assert!(raise(&pages, Allow::Reads, 43));
        // SAFETY: the memory is mapped for reading.
        unsafe { ptr::read_volatile(memory.address() as *const u8) };
        assert!(!take_hits().iter().any(|hit| hit.tag == 43));
        // SAFETY: the memory is mapped; the guard opens the page on the first write.
        unsafe { ptr::write_volatile(memory.address() as *mut u8, 1) };
        assert!(take_hits().iter().any(|hit| hit.tag == 43));
        lower(&pages, 43, true);
    }

    #[test]
    fn of_two_guards_on_a_page_the_stricter_holds_until_it_is_lowered() {
        let _alone = ONE_AT_A_TIME.lock();
        let memory = TwoFaced::new(PAGE).unwrap();
        let pages = whole_pages(memory.address()..memory.address() + PAGE as u64);
        // SAFETY: the memory is mapped; a guard opens the page on the first access.
        let read = || unsafe { ptr::read_volatile(memory.address() as *const u8) };
        let write = || {
            // SAFETY: as above.
            unsafe { ptr::write_volatile(memory.address() as *mut u8, 1) };
        };
        assert!(raise(&pages, Allow::Nothing, 44) && raise(&pages, Allow::Reads, 45));
        read();
        assert!(!take_hits().is_empty());
        assert!(raise(&pages, Allow::Nothing, 46));
        lower(&pages, 44, true);
        lower(&pages, 46, true);
        read();
        assert!(take_hits().is_empty());
        write();
        assert!(take_hits().iter().any(|hit| hit.tag == 45));
        lower(&pages, 45, true);
        write();
        assert!(take_hits().is_empty());
    }

    #[test]
    fn pages_shared_with_a_neighbour_are_left_open() {
        assert_eq!(whole_pages(1..4096 * 3 + 1), 4096..4096 * 3);
        assert!(whole_pages(1..4096).is_empty());
    }
}
