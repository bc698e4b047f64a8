//! Fills that evict, on 4 streams from 4 threads, with a kernel in flight on what each of them just filled; against
//! the same copies and the same kernels on memory that stays.

use crate::driver::call;
use crate::driver::gpu::{function, launch};
use crate::measure::{Spread, Table, bytes};
use crate::{Result, Rig};
use cudarc::driver::sys::{CUfunction, CUstream};
use hapax::{Heap, HeapOptions, Lookup, Stream, VramCache};
use std::time::Instant;

const STREAMS: usize = 4;
const BLOCKS: u32 = 64;

pub fn measure(rig: &Rig, table: &mut Table) -> Result<()> {
    let Rig { gpu, device, scale } = rig;
    let budget_bytes = scale.cache_bytes;
    let heap = Heap::new(device, HeapOptions::new(budget_bytes + budget_bytes / 4).slab_bytes(budget_bytes / 4))?;
    let streams: Vec<Stream> = (0..STREAMS).map(|_| heap.new_stream()).collect::<Result<_>>()?;
    let cache: VramCache<u64, [u8]> = VramCache::new(&heap, budget_bytes)?;
    let contents = vec![3_u8; scale.entry_bytes];
    // Each key is new, so that each lookup misses, and once the budget is full each fill evicts.
    let keys_each = 2 * budget_bytes as usize / scale.entry_bytes / STREAMS;
    let bare: Vec<u64> = (0..STREAMS).map(|_| gpu.alloc(scale.entry_bytes)).collect();
    let (mut own_ns, mut bare_ns) = (Vec::new(), Vec::new());
    for round in 0..=scale.rounds {
        let own = on_every_stream(rig, |thread| {
            let (stream, kernel) = (&streams[thread], function(gpu.module, "read"));
            for key in 0..keys_each {
                let key = ((round * STREAMS + thread) * keys_each + key) as u64;
                let Lookup::Miss(vacancy) = cache.lookup(&key, stream).expect("nothing fails") else {
                    panic!("the key is new");
                };
                let filled = vacancy.fill_from(&contents).expect("there is room");
                filled.evicted.free_all().expect("nothing fails");
                read(kernel, filled.lease.view().device_address(), contents.len(), stream);
            }
            stream.synchronize().expect("nothing fails");
        });
        let plain = on_every_stream(rig, |thread| {
            let (stream, kernel) = (&streams[thread], function(gpu.module, "read"));
            for _ in 0..keys_each {
                call!(cuMemcpyHtoDAsync_v2(bare[thread], contents.as_ptr().cast(), contents.len(), raw(stream)))
                    .and_then(|()| call!(cuStreamSynchronize(raw(stream))))
                    .expect("nothing fails");
                read(kernel, bare[thread], contents.len(), stream);
            }
            stream.synchronize().expect("nothing fails");
        });
        if round > 0 {
            own_ns.push(own / (keys_each * STREAMS) as f64);
            bare_ns.push(plain / (keys_each * STREAMS) as f64);
        }
    }
    assert!(heap.ledger().peak_bytes <= heap.ledger().limit_bytes);
    let stats = cache.stats();
    assert!(stats.evictions > stats.misses / 2, "nearly every fill evicts");
    gpu.free(&bare);
    cache.into_handles().free_all()?;
    drop(streams);
    rig.close(heap)?;
    let rate = |ns: &[f64]| {
        let each_ns = Spread::of(ns).median;
        format!("{:.0} /s, {:.2} GB/s", 1e9 / each_ns, scale.entry_bytes as f64 / each_ns)
    };
    table.row(
        format!("fill + evict + launch on {STREAMS} streams, {} each", bytes(scale.entry_bytes)),
        rate(&own_ns),
        rate(&bare_ns),
        Spread::of_ratios(&bare_ns, &own_ns),
        "",
        None,
    );
    Ok(())
}

/// Nanoseconds until every thread is done.
fn on_every_stream(rig: &Rig, work: impl Fn(usize) + Sync) -> f64 {
    let context = rig.gpu.context.expose_provenance();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..STREAMS {
            let work = &work;
            scope.spawn(move || {
                call!(cuCtxSetCurrent(std::ptr::with_exposed_provenance_mut(context))).expect("nothing fails");
                work(thread);
            });
        }
    });
    begun.elapsed().as_nanos() as f64
}

fn read(kernel: CUfunction, at: u64, bytes: usize, stream: &Stream) {
    launch(kernel, BLOCKS, &[at, bytes as u64], raw(stream)).expect("nothing fails");
}

fn raw(stream: &Stream) -> CUstream {
    std::ptr::with_exposed_provenance_mut(stream.raw().0 as usize)
}
