// expect: E0382
// A copy would be a second owner of the same memory.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let first = handle;
    let second = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    first.free()?;
    second.free()?;
    Ok(())
}
