// expect: E0277
// A `String` points to host memory that it owns: its bytes alone are not it.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let _memory = heap.alloc_slice::<u8>(4);
    Ok(())
}
