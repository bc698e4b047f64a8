// expect: E0308
// A scope returns the proof that its handle was spent.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let answer = linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        assert_eq!(handle.len(), 4);
        (handle.free().0, 3)
    });
    assert_eq!(answer, 3);
    Ok(())
}
