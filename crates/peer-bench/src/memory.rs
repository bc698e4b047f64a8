//! Heap bytes per entry at exactly 1,000,000, counted by the allocator of this program. Keys have 128 bits, payloads
//! the 24 bytes of a handle; hapax holds real handles, whose own books are counted apart. Its index is also counted
//! around payloads of 64 bits.

use crate::contenders::{Contender, contender};
use crate::work::key;
use hapax::{CacheOptions, DevBox, DryDevice, Heap, HeapOptions, Mode, Policy, VramCache, WordIndex};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub const ENTRIES: usize = 1_000_000;

/// Per entry, and entries that stayed: a sharded or sampled cache may refuse some that would fit.
pub struct Row {
    pub name: String,
    pub bytes: f64,
    pub stayed: usize,
}

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let kinds = [
        ("hapax", Policy::Lru, Mode::Exact),
        ("hapax relaxed", Policy::Lru, Mode::Relaxed),
        ("hapax CAMP", Policy::Camp, Mode::Exact),
        ("hapax CAMP relaxed", Policy::Camp, Mode::Relaxed),
    ];
    for (name, policy, mode) in kinds {
        let (entry, span) = of_hapax(policy, mode);
        rows.push(Row { name: name.to_owned(), bytes: entry, stayed: ENTRIES });
        if name == "hapax" {
            rows.push(Row { name: "hapax's heap: the record of a span".to_owned(), bytes: span, stayed: ENTRIES });
        }
    }
    for (name, policy) in [("hapax's index, 64-bit payload", Policy::Lru), ("the same, CAMP", Policy::Camp)] {
        rows.push(Row { name: name.to_owned(), bytes: of_the_index(policy), stayed: ENTRIES });
    }
    for name in ["Mutex<lru>", "quick_cache", "moka", "foyer-memory", "TinyUFO"] {
        let before = LIVE.load(Relaxed);
        let contender: Box<dyn Contender> = contender(name, ENTRIES);
        let keys: Vec<u128> = (0..ENTRIES as u64).map(key).collect();
        let keys_bytes = keys.capacity() * size_of::<u128>();
        contender.insert_all(&keys);
        let live = LIVE.load(Relaxed) - before - keys_bytes;
        let stayed = contender.look_up(&keys);
        rows.push(Row { name: name.to_owned(), bytes: live as f64 / stayed as f64, stayed });
    }
    rows
}

/// Of the cache, and of the heap that the handles are of.
fn of_hapax(policy: Policy, mode: Mode) -> (f64, f64) {
    let options = HeapOptions::new(ENTRIES as u64).granule_bytes(1).slab_bytes(ENTRIES as u64);
    let heap = Heap::new(DryDevice::new(), options).unwrap();
    let stream = heap.new_stream().unwrap();
    let mut handles: Vec<DevBox<[u8]>> = Vec::with_capacity(ENTRIES);
    let before = LIVE.load(Relaxed);
    handles.extend((0..ENTRIES).map(|_| heap.alloc_slice::<u8>(1).unwrap().zero(&stream).unwrap()));
    let span = LIVE.load(Relaxed) - before;
    let in_vec = handles.capacity() * size_of::<DevBox<[u8]>>();
    let options = CacheOptions::new(ENTRIES as u64).policy(policy).mode(mode);
    let cache: VramCache<u128, [u8]> = VramCache::with_options(&heap, options).unwrap();
    let before = LIVE.load(Relaxed);
    for (number, handle) in handles.into_iter().enumerate() {
        cache.insert_with_cost(key(number as u64), handle, 1000 + number as u64).unwrap().free_all().unwrap();
    }
    let entry = LIVE.load(Relaxed) + in_vec - before; // the vector of handles is gone now
    assert_eq!(cache.stats().entries, ENTRIES);
    (entry as f64 / ENTRIES as f64, span as f64 / ENTRIES as f64)
}

fn of_the_index(policy: Policy) -> f64 {
    let before = LIVE.load(Relaxed);
    let index = WordIndex::new(policy, ENTRIES as u64);
    (0..ENTRIES as u64).for_each(|number| assert!(index.insert(key(number), number, 1000 + number)));
    let live = LIVE.load(Relaxed) - before;
    assert_eq!(index.len(), ENTRIES);
    live as f64 / ENTRIES as f64
}

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; only a count is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}
