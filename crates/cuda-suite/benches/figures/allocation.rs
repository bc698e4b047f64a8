//! An allocation and its end: from a heap, and from the driver in both its ways.
#![expect(unsafe_code, reason = "says that a kernel wrote memory which nobody reads")]

use crate::driver::{Chosen, call, chosen};
use crate::measure::{Spread, Table, bytes, each_ns, ns};
use crate::{Result, Rig};
use cudarc::driver::sys::{self, CUmemPool_attribute_enum as Attribute};
use hapax::{Heap, HeapOptions};

pub fn measure(rig: &Rig, table: &mut Table) -> Result<()> {
    let pool = call!(cuDeviceGetDefaultMemPool(-> sys::CUmemoryPool, 0)).expect("the card has pools");
    // The bare pool at its best: it keeps what it was given back, as a heap does.
    keep(pool, u64::MAX);
    for size in [4 << 10, 64 << 10, 1 << 20, 16 << 20] {
        one_size(rig, table, size)?;
    }
    call!(cuCtxSynchronize()).expect("the device works");
    keep(pool, 0);
    call!(cuMemPoolTrimTo(pool, 0)).expect("an idle pool");
    Ok(())
}

fn one_size(rig: &Rig, table: &mut Table, size: usize) -> Result<()> {
    let Rig { gpu, device, scale } = rig;
    let heap = Heap::new(device, HeapOptions::new(256 << 20))?;
    let stream = heap.new_stream()?;
    let bare_stream = gpu.stream();
    let mut took: [Vec<f64>; 4] = Default::default();
    for round in 0..=scale.rounds {
        let from_heap = each_ns(scale.repeats, || {
            heap.alloc_slice::<u8>(size).expect("there is room").free().expect("nothing fails");
        });
        let used = each_ns(scale.repeats, || {
            let memory = heap.alloc_slice::<u8>(size).expect("there is room");
            // SAFETY: bytes of any value are valid, and nobody reads them.
            let handle = unsafe { memory.written_on(&stream) }.expect("nothing fails");
            handle.free().expect("nothing fails");
        });
        heap.settle()?;
        let synchronous = each_ns((scale.repeats / 40).max(5), || {
            let address = call!(cuMemAlloc_v2(-> u64, size)).expect("there is room");
            call!(cuMemFree_v2(address)).expect("nothing fails");
        });
        let pooled = each_ns(scale.repeats, || {
            let address = call!(cuMemAllocAsync(-> u64, size, bare_stream)).expect("there is room");
            call!(cuMemFreeAsync(address, bare_stream)).expect("nothing fails");
        });
        gpu.sync(bare_stream);
        // The first round warms up.
        if round > 0 {
            took.iter_mut().zip([from_heap, used, synchronous, pooled]).for_each(|(all, one)| all.push(one));
        }
    }
    gpu.end(&[bare_stream]);
    drop(stream);
    rig.close(heap)?;
    let [from_heap, used, synchronous, pooled] = &took;
    let on_a_card = chosen() == Chosen::Card;
    for (what, own, bare, name, most) in [
        ("allocate + free", from_heap, pooled, "cuMemAllocAsync + cuMemFreeAsync", Some(0.5)),
        ("allocate + use on a stream + free", used, pooled, "cuMemAllocAsync + cuMemFreeAsync", None),
        ("allocate + free", from_heap, synchronous, "cuMemAlloc + cuMemFree", None),
    ] {
        let ratio = Spread::of_ratios(own, bare);
        let medians = [own, bare].map(|all| ns(Spread::of(all).median));
        let [own, bare] = medians;
        table.row(
            format!("{what}, {}", bytes(size)),
            own,
            format!("{bare} ({name})"),
            ratio,
            &most.map_or(String::new(), |most: f64| format!("<= {most}")),
            most.filter(|_| on_a_card).map(|most| ratio.median <= most),
        );
    }
    Ok(())
}

fn keep(pool: sys::CUmemoryPool, mut bytes: u64) {
    let threshold = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    call!(cuMemPoolSetAttribute(pool, threshold, (&raw mut bytes).cast())).expect("a setting of every pool");
}
