//! The figures of the README, each a ratio to `Mutex<lru::LruCache>` on the same work in the same run:
//! `cargo bench --bench figures`. Rounds alternate between the two, so that a machine that slows down
//! slows both; a row is the median of the rounds' ratios with the least and the greatest.
//!
//! The peer holds a payload of the size of a handle, keeps the same byte budget by hand, and hands back
//! what it evicts, as hapax does. The handles here are real: allocated from a heap on host memory.

use hapax::{DevBox, Heap, HeapOptions, HostDevice, Stream, VramCache};
use lru::LruCache;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

const ENTRIES: u64 = 100_000;
const OPERATIONS: usize = 200_000;
const ROUNDS: usize = 15;
const GRANULE: u64 = 256;
const MEMORY_ENTRIES: u64 = 1_000_000;

fn main() {
    // `cargo test --benches` runs this too, to see that it works.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    println!("{ENTRIES} entries, u128 keys, {rounds} rounds of {OPERATIONS} operations; ns are medians");
    println!("{:<32}{:>10}{:>10}{:>10}{:>18}", "", "hapax ns", "peer ns", "ratio", "min - max");
    let (hapax, peer) = (Hapax::filled(), Peer::filled());
    let hits = keys(|i| mix(i) % ENTRIES);
    compare("lookup-hit + release", rounds, || hapax.look_up(&hits), || peer.look_up(&hits));
    let mut next = ENTRIES;
    let mut fresh = || {
        next += OPERATIONS as u64;
        keys(|i| next + i)
    };
    let mut spare = hapax.spare();
    compare_on("insert + evict", rounds, &mut fresh, |k| hapax.insert(k, &mut spare), |k| peer.insert(k));
    contention(&hapax, &peer, rounds);
    memory();
}

fn contention(hapax: &Hapax, peer: &Peer, rounds: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let present: Vec<u128> = hapax.cache.keys();
    for threads in [2, 4] {
        let keys: Vec<u128> = (0..OPERATIONS).map(|i| present[mix(i as u64) as usize % present.len()]).collect();
        let note = if threads > cores { ", oversubscribed" } else { "" };
        peer.fill_with(&present);
        compare(
            &format!("hits on {threads} threads{note}"),
            rounds,
            || on_threads(threads, || hapax.look_up(&keys)),
            || on_threads(threads, || peer.look_up(&keys)),
        );
    }
}

/// Heap bytes per entry of the cache alone: the books of the handles' heap are counted on their own.
fn memory() {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(MEMORY_ENTRIES).granule_bytes(1)).unwrap();
    let before_handles = LIVE.load(Relaxed);
    let handles: Vec<DevBox<[u8]>> =
        (0..MEMORY_ENTRIES).map(|_| heap.alloc_slice::<u8>(1).unwrap().upload_from(&[1]).unwrap()).collect();
    let in_vec = handles.capacity() * size_of::<DevBox<[u8]>>();
    let span = (LIVE.load(Relaxed) - before_handles - in_vec) as f64 / MEMORY_ENTRIES as f64;
    let cache: VramCache<u128, [u8]> = VramCache::new(&heap, MEMORY_ENTRIES).unwrap();
    let before = LIVE.load(Relaxed);
    for (i, handle) in handles.into_iter().enumerate() {
        cache.insert(key(i as u64), handle).unwrap().free_all().unwrap();
    }
    let after = LIVE.load(Relaxed) + in_vec; // the vector of handles is gone now
    let entry = (after - before) as f64 / MEMORY_ENTRIES as f64;
    println!("heap bytes per entry at {MEMORY_ENTRIES} entries, u128 key, real handle: {entry:.1}");
    println!("the heap's own record of a span, with its byte on the device: {span:.1}");
    assert_eq!(cache.stats().entries as u64, MEMORY_ENTRIES);
}

struct Hapax {
    cache: VramCache<u128, [u8]>,
    stream: Stream,
    heap: Heap,
}

impl Hapax {
    fn filled() -> Self {
        let heap = Heap::new(HostDevice::new(), HeapOptions::new((ENTRIES + 1) * GRANULE)).unwrap();
        let stream = heap.new_stream().unwrap();
        let cache = VramCache::new(&heap, ENTRIES * GRANULE).unwrap();
        let hapax = Hapax { cache, stream, heap };
        for i in 0..ENTRIES {
            hapax.cache.insert(key(i), hapax.handle()).unwrap().free_all().unwrap();
        }
        hapax
    }

    fn handle(&self) -> DevBox<[u8]> {
        self.heap.alloc_slice::<u8>(16).unwrap().upload_from(&[7; 16]).unwrap()
    }

    fn spare(&self) -> Option<DevBox<[u8]>> {
        Some(self.handle())
    }

    fn look_up(&self, keys: &[u128]) {
        for key in keys {
            let lease = self.cache.get(key, &self.stream).unwrap().expect("resident");
            black_box(lease.view().device_address());
        }
    }

    /// Each insert evicts one entry, whose handle the next insert uses.
    fn insert(&self, keys: &[u128], spare: &mut Option<DevBox<[u8]>>) {
        for &key in keys {
            let handle = spare.take().expect("one handle goes round");
            for (_, evicted) in self.cache.insert(key, handle).unwrap() {
                *spare = Some(evicted.revive(&self.stream).unwrap());
            }
        }
    }
}

/// The size of what a hapax slot stores of a handle.
type Payload = [u64; 3];

/// An LRU under a byte budget as it is usually built.
struct Peer(Mutex<(LruCache<u128, Payload>, u64)>);

impl Peer {
    fn filled() -> Self {
        let peer = Peer(Mutex::new((LruCache::unbounded(), 0)));
        for i in 0..ENTRIES {
            peer.insert_one(key(i));
        }
        peer
    }

    fn fill_with(&self, keys: &[u128]) {
        self.insert(keys);
    }

    fn look_up(&self, keys: &[u128]) {
        for key in keys {
            let payload = *self.0.lock().unwrap().0.get(key).expect("resident");
            black_box(payload);
        }
    }

    fn insert(&self, keys: &[u128]) {
        for &key in keys {
            black_box(self.insert_one(key));
        }
    }

    fn insert_one(&self, key: u128) -> Option<Payload> {
        let mut inner = self.0.lock().unwrap();
        let (cache, bytes) = &mut *inner;
        let mut evicted = None;
        while *bytes + GRANULE > ENTRIES * GRANULE {
            evicted = cache.pop_lru().map(|(_, payload)| payload);
            *bytes -= GRANULE;
        }
        if cache.put(key, [7; 3]).is_none() {
            *bytes += GRANULE;
        }
        evicted
    }
}

fn compare(what: &str, rounds: usize, hapax: impl FnMut(), peer: impl FnMut()) {
    let (mut hapax, mut peer) = (hapax, peer);
    compare_on(what, rounds, &mut || (), |()| hapax(), |()| peer());
}

fn compare_on<T>(
    what: &str,
    rounds: usize,
    input: &mut impl FnMut() -> T,
    mut hapax: impl FnMut(&T),
    mut peer: impl FnMut(&T),
) {
    let mut rows: Vec<(f64, f64)> = Vec::new();
    for round in 0..=rounds {
        let input = input();
        let (ours, theirs) = (time(|| hapax(&input)), time(|| peer(&input)));
        if round > 0 {
            rows.push((ours, theirs)); // the first warms up
        }
    }
    let ratio = sorted(rows.iter().map(|(ours, theirs)| ours / theirs));
    let (ours, theirs) = (sorted(rows.iter().map(|row| row.0)), sorted(rows.iter().map(|row| row.1)));
    println!(
        "{what:<32}{:>10.1}{:>10.1}{:>9.2}x{:>10.2} - {:.2}",
        median(&ours),
        median(&theirs),
        median(&ratio),
        ratio[0],
        ratio[ratio.len() - 1]
    );
}

fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / OPERATIONS as f64
}

fn on_threads(threads: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn keys(number: impl Fn(u64) -> u64) -> Vec<u128> {
    (0..OPERATIONS as u64).map(|i| key(number(i))).collect()
}

fn key(number: u64) -> u128 {
    u128::from(mix(number)) << 64 | u128::from(mix(!number))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; only a count is kept beside it.
#[allow(unsafe_code)]
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
