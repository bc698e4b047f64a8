// expect: lint:unused_must_use
// Exported memory is never freed by itself: who drops it leaks.
use hapax::{Error, Heap, HeapOptions, HostDevice};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    // SAFETY: nobody was given the address.
    handle.export();
    Ok(())
}
