//! What an eviction costs beside leased entries: `cargo bench --bench passing`. 10,000 entries at the end of the queue
//! are leased, 100,000 stand behind them; rounds alternate with a cache in which none is. The first eviction passes all of
//! them over, those after it meet none.

use hapax::{CacheOptions, DevBox, DryDevice, Heap, HeapOptions, Lease, Mode, Policy, Stream, VramCache};
use std::time::Instant;

const ENTRIES: u64 = 110_000;
const LEASED: u64 = 10_000;
const BYTES: u64 = 256;
const BATCHES: u64 = 200;
const BATCH: u64 = 250;
const ROUNDS: usize = 15;

type Cache = VramCache<u64, [u8]>;

fn main() {
    // `cargo test --benches` runs this too, to see that it works.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    println!("{LEASED} of {ENTRIES} entries leased, {rounds} rounds; least, median, greatest");
    for (policy, mode) in
        [Policy::Lru, Policy::Camp].into_iter().flat_map(|policy| [(policy, Mode::Exact), (policy, Mode::Relaxed)])
    {
        let (mut first, mut later, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (first_ns, leased_ns) = evictions(policy, mode, LEASED);
            let (_, free_ns) = evictions(policy, mode, 0);
            first.push(first_ns / 1000.0);
            later.push(leased_ns);
            ratios.push(leased_ns / free_ns);
        }
        print(policy, mode, "the first eviction, us", &mut first);
        print(policy, mode, "each after it, ns", &mut later);
        print(policy, mode, "each after it, to none leased", &mut ratios);
    }
}

/// Nanoseconds of the first eviction, and of each after it.
fn evictions(policy: Policy, mode: Mode, leased: u64) -> (f64, f64) {
    let heap = Heap::new(DryDevice::new(), HeapOptions::new((ENTRIES + 1) * BYTES)).unwrap();
    let stream = heap.new_stream().unwrap();
    let options = CacheOptions::new(ENTRIES * BYTES).policy(policy).mode(mode);
    let cache: Cache = VramCache::with_options(&heap, options).unwrap();
    let handle = || heap.alloc_slice::<u8>(BYTES as usize).unwrap().zero(&stream).unwrap();
    for key in 0..ENTRIES {
        cache.insert_with_cost(key, handle(), 1000).unwrap().free_all().unwrap();
    }
    let leases: Vec<Lease<'_, u64, DevBox<[u8]>>> =
        (0..leased).map(|key| cache.get(&key, &stream).unwrap().expect("resident")).collect();
    // The leases were uses. Used again, everything else is younger.
    for key in leased..ENTRIES {
        drop(cache.get(&key, &stream).unwrap());
    }
    let mut spare = Some(handle());
    let start = Instant::now();
    evict_one(&cache, ENTRIES, &mut spare, &stream);
    let first_ns = start.elapsed().as_nanos() as f64;
    // By batches, so that one that another program interrupted does not count.
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|batch| {
            let start = Instant::now();
            for key in (ENTRIES + 1 + batch * BATCH..).take(BATCH as usize) {
                evict_one(&cache, key, &mut spare, &stream);
            }
            start.elapsed().as_nanos() as f64 / BATCH as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    let each_ns = batches[batches.len() / 2];
    assert!((0..leased).all(|key| cache.contains(&key)), "leased entries stay");
    drop(leases);
    (first_ns, each_ns)
}

fn evict_one(cache: &Cache, key: u64, spare: &mut Option<DevBox<[u8]>>, stream: &Stream) {
    for (_, evicted) in cache.insert_with_cost(key, spare.take().expect("one handle goes round"), 1000).unwrap() {
        *spare = Some(evicted.revive(stream).unwrap());
    }
}

fn print(policy: Policy, mode: Mode, what: &str, figures: &mut [f64]) {
    figures.sort_by(f64::total_cmp);
    let [least, median, greatest] = [0, figures.len() / 2, figures.len() - 1].map(|at| figures[at]);
    println!("{:<14}{what:<32}{least:>10.2}{median:>10.2}{greatest:>10.2}", format!("{policy:?} {mode:?}"));
}
