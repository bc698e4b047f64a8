// expect: lint:unused_must_use
// A refused call hands back what it took: its handle still owns memory.
use hapax::{Error, Heap, HeapOptions, HostDevice};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let handle = heap.alloc_slice::<u8>(4)?;
    handle.upload_from(b"too long").unwrap_err();
    Ok(())
}
