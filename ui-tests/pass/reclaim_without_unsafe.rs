// expect: E0133
// Nobody can check that foreign code is done with the memory: the caller vouches for it.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let exported = handle.export();
    // SAFETY: nobody was given the address.
    unsafe { exported.reclaim() }.free()?;
    Ok(())
}
