// expect: E0277
// A device may leave any byte in memory, and most bytes are no `bool`.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let _memory = heap.alloc_slice::<bool>(4);
    Ok(())
}
