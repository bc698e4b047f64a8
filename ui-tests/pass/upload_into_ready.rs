// expect: E0599
// A handle with contents may be lent to kernels: a new upload needs memory of its own.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    assert_eq!(handle.len(), 4);
    let changed = heap.alloc_slice::<u8>(4)?.upload_from(b"nop\0")?;
    changed.free()?;
    Ok(())
}
