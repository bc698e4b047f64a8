// expect: E0521
// A handle cannot leave its scope, where nobody would have to spend it.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let mut escaped = None;
    linear::scope::<_, ()>(heap.alloc_slice::<u8>(4)?, |handle| {
        { escaped = Some(handle); panic!("no proof to return") }
    });
    assert!(escaped.is_some());
    Ok(())
}
