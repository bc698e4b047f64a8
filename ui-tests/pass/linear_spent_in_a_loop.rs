// expect: E0382
// A loop would spend the handle more than once.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        let mut last = None;
        for _ in 0..2 {
            last = Some(handle.free().0); break;
        }
        (last.expect("the loop ran"), ())
    });
    Ok(())
}
