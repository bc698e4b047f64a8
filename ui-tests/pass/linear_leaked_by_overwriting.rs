// expect: E0308
// What an assignment overwrites is dropped, which gives no proof.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        ({ let mut slot = Some(handle); slot.take().unwrap().free().0 }, ())
    });
    Ok(())
}
