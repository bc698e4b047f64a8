// expect: lint:unused_must_use
// `free` says when the bytes are free, or that the device is lost.
use hapax::{Error, Heap, HeapOptions, HostDevice};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    handle.free();
    Ok(())
}
