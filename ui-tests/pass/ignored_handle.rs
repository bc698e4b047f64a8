// expect: lint:unused_must_use
// A handle owns memory: who does not want it frees it.
use hapax::{Error, Heap, HeapOptions, HostDevice};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    heap.alloc_slice::<u8>(4)?.free()?;
    Ok(())
}
