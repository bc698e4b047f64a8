// expect: E0382
// A handle is spent once.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        let (spent, freed) = handle.free();
        (spent, handle.free().1.and(freed))
    })?;
    Ok(())
}
