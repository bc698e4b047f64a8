// expect: E0507
// A scope lends its handle by shared reference: what is behind it cannot be taken out.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    linear::scope(heap.alloc::<u32>()?, |handle| {
        let lent = *handle;
        assert_eq!(lent.bytes(), 4);
        (handle.free().0, ())
    });
    Ok(())
}
