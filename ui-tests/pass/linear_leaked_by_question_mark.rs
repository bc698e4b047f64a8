// expect: E0277
// `?` leaves the scope with an error and without the proof.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let value = linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        let value: u8 = "7".parse().unwrap_or(0);
        (handle.free().0, value)
    });
    assert_eq!(value, 7);
    Ok(())
}
