//! From a lookup that hits to the launch of a kernel on what it found, against the launch alone.

use crate::driver::gpu::{function, launch};
use crate::driver::{Chosen, chosen};
use crate::measure::{Spread, Table, each_ns, ns};
use crate::{Result, Rig};
use cudarc::driver::sys::CUstream;
use hapax::{Heap, HeapOptions, VramCache};

const ENTRIES: u64 = 1000;
/// Launches of a batch: fewer than a card queues before a launch waits for an earlier one.
const BATCH: usize = 256;
const TARGET_NS: f64 = 200.0;

pub fn measure(rig: &Rig, table: &mut Table) -> Result<()> {
    let Rig { gpu, device, scale } = rig;
    let heap = Heap::new(device, HeapOptions::new(4 << 20))?;
    let stream = heap.new_stream()?;
    let raw: CUstream = std::ptr::with_exposed_provenance_mut(stream.raw().0 as usize);
    let cache: VramCache<u64, [u32]> = VramCache::new(&heap, 1 << 20)?;
    let mut addresses = Vec::new();
    for key in 0..ENTRIES {
        let value = heap.alloc_slice::<u32>(64)?.upload_from(&[0; 64])?;
        cache.insert(key, value)?.free_all()?;
        addresses.push(cache.get(&key, &stream)?.expect("just put in").view().device_address());
    }
    let kernel = function(gpu.module, "fill");
    let batch = BATCH.min(scale.repeats);
    let (mut bare, mut with_hit, mut hit_alone) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=scale.rounds * 4 {
        let mut at = 0..ENTRIES as usize;
        let mut next = move || at.next().expect("more entries than a batch launches");
        stream.synchronize()?;
        let launches = each_ns(batch, || launch(kernel, 1, &[addresses[next()], 1, 7], raw).expect("nothing fails"));
        let mut at = 0..ENTRIES;
        let mut next = move || at.next().expect("more entries than a batch launches");
        stream.synchronize()?;
        let looked_up = each_ns(batch, || {
            let lease = cache.get(&next(), &stream).expect("nothing fails").expect("it is resident");
            launch(kernel, 1, &[lease.view().device_address(), 1, 7], raw).expect("nothing fails");
        });
        let mut at = 0..ENTRIES;
        let mut next = move || at.next().expect("more entries than a batch looks up");
        stream.synchronize()?;
        let alone = each_ns(batch, || {
            let lease = cache.get(&next(), &stream).expect("nothing fails").expect("it is resident");
            std::hint::black_box(lease.view().device_address());
        });
        if round > 0 {
            bare.push(launches);
            with_hit.push(looked_up);
            hit_alone.push(alone);
        }
    }
    cache.into_handles().free_all()?;
    drop(stream);
    rig.close(heap)?;
    let [bare_ns, with_ns] = [&bare, &with_hit].map(|all| ns(Spread::of(all).median));
    table.row("lookup-hit + launch", with_ns.clone(), bare_ns.clone(), Spread::of_ratios(&with_hit, &bare), "", None);
    let added: Vec<f64> = with_hit.iter().zip(&bare).map(|(with, bare)| with - bare).collect();
    let added = Spread::of(&added);
    let met = (chosen() == Chosen::Card).then_some(added.median <= TARGET_NS);
    table.own("what the hit adds to a launch", added, "<= 200 ns", met);
    table.own("a lookup-hit and its release, without a launch", Spread::of(&hit_alone), "", None);
    Ok(())
}
