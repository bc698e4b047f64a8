//! What is refused, with which words, and that whatever was taken comes back.

use crate::{device, heap, heap_of, watch};
use bytemuck::{Pod, Zeroable};
use hapax::{CacheOptions, DeviceRef, Error, Heap, HeapOptions, HostDevice, OrRelease, VramCache};

#[test]
fn a_length_mismatch_returns_what_was_taken() {
    let _watch = watch();
    let heap = heap();
    let stream = heap.new_stream().unwrap();
    let mismatch = |host_elements| Error::LengthMismatch { device_elements: 4, host_elements };
    let refused = heap.alloc_slice::<u32>(4).unwrap().upload_from(&[1, 2, 3]).unwrap_err();
    assert_eq!(*refused.error, mismatch(3));
    let staging = heap.page_locked_slice::<u32>(5).unwrap();
    let refused = refused.handle.upload(staging, &stream).unwrap_err();
    assert_eq!(*refused.error, mismatch(5));
    let (handle, staging) = refused.handle;
    let handle = handle.upload_from(&[1, 2, 3, 4]).unwrap();
    assert_eq!(handle.download_to(&mut [0; 2]).unwrap_err(), mismatch(2));
    let refused = handle.download(staging, &stream).unwrap_err();
    assert_eq!(*refused.error, mismatch(5));
    let (handle, staging) = refused.handle;
    assert_eq!((handle.len(), staging.len()), (4, 5));
    let mut back = [0; 4];
    handle.download_to(&mut back).unwrap();
    assert_eq!(back, [1, 2, 3, 4]);
}

#[test]
fn a_stream_of_another_device_is_refused() {
    let _watch = watch();
    let (heap, other) = (heap(), heap());
    let (stream, foreign) = (heap.new_stream().unwrap(), other.new_stream().unwrap());
    let refused = heap.alloc::<u8>().unwrap().zero(&foreign).unwrap_err();
    assert_eq!(*refused.error, Error::WrongDevice);
    let refused = refused.handle.upload(heap.page_locked().unwrap(), &foreign).unwrap_err();
    assert_eq!(*refused.error, Error::WrongDevice);
    // A buffer of another device is none that the copy may use.
    let refused = refused.handle.0.upload(other.page_locked().unwrap(), &stream).unwrap_err();
    assert_eq!(*refused.error, Error::WrongDevice);
    let flying = refused.handle.0.upload(heap.page_locked().unwrap(), &stream).unwrap();
    let refused = flying.ready_on(&foreign).unwrap_err();
    assert_eq!(*refused.error, Error::WrongDevice);
    let (mut handle, staging) = refused.handle.wait().unwrap();
    assert_eq!(handle.on(&foreign).err(), Some(Error::WrongDevice));
    assert_eq!(handle.on_mut(&foreign).err(), Some(Error::WrongDevice));
    let refused = handle.download(staging, &foreign).unwrap_err();
    assert_eq!(*refused.error, Error::WrongDevice);
    let cache: VramCache<u8, u8> = VramCache::new(&heap, 1024).unwrap();
    cache.insert(1, refused.handle.0).unwrap().free_all().unwrap();
    assert_eq!(cache.get(&1, &foreign).err(), Some(Error::WrongDevice));
    assert!(matches!(cache.lookup(&2, &foreign), Err(Error::WrongDevice)));
    let evicted = cache.clear().next().unwrap().1;
    assert_eq!(*evicted.revive(&foreign).unwrap_err().error, Error::WrongDevice);
    assert_eq!((cache.stats().hits, cache.stats().misses), (0, 0));
}

#[test]
fn heaps_of_one_device_share_its_streams_but_not_their_handles() {
    let _watch = watch();
    let device = DeviceRef::new(device::open());
    let [one, two] = [(); 2].map(|()| Heap::new(&device, HeapOptions::new(1 << 16)).unwrap());
    let stream = two.new_stream().unwrap();
    let handle = one.alloc::<u8>().unwrap().zero(&stream).unwrap();
    let cache: VramCache<u8, u8> = VramCache::new(&two, 1024).unwrap();
    let refused = cache.insert(1, handle).unwrap_err();
    assert_eq!(*refused.error, Error::WrongHeap);
    assert_eq!((refused.handle.0, cache.stats().rejections), (1, 1));
    refused.handle.1.free().unwrap();
}

#[test]
fn sizes_that_cannot_be_addressed_are_refused() {
    let _watch = watch();
    let heap = heap_of(HeapOptions::new(1 << 20).granule_bytes(256));
    let overflow = |elements, element_bytes| Error::SizeOverflow { elements, element_bytes };
    assert_eq!(heap.alloc_slice::<u64>(usize::MAX).unwrap_err(), overflow(u64::MAX, 8));
    assert_eq!(heap.alloc_slice::<u64>(1 << 61).unwrap_err(), overflow(1 << 61, 8));
    // It fits by itself, but not when rounded up to a granule.
    let most = isize::MAX as usize;
    assert_eq!(heap.alloc_slice::<u8>(most).unwrap_err(), overflow(most as u64, 1));
    assert!(matches!(heap.alloc_slice::<u8>(most - 255).unwrap_err(), Error::OutOfMemory { .. }));
    assert!(matches!(heap.page_locked_slice::<u64>(usize::MAX / 2), Err(Error::SizeOverflow { .. })));
    assert!(matches!(heap.page_locked_slice::<u8>(most), Err(Error::SizeOverflow { .. })));
    assert_eq!(heap.ledger().slab_bytes, 0);
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(512))]
struct Wide([u8; 512]);

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(256))]
struct Aligned([u8; 256]);

#[test]
fn alignment_is_kept_up_to_256_bytes_and_refused_beyond() {
    let _watch = watch();
    let heap = heap_of(HeapOptions::new(1 << 20).granule_bytes(1));
    let _shift = heap.alloc_slice::<u8>(3).unwrap();
    assert_eq!(heap.alloc::<Aligned>().unwrap().device_address() % 256, 0);
    assert_eq!(heap.alloc_slice::<u64>(1).unwrap().device_address() % 8, 0);
    assert_eq!(heap.page_locked::<Aligned>().unwrap().0, [0; 256]);
    let refusals = [
        heap.alloc::<Wide>().err(),
        heap.alloc_slice::<Wide>(2).err(),
        heap.page_locked::<Wide>().err(),
        heap.page_locked_slice::<Wide>(2).err(),
    ];
    for refused in refusals {
        let Some(Error::BadOption(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains("256") && text.contains("512"), "{text}");
    }
}

#[test]
fn out_of_memory_says_what_is_needed_and_where_the_rest_is() {
    let _watch = watch();
    let heap = heap_of(HeapOptions::new(160).granule_bytes(16).slab_bytes(64));
    let first = heap.alloc_slice::<u8>(33).unwrap();
    let second = heap.alloc_slice::<u8>(90).unwrap();
    let out_of_memory = |need_bytes, free_bytes, largest_free_bytes| Error::OutOfMemory {
        need_bytes,
        free_bytes,
        largest_free_bytes,
        freeing_bytes: 0,
        limit_bytes: 160,
        device_refused: false,
    };
    assert_eq!(heap.alloc_slice::<u8>(17).unwrap_err(), out_of_memory(32, 16, 16));
    second.free().unwrap();
    // Enough is free, but not beside what is used.
    assert_eq!(heap.alloc_slice::<u8>(112).unwrap_err(), out_of_memory(112, 112, 16));
    assert_eq!(heap.ledger().slab_bytes, 64, "the empty slab was given back in the attempt");
    first.free().unwrap();
    let whole = heap.alloc_slice::<u8>(160).unwrap();
    assert_eq!((whole.charge_bytes(), heap.ledger().free_bytes), (160, 0));
    assert_eq!(heap.alloc_slice::<u8>(1).unwrap_err(), out_of_memory(16, 0, 0));
    assert!(matches!(heap.alloc_slice::<u8>(161).unwrap_err(), Error::OutOfMemory { need_bytes: 176, .. }));
    heap.validate();
}

#[test]
fn options_that_cannot_work_are_named() {
    let _watch = watch();
    let text = |device: DeviceRef, options| match Heap::new(device, options) {
        Err(Error::BadOption(text)) => text,
        other => panic!("{other:?}"),
    };
    // Options are read before the device is asked; the host alone has no bound that the largest could break.
    let host = || DeviceRef::new(HostDevice::new());
    assert!(text(host(), HeapOptions::new(0)).contains("limit"));
    assert!(text(host(), HeapOptions::new(1 << 63)).contains("addressed"));
    assert!(Heap::new(host(), HeapOptions::new(isize::MAX as u64)).is_ok());
    for granule in [0, 3, 96] {
        assert!(text(host(), HeapOptions::new(1024).granule_bytes(granule)).contains("granule"));
    }
    assert!(text(host(), HeapOptions::new(100)).contains("no granule of 256"));
    assert!(text(host(), HeapOptions::new(1024).slab_bytes(0)).contains("slabs"));
    let heap = heap();
    for (options, word) in [
        (CacheOptions::new(0), "budget"),
        (CacheOptions::new((1 << 20) + 1), "limit"),
        (CacheOptions::new(1024).max_entries(0), "max_entries"),
    ] {
        match VramCache::<u8, u8>::with_options(&heap, options) {
            Err(Error::BadOption(text)) => assert!(text.contains(word), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    if let Some(small) = device::with_memory(1000) {
        assert!(text(small.into(), HeapOptions::new(1001)).contains("1000 free"));
    }
}

#[test]
fn a_heap_in_use_does_not_close_and_comes_back() {
    let _watch = watch();
    let heap = heap();
    let clone = heap.clone();
    let handle = heap.alloc_slice::<u8>(300).unwrap().upload_from(&[7; 300]).unwrap();
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1024).unwrap();
    cache.insert(1, handle).unwrap().free_all().unwrap();
    let refused = heap.close().unwrap_err();
    assert_eq!(*refused.error, Error::HeapInUse { live_blocks: 1, live_bytes: 512 });
    let heap = refused.handle;
    drop(heap.alloc::<u8>().expect("it goes on"));
    cache.clear().free_all().unwrap();
    heap.close().unwrap();
    assert_eq!(clone.alloc::<u8>().unwrap_err(), Error::HeapClosed);
    assert_eq!(clone.alloc_slice::<u8>(0).unwrap_err(), Error::HeapClosed);
    assert_eq!((clone.ledger().slab_bytes, clone.ledger().free_bytes), (0, 1 << 20));
    clone.validate();
    clone.close().expect("there is nothing left to close");
}

#[test]
fn a_refused_call_turns_into_its_error_and_releases_what_it_took() {
    let _watch = watch();
    #[derive(Debug)]
    struct Mine(#[expect(dead_code, reason = "read by Debug")] Error);
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Mine(error)
        }
    }
    fn plain(heap: &Heap) -> Result<(), Error> {
        heap.alloc_slice::<u8>(1)?.upload_from(&[])?.free().map(drop)
    }
    fn mine(heap: &Heap) -> Result<(), Mine> {
        heap.alloc_slice::<u8>(1)?.upload_from(&[]).or_release()?.free().map(drop).map_err(Mine)
    }
    let heap = heap();
    assert_eq!(plain(&heap), Err(Error::LengthMismatch { device_elements: 1, host_elements: 0 }));
    mine(&heap).unwrap_err();
    assert_eq!(heap.ledger().live_blocks, 0);
    let refused = heap.alloc_slice::<u8>(1).unwrap().upload_from(&[]).unwrap_err().map(|handle| handle.len());
    assert_eq!((refused.handle, refused.to_string()), (1, refused.error.to_string()));
}
