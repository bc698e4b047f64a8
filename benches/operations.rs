//! What single operations cost, on host memory: `cargo bench --bench operations`.
//! For ratios to a peer see `figures.rs`.

#![allow(missing_docs, reason = "criterion_group makes a public function")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hapax::{DevBox, Heap, HeapOptions, HostDevice, Lookup, Stream, VramCache};
use std::hint::black_box;
use std::time::{Duration, Instant};

const GRANULE: u64 = 256;
const ENTRIES: u64 = 10_000;

fn handle_transitions(c: &mut Criterion) {
    let (heap, stream) = room();
    let mut group = c.benchmark_group("handle");
    group.bench_function("alloc + drop", |b| b.iter(|| heap.alloc_slice::<u8>(64).unwrap()));
    group.bench_function("alloc + free", |b| b.iter(|| heap.alloc_slice::<u8>(64).unwrap().free().unwrap()));
    group.bench_function("empty alloc + drop", |b| b.iter(|| heap.alloc_slice::<u8>(0).unwrap()));
    let mut ready = Some(handle(&heap));
    group.bench_function("view", |b| {
        let handle = ready.as_ref().unwrap();
        b.iter(|| black_box(handle.on(&stream).unwrap().device_address()));
    });
    group.bench_function("export + reclaim", |b| {
        b.iter(|| {
            let exported = ready.take().unwrap().export();
            // SAFETY: nothing used the memory in between.
            #[allow(unsafe_code)]
            let back = unsafe { exported.reclaim() };
            ready = Some(back);
        });
    });
    for bytes in [4 << 10, 1 << 20] {
        let contents = vec![7u8; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::new("upload_from", bytes), &contents, |b, contents| {
            b.iter_batched(
                || heap.alloc_slice::<u8>(contents.len()).unwrap(),
                |memory| memory.upload_from(contents).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Allocation and freeing in a heap that is kept nine tenths full of blocks of mixed sizes.
fn suballocation(c: &mut Criterion) {
    let (heap, _) = room();
    let limit = heap.limit_bytes();
    let mut random = 1u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % below
    };
    let mut live: Vec<DevBox<[u8], _>> = Vec::new();
    while heap.ledger().live_bytes < limit / 10 * 9 {
        live.push(heap.alloc_slice::<u8>(1 + next(16_384) as usize).unwrap());
    }
    c.bench_function("suballocation/alloc + free at 90 % full", |b| {
        b.iter(|| {
            let at = next(live.len() as u64) as usize;
            live.swap_remove(at).free().unwrap();
            live.push(heap.alloc_slice::<u8>(1 + next(16_384) as usize).unwrap());
        });
    });
}

fn cache_operations(c: &mut Criterion) {
    let (heap, stream) = room();
    let cache = filled(&heap);
    let mut group = c.benchmark_group("cache");
    let mut i = 0;
    group.bench_function("lookup-hit + release", |b| {
        b.iter(|| {
            i = (i + 7919) % ENTRIES;
            let lease = cache.get(&i, &stream).unwrap().unwrap();
            black_box(lease.view().device_address())
        });
    });
    let mut key = ENTRIES;
    let mut spare = Some(handle(&heap));
    group.bench_function("insert + evict", |b| {
        b.iter(|| {
            key += 1;
            for (_, evicted) in cache.insert(key, spare.take().unwrap()).unwrap() {
                spare = Some(evicted.revive(&stream).unwrap());
            }
        });
    });
    group.bench_function("miss + fill_from 64 bytes", |b| {
        b.iter(|| {
            key += 1;
            match cache.lookup(&key, &stream).unwrap() {
                Lookup::Miss(vacancy) => drop(vacancy.fill_from(&[7; 64]).unwrap()),
                Lookup::Hit(_) => unreachable!("every key is new"),
            }
        });
    });
    group.finish();
}

/// Nanoseconds per hit as one thread sees them, with so many at work. More threads than cores are oversubscribed.
fn contention(c: &mut Criterion) {
    let (heap, _) = room();
    let cache = filled(&heap);
    let mut group = c.benchmark_group("contention");
    for threads in [1u64, 2, 4] {
        group.bench_with_input(BenchmarkId::new("lookup-hit + release", threads), &threads, |b, &threads| {
            b.iter_custom(|iterations| on_threads(threads, iterations, &cache, &heap));
        });
    }
    group.finish();
}

fn on_threads(threads: u64, iterations: u64, cache: &VramCache<u64, [u8]>, heap: &Heap) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let stream = heap.new_stream().unwrap();
            scope.spawn(move || {
                let mut key = thread * 997;
                for _ in 0..iterations {
                    key = (key + 7919) % ENTRIES;
                    black_box(cache.get(&key, &stream).unwrap().unwrap().view().device_address());
                }
            });
        }
    });
    start.elapsed()
}

fn room() -> (Heap, Stream) {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(64 << 20)).unwrap();
    let stream = heap.new_stream().unwrap();
    (heap, stream)
}

fn handle(heap: &Heap) -> DevBox<[u8]> {
    heap.alloc_slice::<u8>(64).unwrap().upload_from(&[7; 64]).unwrap()
}

fn filled(heap: &Heap) -> VramCache<u64, [u8]> {
    let cache = VramCache::new(heap, ENTRIES * GRANULE).unwrap();
    for key in 0..ENTRIES {
        cache.insert(key, handle(heap)).unwrap().free_all().unwrap();
    }
    cache
}

criterion_group!(benches, handle_transitions, suballocation, cache_operations, contention);
criterion_main!(benches);
