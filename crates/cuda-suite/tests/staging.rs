//! Blocking copies through the staging chunks, beside streams that still work.

mod rig;

use hapax::{DevBox, Heap, HeapOptions, Lookup, Returned, VramCache};
use rig::{PTX, add_one, in_every_mode};

#[test]
fn staged_copies_are_over_when_they_return_and_share_two_chunks() {
    in_every_mode(|session, device| {
        let options = HeapOptions::new(1 << 20).slab_bytes(1 << 18).staging_bytes(2 * 4096);
        let heap = Heap::new(device, options).unwrap();
        let stream = heap.new_stream().unwrap();
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        for words in [1, 1024, 1025, 5000, 20_000] {
            let mut contents = vec![7u32; words];
            let mut handle: DevBox<[u32]> = heap.alloc_slice(words).unwrap().upload_from(&contents).unwrap();
            session.host_writes(&mut contents);
            contents.fill(0);
            let kernel = module.on(&stream).unwrap().function("add_one").unwrap();
            add_one(&kernel, &mut handle.on_mut(&stream).unwrap()).unwrap();
            handle.download_to(&mut contents).unwrap(); // behind the kernel
            session.host_reads(&contents);
            assert_eq!(contents, vec![8; words]);
            add_one(&kernel, &mut handle.on_mut(&stream).unwrap()).unwrap();
            handle.on(&stream).unwrap().download_to(&mut contents).unwrap(); // a view waits for its own stream
            session.host_reads(&contents);
            assert_eq!(contents, vec![9; words]);
        }
        assert_eq!(session.counters().page_locked_bytes, 2 * 4096);
        drop(module);
        heap.close().unwrap();
    });
}

/// Slabs are reused at once after a fill has evicted, and each fill's bytes are there when it returns.
#[test]
fn fills_of_many_chunks_are_right_while_other_streams_read() {
    in_every_mode(|_, device| {
        let options = HeapOptions::new(1 << 18).slab_bytes(1 << 16).staging_bytes(2 * 4096);
        let heap = Heap::new(device, options).unwrap();
        let streams = [heap.new_stream().unwrap(), heap.new_stream().unwrap()];
        let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 40_000).unwrap();
        for round in 0..24u32 {
            let (key, stream) = (round % 5, &streams[round as usize % 2]);
            let lease = match cache.lookup(&key, stream).unwrap() {
                Lookup::Hit(lease) => lease,
                Lookup::Miss(vacancy) => {
                    vacancy.fill_from(&vec![key as u8; 15_000]).map_err(Returned::into_error).unwrap().lease
                }
            };
            assert_eq!(lease.to_vec().unwrap(), vec![key as u8; 15_000], "round {round}");
        }
        cache.into_handles().free_all().unwrap();
        heap.close().unwrap();
    });
}
