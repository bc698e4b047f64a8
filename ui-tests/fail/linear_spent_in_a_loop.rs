// expect: E0382
// A loop would spend the handle more than once.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        let (slot, mut last) = (std::cell::Cell::new(Some(handle)), None);
        for _ in 0..2 {
            last = slot.into_inner().map(|handle| handle.free().0);
        }
        (last.expect("the loop ran"), ())
    });
    Ok(())
}
