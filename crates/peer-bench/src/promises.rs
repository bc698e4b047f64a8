//! What the caches do with their budget: how far the bytes alive exceed it, what they refuse, what a large item evicts.

use crate::work::{code_bytes, key};
use hapax::{CacheOptions, DryDevice, Heap, HeapOptions, Lookup, Mode, VramCache};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

const BUDGET: u64 = 64 << 20;
const INSERTS: u64 = 20_000;
const THREADS: u64 = 2;
const BUSY_RUNS: usize = 5;

pub struct Row {
    pub name: &'static str,
    /// The most bytes alive at once, to the budget: values whose destructor had not run, the new one included.
    pub worst_live: f64,
    /// Of 20 items of 4 % of the budget each, how many are resident together.
    pub items_of_4_percent: usize,
    /// The largest single item that an empty cache keeps, in per cent of its budget.
    pub largest_percent: u64,
    /// Of 1,000 entries that fit, how many are resident.
    pub before_oversize: usize,
    /// And how many are after an item of one and a half budgets was offered.
    pub after_oversize: usize,
}

/// A value whose bytes are counted while it lives.
#[derive(Clone)]
struct Value(Arc<Counted>);

struct Counted {
    bytes: u64,
    live: Arc<Live>,
}

#[derive(Default)]
struct Live {
    now: AtomicI64,
    most: AtomicI64,
}

impl Value {
    fn new(bytes: u64, live: &Arc<Live>) -> Self {
        let now = live.now.fetch_add(bytes as i64, Relaxed) + bytes as i64;
        live.most.fetch_max(now, Relaxed);
        Value(Arc::new(Counted { bytes, live: live.clone() }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.now.fetch_sub(self.bytes as i64, Relaxed);
    }
}

/// A cache by bytes: `put` may refuse.
trait ByBytes: Sync {
    fn put(&self, key: u128, bytes: u64);
    fn has(&self, key: u128) -> bool;
    /// The most bytes alive so far.
    fn most_live(&self) -> u64;
    /// Lets work in the background come to its end.
    fn settle(&self) {}
}

pub fn rows() -> Vec<Row> {
    vec![
        row("hapax", |budget| Box::new(Hapax::new(budget, Mode::Exact))),
        row("hapax relaxed", |budget| Box::new(Hapax::new(budget, Mode::Relaxed))),
        row("Mutex<lru>", |budget| Box::new(Peer::new(MutexLru::new(budget)))),
        row("quick_cache", |budget| Box::new(Peer::new(quick_cache(budget)))),
        row("moka", |budget| Box::new(Peer::new(moka(budget)))),
        row("foyer-memory", |budget| Box::new(Peer::new(foyer(budget)))),
        row("TinyUFO", |budget| Box::new(Peer::new(TinyUfo::new(budget)))),
    ]
}

fn row(name: &'static str, new: impl Fn(u64) -> Box<dyn ByBytes>) -> Row {
    // Several: whether housekeeping comes in time differs from run to run.
    let most_live = (0..BUSY_RUNS).map(|_| most_live(&*new(BUDGET))).max().expect("one run at least");
    let items = new(BUDGET);
    (0..20).for_each(|i| items.put(key(i), BUDGET / 25));
    items.settle();
    let largest = (1..=100).rev().find(|percent| {
        let empty = new(BUDGET);
        empty.put(key(0), BUDGET / 100 * percent);
        empty.settle();
        empty.has(key(0))
    });
    let full = new(BUDGET);
    // In whole granules of hapax's heap, so that a thousand fit everywhere.
    (0..1000).for_each(|i| full.put(key(i), BUDGET / 1000 / 256 * 256));
    full.settle();
    let before_oversize = (0..1000).filter(|&i| full.has(key(i))).count();
    full.put(key(5000), BUDGET / 2 * 3);
    full.settle();
    Row {
        name,
        worst_live: most_live as f64 / BUDGET as f64,
        items_of_4_percent: (0..20).filter(|&i| items.has(key(i))).count(),
        largest_percent: largest.unwrap_or(0),
        before_oversize,
        after_oversize: (0..1000).filter(|&i| full.has(key(i))).count(),
    }
}

/// The most bytes alive at once while threads insert.
fn most_live(busy: &dyn ByBytes) -> u64 {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                (0..INSERTS / THREADS)
                    .for_each(|i| busy.put(key(i * THREADS + thread), code_bytes(i * THREADS + thread)));
            });
        }
    });
    busy.most_live()
}

/// Filled as its documentation says: room first, then memory.
struct Hapax {
    cache: VramCache<u128, [u8]>,
    heap: Heap,
}

impl Hapax {
    fn new(budget: u64, mode: Mode) -> Self {
        // Room beyond the budget is for fragments alone; the ledger shows what is used of it.
        let heap = Heap::new(DryDevice::new(), HeapOptions::new(4 * budget).slab_bytes(4 * budget)).unwrap();
        let cache = VramCache::with_options(&heap, CacheOptions::new(budget).mode(mode)).unwrap();
        Hapax { cache, heap }
    }
}

impl ByBytes for Hapax {
    fn put(&self, key: u128, bytes: u64) {
        let stream = self.heap.new_stream().unwrap();
        let Lookup::Miss(vacancy) = self.cache.lookup(&key, &stream).unwrap() else { return };
        let Ok((reservation, evicted)) = vacancy.reserve(bytes) else { return };
        evicted.free_all().unwrap();
        let handle = reservation.alloc_slice(bytes as usize).unwrap().zero(&stream).unwrap();
        drop(reservation.commit(handle).map_err(|refused| refused.error).unwrap());
    }

    fn has(&self, key: u128) -> bool {
        self.cache.contains(&key)
    }

    fn most_live(&self) -> u64 {
        self.heap.ledger().peak_bytes
    }
}

struct Peer<C> {
    cache: C,
    live: Arc<Live>,
}

impl<C> Peer<C> {
    fn new(cache: C) -> Self {
        Peer { cache, live: Arc::default() }
    }
}

/// What the peers offer.
trait Values: Sync {
    fn put(&self, key: u128, value: Value);
    fn has(&self, key: u128) -> bool;
    fn settle(&self) {}
}

impl<C: Values> ByBytes for Peer<C> {
    fn put(&self, key: u128, bytes: u64) {
        self.cache.put(key, Value::new(bytes, &self.live));
    }

    fn has(&self, key: u128) -> bool {
        self.cache.has(key)
    }

    fn most_live(&self) -> u64 {
        self.live.most.load(Relaxed) as u64
    }

    fn settle(&self) {
        self.cache.settle();
    }
}

struct MutexLru {
    inner: Mutex<(lru::LruCache<u128, Value>, u64)>,
    budget: u64,
}

impl MutexLru {
    fn new(budget: u64) -> Self {
        MutexLru { inner: Mutex::new((lru::LruCache::unbounded(), 0)), budget }
    }
}

impl Values for MutexLru {
    fn put(&self, key: u128, value: Value) {
        let mut inner = self.inner.lock().unwrap();
        let (cache, bytes) = &mut *inner;
        *bytes += value.0.bytes;
        if let Some(old) = cache.put(key, value) {
            *bytes -= old.0.bytes;
        }
        while *bytes > self.budget {
            let Some((_, old)) = cache.pop_lru() else { break };
            *bytes -= old.0.bytes;
        }
    }

    fn has(&self, key: u128) -> bool {
        self.inner.lock().unwrap().0.contains(&key)
    }
}

#[derive(Clone)]
struct Bytes;

impl quick_cache::Weighter<u128, Value> for Bytes {
    fn weight(&self, _: &u128, value: &Value) -> u64 {
        value.0.bytes
    }
}

type QuickCache = quick_cache::sync::Cache<u128, Value, Bytes>;

fn quick_cache(budget: u64) -> QuickCache {
    QuickCache::with_weighter((budget / (16 << 10)) as usize, budget, Bytes)
}

impl Values for QuickCache {
    fn put(&self, key: u128, value: Value) {
        self.insert(key, value);
    }

    fn has(&self, key: u128) -> bool {
        self.contains_key(&key)
    }
}

type Moka = moka::sync::Cache<u128, Value>;

fn moka(budget: u64) -> Moka {
    moka::sync::Cache::builder().max_capacity(budget).weigher(|_, value: &Value| value.0.bytes as u32).build()
}

impl Values for Moka {
    fn put(&self, key: u128, value: Value) {
        self.insert(key, value);
    }

    fn has(&self, key: u128) -> bool {
        self.contains_key(&key)
    }

    fn settle(&self) {
        self.run_pending_tasks();
    }
}

type Foyer = foyer_memory::Cache<u128, Value>;

fn foyer(budget: u64) -> Foyer {
    foyer_memory::CacheBuilder::new(budget as usize)
        .with_eviction_config(foyer_memory::LruConfig::default())
        .with_weighter(|_: &u128, value: &Value| value.0.bytes as usize)
        .build()
}

impl Values for Foyer {
    fn put(&self, key: u128, value: Value) {
        drop(self.insert(key, value));
    }

    fn has(&self, key: u128) -> bool {
        self.contains(&key)
    }
}

/// Its weights have 16 bits, so they are in KiB, and no item above 64 MiB can be told.
struct TinyUfo(tinyufo::TinyUfo<u128, Value>);

impl TinyUfo {
    fn new(budget: u64) -> Self {
        TinyUfo(tinyufo::TinyUfo::new((budget >> 10) as usize, (budget >> 14) as usize))
    }
}

impl Values for TinyUfo {
    fn put(&self, key: u128, value: Value) {
        let weight = value.0.bytes.div_ceil(1 << 10).min(u16::MAX.into());
        drop(self.0.put(key, value, weight as u16));
    }

    fn has(&self, key: u128) -> bool {
        self.0.get(&key).is_some()
    }
}
