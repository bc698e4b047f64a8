// expect: E0382
// The cache owns what was inserted: from then on it is reached through leases.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let mut back = [0; 4];
    cache.insert(1, handle)?.free_all()?;
    handle.download_to(&mut back)?;
    assert_eq!(&back, b"ret\0");
    Ok(())
}
