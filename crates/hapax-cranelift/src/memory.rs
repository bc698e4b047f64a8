//! Address space for code, and the only way in which bytes become executable. Knows no instruction and no symbol.
//!
//! A [`Space`] is reserved once, so that everything in it is within reach of a relative jump. Runs of pages are taken
//! from it in three states, each a type: [`Fresh`] can be written and not executed; [`Fresh::seal`] consumes it and
//! gives [`Sealed`], whose first pages are executable, the next read-only and the last writable. There is no way back:
//! pages that were executable become writable only after they have been unmapped. A [`Room`] is a stretch of writable pages
//! from which the runs of a large batch are taken, in huge pages where the system has them.

#![expect(unsafe_code, reason = "maps pages and changes what may be done with them")]

mod room;

pub(crate) use room::Room;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::{io, slice};

/// The huge page of x86-64, and of aarch64 with pages of 4 KiB.
const HUGE_BYTES: usize = 2 << 20;
/// From here on a huge page pays: the system makes one in the time of a few hundred small ones, or less.
const HUGE_FROM_BYTES: usize = 512 << 10;

/// A reserved range of addresses.
pub(crate) struct Space {
    base: NonNull<u8>,
    bytes: usize,
    page: usize,
    /// Free runs by offset, in bytes; neighbours are merged.
    free: Mutex<BTreeMap<usize, usize>>,
}

// SAFETY: `base` is the address of a mapping that belongs to the space alone until it is dropped. Its pages are
// touched through `Fresh` and `Sealed` only, whose runs do not overlap.
unsafe impl Send for Space {}
// SAFETY: As above; what is shared through `&Space` is the list of free runs, behind a lock.
unsafe impl Sync for Space {}

/// How many bytes of a run are executable, then read-only, then writable. Each part begins on a page of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sections {
    pub(crate) text: usize,
    pub(crate) read_only: usize,
    pub(crate) writable: usize,
}

/// Why a run of pages could not be had.
#[derive(Debug)]
pub(crate) enum NoPages {
    /// No free run is long enough.
    Full { need_bytes: usize, largest_bytes: usize },
    /// The system refused.
    System(io::Error),
}

impl Space {
    /// Reserves addresses; memory is taken when pages are.
    pub(crate) fn reserve(bytes: usize) -> io::Result<Arc<Space>> {
        let page = rustix::param::page_size();
        let bytes = bytes.checked_next_multiple_of(page).filter(|bytes| isize::try_from(*bytes).is_ok());
        let bytes = bytes.filter(|bytes| *bytes > 0).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: No address is asked for, so the new mapping replaces none.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::empty(), flags) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Arc::new(Space { base, bytes, page, free: Mutex::new(BTreeMap::from([(0, bytes)])) }))
    }

    /// A run of pages for these sections, zeroed and writable, not executable.
    pub(crate) fn take(self: &Arc<Self>, sections: Sections) -> Result<Fresh, NoPages> {
        let too_long = NoPages::Full { need_bytes: usize::MAX, largest_bytes: self.bytes };
        let Some((starts, bytes)) = sections.layout(self.page) else { return Err(too_long) };
        let run = Run { space: self.clone(), offset: self.take_run(bytes, 1)?, bytes };
        run.open()?;
        run.populate();
        Ok(Fresh(Pages::together(run, sections, starts)))
    }

    /// Room of that length in small pages.
    pub(crate) fn chunk(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let bytes = bytes.checked_next_multiple_of(self.page)?;
        let run = Run { space: self.clone(), offset: self.take_run(bytes, 1).ok()?, bytes };
        run.open().ok()?;
        run.populate();
        Some(Room { run, is_populated: true })
    }

    /// Room for runs that are about to be taken, together about so long: in huge pages, if they are worth one and the
    /// system gives it. `None` if there is not so much left; then each takes what it needs by itself.
    pub(crate) fn room(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let is_huge = bytes >= HUGE_FROM_BYTES && cfg!(target_os = "linux");
        let whole = bytes.checked_next_multiple_of(if is_huge { HUGE_BYTES } else { self.page })?;
        let offset = self.take_run(whole, if is_huge { HUGE_BYTES } else { 1 }).ok()?;
        let run = Run { space: self.clone(), offset, bytes: whole };
        run.open().ok()?;
        // Small pages come as they are taken: how many will be is not known exactly.
        if is_huge {
            run.populate_huge(bytes.checked_next_multiple_of(self.page)?);
        }
        Some(Room { run, is_populated: is_huge })
    }

    /// Protects the parts with that number of all of these, those that lie together with one call.
    fn protect_all(&self, pages: &[Pages], part: usize, flags: MprotectFlags) -> Result<(), NoPages> {
        let ranges = pages.iter().map(|pages| {
            let start = pages.starts[part];
            start..start + pages.sections.lengths()[part].next_multiple_of(self.page)
        });
        let mut ranges: SmallVec<[Range<usize>; 8]> = ranges.filter(|range| !range.is_empty()).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let mut together: SmallVec<[Range<usize>; 8]> = SmallVec::new();
        for range in ranges {
            match together.last_mut() {
                Some(before) if before.end == range.start => before.end = range.end,
                _ => together.push(range),
            }
        }
        for range in together {
            assert!(range.end <= self.bytes);
            // SAFETY: `range` lies inside the space's mapping, as just checked.
            let start = unsafe { self.base.add(range.start) };
            // SAFETY: The range consists of parts of `pages`, which belong to those alone. Who calls this has consumed the
            // only values through which they could be written (`Fresh`), so no reference into them is left.
            unsafe { mprotect(start.as_ptr().cast(), range.len(), flags) }.map_err(system)?;
        }
        Ok(())
    }

    /// Bytes that were reserved.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reserved and not taken.
    #[cfg(test)]
    fn free_bytes(&self) -> usize {
        self.free.lock().unwrap().values().sum()
    }

    /// The lowest free run of that length whose address is a multiple of `align`.
    fn take_run(&self, bytes: usize, align: usize) -> Result<usize, NoPages> {
        let mut free = self.free.lock().expect("no code panics under this lock");
        let base = self.base.as_ptr().addr();
        let fits = |(start, length): (&usize, &usize)| {
            let offset = (base + start).checked_next_multiple_of(align)? - base;
            let end = start + length;
            (offset.checked_add(bytes)? <= end).then_some((*start, offset, end))
        };
        let Some((start, offset, end)) = free.iter().find_map(fits) else {
            let largest_bytes = free.values().copied().max().unwrap_or(0);
            return Err(NoPages::Full { need_bytes: bytes, largest_bytes });
        };
        if bytes > 0 {
            free.remove(&start);
            for (start, end) in [(start, offset), (offset + bytes, end)] {
                if start < end {
                    free.insert(start, end - start);
                }
            }
        }
        Ok(offset)
    }

    fn give_run(&self, mut offset: usize, mut bytes: usize) {
        let mut free = self.free.lock().expect("no code panics under this lock");
        if let Some(next) = free.remove(&(offset + bytes)) {
            bytes += next;
        }
        if let Some((before, length)) = free.range(..offset).next_back().map(|(before, length)| (*before, *length))
            && before + length == offset
        {
            (offset, bytes) = (before, bytes + length);
        }
        free.insert(offset, bytes);
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: The mapping is the space's own, and every run holds the space, so none is left. An error leaks it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

impl Sections {
    fn lengths(&self) -> [usize; 3] {
        [self.text, self.read_only, self.writable]
    }

    /// Where the three parts begin, and the bytes of all; `None` if that overflows.
    fn layout(&self, page: usize) -> Option<([usize; 3], usize)> {
        let text = self.text.checked_next_multiple_of(page)?;
        let read_only = self.read_only.checked_next_multiple_of(page)?;
        let writable = self.writable.checked_next_multiple_of(page)?;
        let data = text.checked_add(read_only)?;
        Some(([0, text, data], data.checked_add(writable)?))
    }
}

/// Pages out of the space; given back, unmapped, when dropped.
struct Run {
    space: Arc<Space>,
    offset: usize,
    bytes: usize,
}

impl Run {
    fn base(&self) -> NonNull<u8> {
        // SAFETY: `offset` lies inside the space's mapping, which is one allocation of at most `isize::MAX` bytes.
        unsafe { self.space.base.add(self.offset) }
    }

    /// Lets the pages be written.
    fn open(&self) -> Result<(), NoPages> {
        if self.bytes == 0 {
            return Ok(());
        }
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: The run lies inside the space's mapping, begins and ends on a page, and is nobody else's.
        unsafe { mprotect(self.base().as_ptr().cast(), self.bytes, flags) }.map_err(system)
    }

    /// Has the pages ready before they are written, all in one call: it saves a fault for each.
    fn populate(&self) {
        #[cfg(target_os = "linux")]
        {
            use rustix::mm::{Advice, madvise};
            // SAFETY: The range belongs to the run alone and is writable; the advice changes no contents. Kernels before 5.14
            // do not know it, and then each page comes when it is touched.
            let _ = unsafe { madvise(self.base().as_ptr().cast(), self.bytes, Advice::LinuxPopulateWrite) };
        }
    }

    /// Has the first pages ready, in huge ones if the system has them.
    fn populate_huge(&self, bytes: usize) {
        #[cfg(target_os = "linux")]
        {
            use rustix::mm::{Advice, madvise};
            let start = self.base().as_ptr().cast();
            // SAFETY: As above; the advice says what pages are to be used. A kernel without huge ones refuses it.
            let _ = unsafe { madvise(start, self.bytes, Advice::LinuxHugepage) };
            // SAFETY: As above.
            let _ = unsafe { madvise(start, bytes.min(self.bytes), Advice::LinuxPopulateWrite) };
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: The range is part of the space's mapping and of this run alone. Nobody refers to it any more: `Fresh`
        // has no borrow left when it is dropped, and whoever drops a `Sealed` vouches that no code of it runs or will.
        let unmapped = unsafe { mmap_anonymous(self.base().as_ptr().cast(), self.bytes, ProtFlags::empty(), flags) };
        // Pages that could not be unmapped are left alone for good: reusing them could make them writable again.
        if unmapped.is_ok() {
            self.space.give_run(self.offset, self.bytes);
        }
    }
}

/// The pages of three parts, in one run or in a run for each.
struct Pages {
    runs: SmallVec<[Run; 3]>,
    sections: Sections,
    /// Of the parts, in the space.
    starts: [usize; 3],
}

impl Pages {
    /// One after the other in one run, by where they start in it.
    fn together(run: Run, sections: Sections, starts: [usize; 3]) -> Pages {
        let starts = starts.map(|start| run.offset + start);
        Pages { runs: smallvec![run], sections, starts }
    }

    /// The first byte of a part.
    fn start(&self, part: usize) -> NonNull<u8> {
        // SAFETY: All starts lie inside the space's mapping, or at its end if the part is empty.
        unsafe { self.runs[0].space.base.add(self.starts[part]) }
    }
}

/// Pages that can be written, and not executed.
pub(crate) struct Fresh(Pages);

impl Fresh {
    /// Where the executable, the read-only and the writable part will be.
    pub(crate) fn addresses(&self) -> [u64; 3] {
        [0, 1, 2].map(|part| self.0.start(part).as_ptr().addr() as u64)
    }

    /// The bytes of the three parts, as long as was asked for.
    pub(crate) fn parts_mut(&mut self) -> [&mut [u8]; 3] {
        let lengths = self.0.sections.lengths();
        [0, 1, 2].map(|part| {
            if lengths[part] == 0 {
                return &mut [][..];
            }
            // SAFETY: The part lies in pages that are readable, writable and zeroed, of a run that belongs to `self`
            // alone, which is borrowed as long as the slice lives; the parts do not overlap.
            unsafe { slice::from_raw_parts_mut(self.0.start(part).as_ptr(), lengths[part]) }
        })
    }

    /// Ends writing: the first part becomes executable, the second read-only. Instruction caches are told.
    pub(crate) fn seal(self) -> Result<Sealed, NoPages> {
        let mut sealed = Fresh::seal_all([self].into_iter().collect())?;
        Ok(sealed.pop().expect("one for one"))
    }

    /// As [`seal`](Fresh::seal) of each, in one space. If one cannot be, all are unmapped.
    pub(crate) fn seal_all(all: SmallVec<[Fresh; 1]>) -> Result<SmallVec<[Sealed; 1]>, NoPages> {
        let pages: SmallVec<[Pages; 1]> = all.into_iter().map(|fresh| fresh.0).collect();
        if let Some(first) = pages.first() {
            let space = &first.runs[0].space;
            assert!(pages.iter().all(|pages| Arc::ptr_eq(&pages.runs[0].space, space)));
            space.protect_all(&pages, 1, MprotectFlags::READ)?;
            space.protect_all(&pages, 0, MprotectFlags::READ | MprotectFlags::EXEC)?;
        }
        for pages in &pages {
            flush_instruction_cache(pages.start(0), pages.sections.text);
        }
        Ok(pages.into_iter().map(Sealed).collect())
    }
}

/// Pages whose code may run. To drop it unmaps them: whoever does vouches that nothing runs there, nor will.
pub(crate) struct Sealed(Pages);

impl Sealed {
    /// The addresses of the executable, the read-only and the writable part.
    pub(crate) fn ranges(&self) -> [Range<u64>; 3] {
        let lengths = self.0.sections.lengths();
        [0, 1, 2].map(|part| {
            let start = self.0.start(part).as_ptr().addr() as u64;
            start..start + lengths[part] as u64
        })
    }

    /// All pages, which is more than the sections.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.0.runs.iter().map(|run| run.bytes as u64).sum()
    }

    /// A pointer into the pages, for others to call or to read.
    pub(crate) fn pointer(&self, address: u64) -> *const u8 {
        let base = self.0.runs[0].space.base.as_ptr();
        let offset = (address as usize).wrapping_sub(base.addr());
        assert!(self.0.runs.iter().any(|run| (run.offset..=run.offset + run.bytes).contains(&offset)));
        base.wrapping_add(offset)
    }

    /// Writes an aligned word of the writable part. Code that loads it sees the old value or the new one.
    pub(crate) fn store_word(&self, offset: usize, value: u64) {
        assert!(offset.is_multiple_of(8) && offset.checked_add(8).is_some_and(|end| end <= self.0.sections.writable));
        let word = self.0.start(2).as_ptr().wrapping_add(offset).cast::<u64>();
        // SAFETY: The word is aligned, since pages are and the offset is; it lies in pages that stay readable and
        // writable as long as `self` lives; Rust code accesses them here only, compiled code with single loads.
        let word = unsafe { AtomicU64::from_ptr(word) };
        word.store(value, Ordering::Release);
    }
}

/// Whether the address lies in a mapping of this process.
pub(crate) fn is_mapped(address: u64) -> bool {
    use rustix::mm::{MsyncFlags, msync};
    let page = address as usize & !(rustix::param::page_size() - 1);
    // SAFETY: Pages of files are at most written back earlier than they would have been; no contents change, and an address that
    // is not mapped is an error.
    unsafe { msync(std::ptr::without_provenance_mut(page), 1, MsyncFlags::ASYNC) }.is_ok()
}

fn system(error: rustix::io::Errno) -> NoPages {
    NoPages::System(error.into())
}

/// The processor fetches what was written: x86-64 sees to it by itself.
#[cfg(not(target_arch = "aarch64"))]
fn flush_instruction_cache(_start: NonNull<u8>, _bytes: usize) {}

/// Cleans the data cache and invalidates the instruction cache over the range, and has every thread of the process
/// drop what it fetched ahead.
#[cfg(target_arch = "aarch64")]
fn flush_instruction_cache(start: NonNull<u8>, bytes: usize) {
    unsafe extern "C" {
        /// From the compiler's run-time library.
        fn __clear_cache(start: *mut u8, end: *mut u8);
    }
    // SAFETY: The range is mapped, readable, and belongs to one run.
    unsafe { __clear_cache(start.as_ptr(), start.as_ptr().wrapping_add(bytes)) };
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        // Kernels before 4.16 lack it; there, code becomes visible to other threads with the lock that hands it over.
        let _ = membarrier(MembarrierCommand::RegisterPrivateExpeditedSyncCore);
        let _ = membarrier(MembarrierCommand::PrivateExpeditedSyncCore);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(address: u64) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let parse = |digits| u64::from_str_radix(digits, 16).unwrap();
            (parse(start)..parse(end)).contains(&address)
        });
        line.unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn no_page_is_ever_writable_and_executable() {
        let space = Space::reserve(1 << 20).unwrap();
        let fresh = space.take(Sections { text: 10, read_only: 5_000, writable: 1 }).unwrap();
        let addresses = fresh.addresses();
        assert_eq!(addresses.map(permissions), ["rw-p", "rw-p", "rw-p"]);
        let sealed = fresh.seal().unwrap();
        assert_eq!(addresses.map(permissions), ["r-xp", "r--p", "rw-p"]);
        assert_eq!(sealed.ranges().map(|range| range.start), addresses);
        drop(sealed);
        assert_eq!(addresses.map(permissions), ["---p", "---p", "---p"]);
    }

    #[test]
    fn runs_come_back_merged_and_zeroed() {
        let space = Space::reserve(64 << 10).unwrap();
        let sections = Sections { text: 1, read_only: 0, writable: 1 };
        let mut runs: Vec<Fresh> = (0..3).map(|_| space.take(sections).unwrap()).collect();
        for run in &mut runs {
            run.parts_mut()[2][0] = 7;
        }
        runs.swap_remove(1);
        let mut again = space.take(sections).unwrap();
        assert_eq!(again.parts_mut()[2][0], 0);
        drop((runs, again));
        assert_eq!(space.free_bytes(), 64 << 10);
        assert!(space.take(Sections { text: 64 << 10, ..Sections::default() }).is_ok());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn runs_of_a_room_are_as_others_and_what_is_left_of_it_goes_back() {
        let space = Space::reserve(8 << 20).unwrap();
        assert!(space.room(usize::MAX).is_none() && space.room(9 << 20).is_none());
        let mut room = space.room(HUGE_FROM_BYTES).unwrap();
        let sections = Sections { text: 5_000, read_only: 1, writable: 1 };
        let mut runs: Vec<Fresh> = (0..3).map(|_| room.take(sections).unwrap()).collect();
        assert_eq!(runs[0].addresses()[0] % HUGE_BYTES as u64, 0);
        assert!(room.take(Sections { text: HUGE_BYTES, ..Sections::default() }).is_none(), "there is less left");
        let left = runs[2].addresses()[0] + 2 * space.page as u64;
        let outside = space.take(sections).unwrap();
        for run in runs.iter_mut() {
            assert!(run.parts_mut().iter().all(|part| part.iter().all(|byte| *byte == 0)));
            assert_eq!(run.addresses().map(permissions), ["rw-p", "rw-p", "rw-p"]);
            run.parts_mut()[0].fill(0xc3);
        }
        let last = runs.pop().unwrap();
        let sealed = last.seal().unwrap();
        assert_eq!(sealed.ranges().map(|range| permissions(range.start)), ["r-xp", "r--p", "rw-p"]);
        assert_eq!(permissions(left), "rw-p", "room is never executable");
        drop(room);
        assert_eq!(permissions(left), "---p");
        drop((runs, sealed, outside));
        assert_eq!(space.free_bytes(), 8 << 20);
        let mut again = space.take(Sections { text: 8 << 20, ..Sections::default() }).unwrap();
        assert!(again.parts_mut()[0].iter().all(|byte| *byte == 0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn runs_that_are_sealed_together_are_as_if_each_had_been() {
        for room_bytes in [64 << 10, HUGE_FROM_BYTES] {
            let space = Space::reserve(8 << 20).unwrap();
            let mut room = space.room(room_bytes).unwrap();
            let sections = [(5_000, 1, 0), (4_096, 0, 3), (1, 9_000, 1), (0, 1, 0)];
            let sections = sections.map(|(text, read_only, writable)| Sections { text, read_only, writable });
            let all: SmallVec<[Fresh; 1]> = sections.into_iter().map(|sections| room.take(sections).unwrap()).collect();
            let starts: Vec<[u64; 3]> = all.iter().map(Fresh::addresses).collect();
            assert_eq!(starts[1][0], starts[0][0] + 2 * space.page as u64, "code lies beside code");
            let outside = space.take(sections[0]).unwrap();
            let sealed = Fresh::seal_all(all).unwrap();
            for ((sealed, sections), starts) in sealed.iter().zip(sections).zip(starts) {
                let lengths = sections.lengths();
                for (part, permitted) in
                    ["r-xp", "r--p", "rw-p"].into_iter().enumerate().filter(|(part, _)| lengths[*part] > 0)
                {
                    let [first, last] = [starts[part], starts[part] + lengths[part] as u64 - 1];
                    assert_eq!([first, last].map(permissions), [permitted; 2]);
                }
                assert_eq!(sealed.ranges().map(|range| range.start), starts);
            }
            assert_eq!(outside.addresses().map(permissions), ["rw-p", "rw-p", "---p"]);
            drop((room, sealed, outside));
            assert_eq!(space.free_bytes(), 8 << 20);
        }
    }

    #[test]
    fn a_full_space_says_what_is_left() {
        let space = Space::reserve(8 << 10).unwrap();
        match space.take(Sections { text: 8 << 10, read_only: 1, writable: 0 }) {
            Err(NoPages::Full { need_bytes, largest_bytes }) => assert!(need_bytes > largest_bytes),
            _ => panic!("it cannot fit"),
        }
        assert!(matches!(
            space.take(Sections { text: usize::MAX, read_only: 1, writable: 1 }),
            Err(NoPages::Full { .. })
        ));
    }
}
