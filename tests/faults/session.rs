//! A session that makes every kind of call: handles in all their states, a cache with leases, evictions and fills,
//! and the end of it all. What it reads back must be what it wrote, whichever call failed on the way.

use crate::witness::{Cache, Lost, Witness};
use hapax::{CacheOptions, DevBox, DeviceRef, Heap, HeapOptions, Landed, Lookup, Mode, Stream};
use std::sync::Arc;

pub fn session(witness: &Witness, device: &DeviceRef, mode: Mode) -> Result<(), Lost> {
    let options = || HeapOptions::new(4096).granule_bytes(16).slab_bytes(256).on_leak(|_| ());
    let heap = witness.call(|| Heap::new(device, options()))?;
    witness.watch(&heap, None);
    let a = witness.call(|| heap.new_stream())?;
    let b = witness.call(|| heap.new_stream())?;
    copies_that_block(witness, &heap)?;
    let unstaged = witness.call(|| Heap::new(device, options().staging_bytes(0)))?;
    copies_that_block(witness, &unstaged)?;
    witness.take(unstaged, Heap::close)?;
    copies_in_flight(witness, &heap, &a, &b)?;
    views(witness, &heap, &a, &b)?;
    streams_that_end(witness, &heap)?;
    let cache = Arc::new(Cache::with_options(&heap, CacheOptions::new(256).mode(mode)).unwrap());
    witness.watch(&heap, Some(&cache));
    inserts_and_hits(witness, &cache, mode, &a, &b)?;
    fills(witness, &cache, &a, &b)?;
    leases_and_retired(witness, &cache, &a)?;
    witness.watch(&heap, None);
    drop(cache);
    drop((a, b));
    witness.call(|| heap.settle())?;
    let ledger = heap.ledger();
    assert_eq!((ledger.live_bytes, ledger.live_blocks, ledger.freeing_bytes), (0, 0, 0));
    witness.call(|| heap.trim())?;
    witness.take(heap.clone(), Heap::close)?;
    assert_eq!(heap.ledger().slab_bytes, 0);
    Ok(())
}

fn ready(witness: &Witness, heap: &Heap, contents: &[u8]) -> Result<DevBox<[u8]>, Lost> {
    let memory = witness.call(|| heap.alloc_slice(contents.len()))?;
    witness.take(memory, |memory| memory.upload_from(contents))
}

/// Its upload stays pending on `stream`.
fn pending(witness: &Witness, heap: &Heap, contents: &[u8], stream: &Stream) -> Result<DevBox<[u8]>, Lost> {
    let mut staging = witness.call(|| heap.page_locked_slice(contents.len()))?;
    staging.copy_from_slice(contents);
    let memory = witness.call(|| heap.alloc_slice(contents.len()))?;
    let flying = witness.take((memory, staging), |(memory, staging)| memory.upload(staging, stream))?;
    witness.take(flying, |flying| flying.ready_on(stream))
}

fn check(witness: &Witness, handle: &DevBox<[u8]>, expected: &[u8]) -> Result<(), Lost> {
    let mut back = vec![0; handle.len()];
    witness.call(|| handle.download_to(&mut back))?;
    assert_eq!(back, expected);
    Ok(())
}

fn copies_that_block(witness: &Witness, heap: &Heap) -> Result<(), Lost> {
    let small = ready(witness, heap, b"small")?;
    let large = ready(witness, heap, &[7; 300])?; // a slab of its own
    check(witness, &small, b"small")?;
    check(witness, &large, &[7; 300])?;
    let value = witness.call(|| heap.alloc::<u64>())?;
    let value = witness.take(value, |value| value.upload_from(&8))?;
    assert!(value.free().is_ok() && large.free().is_ok());
    drop(small);
    Ok(())
}

fn copies_in_flight(witness: &Witness, heap: &Heap, a: &Stream, b: &Stream) -> Result<(), Lost> {
    let mut staging = witness.call(|| heap.page_locked_slice::<u8>(20))?;
    staging.fill(1);
    let memory = witness.call(|| heap.alloc_slice::<u8>(20))?;
    let flying = witness.take((memory, staging), |(memory, staging)| memory.upload(staging, a))?;
    let (handle, mut staging) = witness.take(flying, |flying| flying.wait())?;
    staging.fill(0);
    let flying = witness.take((handle, staging), |(handle, staging)| handle.download(staging, b))?;
    let (handle, staging) = match witness.take(flying, |flying| flying.try_wait())? {
        Landed::Yes(handle, staging) => (handle, staging),
        Landed::NotYet(flying) => witness.take(flying, |flying| flying.wait())?,
    };
    assert_eq!(*staging, [1; 20]);
    // Dropped in flight, both ways.
    drop(witness.take((handle, staging), |(handle, staging)| handle.download(staging, a))?);
    let staging = witness.call(|| heap.page_locked_slice::<u8>(5000))?;
    let memory = witness.call(|| heap.alloc_slice::<u8>(5000 / 2))?;
    // Refused for its length, which is no failure of the device.
    let (memory, staging) = memory.upload(staging, b).expect_err("the lengths differ").handle;
    drop((memory, staging));
    let staging = witness.call(|| heap.page_locked_slice::<u8>(100))?;
    let memory = witness.call(|| heap.alloc_slice::<u8>(100))?;
    drop(witness.take((memory, staging), |(memory, staging)| memory.upload(staging, b))?);
    witness.check_books();
    let handle = pending(witness, heap, b"crossing", a)?;
    // The buffer is parked without its block, and if the wait for it fails it still is: nobody else may get it.
    witness.call(|| heap.settle())?;
    let others = (0..6).map(|_| witness.call(|| heap.page_locked_slice::<u8>(8))).collect::<Result<Vec<_>, _>>()?;
    drop(others);
    let flying = {
        let staging = witness.call(|| heap.page_locked_slice(8))?;
        witness.take((handle, staging), |(handle, staging)| handle.download(staging, b))?
    };
    let handle = witness.take(flying, |flying| flying.ready_on(a))?;
    check(witness, &handle, b"crossing")
}

fn views(witness: &Witness, heap: &Heap, a: &Stream, b: &Stream) -> Result<(), Lost> {
    let memory = witness.call(|| heap.alloc_slice::<u8>(32))?;
    let mut zeroed = witness.take(memory, |memory| memory.zero(a))?;
    let mut back = [1; 16];
    witness.call(|| zeroed.on(b)?.slice(8..24)?.download_to(&mut back))?;
    assert_eq!(back, [0; 16]);
    witness.call(|| zeroed.on_mut(b).map(drop))?;
    witness.call(|| zeroed.on_mut(a).map(drop))?;
    let written = witness.call(|| heap.alloc_slice::<u8>(4))?;
    #[expect(unsafe_code, reason = "a state like the others")]
    // SAFETY: nothing is pending, and the memory of both devices is initialised before it is handed out.
    let written = witness.take(written, |written| unsafe { written.written_on(a) })?;
    witness.call(|| written.on(b).map(drop))?;
    assert!(written.free().is_ok());
    witness.call(|| heap.settle())?;
    let exported = zeroed.export();
    assert!(exported.device_address() != 0);
    #[expect(unsafe_code, reason = "a state like the others")]
    // SAFETY: nobody took the address.
    let back = unsafe { exported.reclaim() };
    check(witness, &back, &[0; 32])
}

/// With work that is over, with work that is not, and without any.
fn streams_that_end(witness: &Witness, heap: &Heap) -> Result<(), Lost> {
    let mut used = Vec::new();
    for round in 0..3u8 {
        let stream = witness.call(|| heap.new_stream())?;
        used.push(pending(witness, heap, &[round; 24], &stream)?);
        if round == 1 {
            witness.call(|| stream.synchronize())?;
        }
    }
    for (round, handle) in (0..).zip(used) {
        check(witness, &handle, &[round; 24])?;
    }
    witness.call(|| heap.settle())?; // marks them, once their writes are settled
    witness.run_all();
    witness.call(|| heap.settle())?;
    drop(witness.call(|| heap.new_stream())?);
    witness.call(|| heap.settle()).map(drop)
}

fn inserts_and_hits(witness: &Witness, cache: &Cache, mode: Mode, a: &Stream, b: &Stream) -> Result<(), Lost> {
    let heap = cache.heap();
    for key in 0..4u32 {
        let value = if key % 2 == 0 {
            ready(witness, heap, &[key as u8; 64])?
        } else {
            pending(witness, heap, &[key as u8; 64], a)?
        };
        cache.insert(key, value).unwrap().free_all().unwrap();
    }
    for key in 0..4u32 {
        let lease = witness.call(|| cache.get(&key, b))?.expect("it is resident");
        let mut back = [9; 64];
        witness.call(|| lease.download_to(&mut back))?;
        assert_eq!(back, [key as u8; 64]);
    }
    // One leaves (0, where the order is exact), is read, revived and put in again, which evicts the next.
    let value = ready(witness, heap, &[4; 64])?;
    let evicted = cache.insert(4, value).unwrap().next().expect("the budget is full");
    let key = evicted.0;
    assert!(key == 0 || mode == Mode::Relaxed && key < 4, "{key} left");
    let mut back = [9; 64];
    witness.call(|| evicted.1.download_to(&mut back))?;
    assert_eq!(back, [key as u8; 64]);
    let revived = witness.take(evicted.1, |evicted| evicted.revive(a))?;
    let next = cache.insert(key, revived).unwrap();
    assert_eq!(next.len(), 1);
    assert!(next.free_all().is_ok());
    witness.check_books();
    Ok(())
}

fn fills(witness: &Witness, cache: &Cache, a: &Stream, b: &Stream) -> Result<(), Lost> {
    for (key, bytes) in [(10, 64), (11, 100), (12, 256), (13, 16)] {
        let contents = vec![key as u8; bytes];
        let Lookup::Miss(vacancy) = witness.call(|| cache.lookup(&key, b))? else { panic!("key {key} is new") };
        let lease = witness.take(vacancy, |vacancy| vacancy.fill_from(&contents))?.lease;
        let mut back = vec![0; bytes];
        witness.call(|| lease.view().download_to(&mut back))?;
        assert_eq!(back, contents);
    }
    let Lookup::Miss(vacancy) = witness.call(|| cache.lookup(&14, b))? else { panic!("key 14 is new") };
    let (reservation, evicted) = vacancy.reserve(200).unwrap();
    assert!(evicted.is_empty(), "240 bytes are left");
    assert_eq!(reservation.make_room().free_all().unwrap().bytes(), 16);
    let memory = witness.call(|| reservation.alloc_slice(200))?;
    let value = witness.take(memory, |memory| memory.upload_from(&[14; 200]))?;
    let lease = witness.take((reservation, value), |(reservation, value)| reservation.commit(value))?;
    drop(lease);
    // A value whose write is pending elsewhere orders the filler's stream.
    let Lookup::Miss(vacancy) = witness.call(|| cache.lookup(&15, b))? else { panic!("key 15 is new") };
    let value = pending(witness, cache.heap(), &[15; 32], a)?;
    let (reservation, evicted) = vacancy.reserve(32).unwrap();
    drop(evicted);
    drop(witness.take((reservation, value), |(reservation, value)| reservation.commit(value))?);
    Ok(())
}

fn leases_and_retired(witness: &Witness, cache: &Arc<Cache>, a: &Stream) -> Result<(), Lost> {
    let lease = witness.call(|| cache.get(&14, a))?.expect("it is resident");
    let owned = lease.clone().into_owned(cache).expect("it is this cache's");
    assert!(cache.retire(&14).is_empty());
    drop(lease);
    let mut back = [0; 200];
    witness.call(|| owned.download_to(&mut back))?;
    assert_eq!(back, [14; 200]);
    drop(owned);
    let retired = cache.collect_retired();
    assert_eq!(retired.len(), 1);
    assert!(retired.free_all().is_ok());
    assert_eq!(cache.set_budget_bytes(64).unwrap().len(), 0);
    witness.call(|| cache.heap().settle())?;
    drop(cache.clear());
    witness.check_books();
    Ok(())
}
