// expect: E0521
// A proof cannot leave its scope, to end another one.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let mut kept = None;
    linear::scope::<_, ()>(heap.alloc_slice::<u8>(4)?, |handle| {
        { kept = Some(handle.free().0); panic!("no proof left to return") }
    });
    assert!(kept.is_some());
    Ok(())
}
