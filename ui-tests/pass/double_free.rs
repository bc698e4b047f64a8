// expect: E0382
// `free` takes the handle: it cannot be freed again.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    handle.free()?;
    heap.alloc_slice::<u8>(4)?.free()?;
    Ok(())
}
