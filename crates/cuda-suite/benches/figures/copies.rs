//! Uploads and downloads against the bare copy of page-locked memory, which is the fastest that the driver has.

use crate::driver::{Chosen, call, chosen};
use crate::measure::{Spread, Table, bytes, timed};
use crate::{Result, Rig};
use hapax::{Heap, HeapOptions};

/// From here on the target holds: below, the calls themselves weigh more than the bytes.
const TARGET_FROM_BYTES: usize = 1 << 20;
const TARGET: f64 = 0.95;
/// Moved in each round, or at least one copy.
const BYTES_OF_A_ROUND: usize = 64 << 20;

/// Nanoseconds of each round.
#[derive(Default)]
struct Took {
    upload: Vec<f64>,
    download: Vec<f64>,
    upload_from: Vec<f64>,
    download_to: Vec<f64>,
    bare_up: Vec<f64>,
    bare_down: Vec<f64>,
}

pub fn measure(rig: &Rig, table: &mut Table) -> Result<()> {
    let sizes = [4 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20, 1 << 30];
    for size in sizes.into_iter().filter(|size| *size <= rig.scale.largest_copy_bytes) {
        let took = one_size(rig, size)?;
        let pairs = [
            ("upload, page-locked", &took.upload, &took.bare_up, true),
            ("download, page-locked", &took.download, &took.bare_down, true),
            ("upload_from, any memory", &took.upload_from, &took.bare_up, false),
            ("download_to, any memory", &took.download_to, &took.bare_down, false),
        ];
        for (what, own, bare, aimed) in pairs {
            // Of bandwidths, not of times: more is better.
            let ratio = Spread::of_ratios(bare, own);
            let target = if aimed && size >= TARGET_FROM_BYTES { ">= 0.95" } else { "" };
            let met = (!target.is_empty() && chosen() == Chosen::Card).then_some(ratio.median >= TARGET);
            let rate = |ns: &[f64]| format!("{:.2} GB/s", size as f64 / Spread::of(ns).median);
            table.row(format!("{what}, {}", bytes(size)), rate(own), rate(bare), ratio, target, met);
        }
    }
    Ok(())
}

/// Each copy is waited for, as both sides of hapax's are.
fn one_size(rig: &Rig, size: usize) -> Result<Took> {
    let Rig { gpu, device, scale } = rig;
    let heap = Heap::new(device, HeapOptions::new((size as u64).max(1 << 20)).slab_bytes(size as u64))?;
    let stream = heap.new_stream()?;
    let mut staging = heap.page_locked_slice::<u8>(size)?;
    let mut pageable = vec![1_u8; size];
    let (bare_stream, bare_device, bare_host) = (gpu.stream(), gpu.alloc(size), gpu.page_locked(size));
    let mut took = Took::default();
    let repeats = (BYTES_OF_A_ROUND / size).clamp(1, scale.repeats);
    for round in 0..=scale.rounds {
        let mut ns = [0.0; 6];
        for _ in 0..repeats {
            let memory = heap.alloc_slice::<u8>(size)?;
            let (handle, landed) = timed(&mut ns[0], || -> Result<_> { Ok(memory.upload(staging, &stream)?.wait()?) })?;
            let (handle, landed) =
                timed(&mut ns[1], || -> Result<_> { Ok(handle.download(landed, &stream)?.wait()?) })?;
            staging = landed;
            handle.free()?;
            let memory = heap.alloc_slice::<u8>(size)?;
            let handle = timed(&mut ns[2], || memory.upload_from(&pageable))?;
            timed(&mut ns[3], || handle.download_to(&mut pageable))?;
            handle.free()?;
            timed(&mut ns[4], || {
                call!(cuMemcpyHtoDAsync_v2(bare_device, bare_host.cast(), size, bare_stream)).expect("nothing fails");
                gpu.sync(bare_stream);
            });
            timed(&mut ns[5], || {
                call!(cuMemcpyDtoHAsync_v2(bare_host.cast(), bare_device, size, bare_stream)).expect("nothing fails");
                gpu.sync(bare_stream);
            });
        }
        if round > 0 {
            let all = [
                &mut took.upload,
                &mut took.download,
                &mut took.upload_from,
                &mut took.download_to,
                &mut took.bare_up,
                &mut took.bare_down,
            ];
            all.into_iter().zip(ns).for_each(|(all, ns)| all.push(ns / repeats as f64));
        }
    }
    gpu.end(&[bare_stream]);
    gpu.free(&[bare_device]);
    gpu.free_page_locked(bare_host);
    drop((staging, stream));
    rig.close(heap)?;
    Ok(took)
}
