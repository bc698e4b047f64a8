// expect: E0080
// A thread frees the handle, but the standard library may drop a closure instead of running it.
use hapax::{Error, Heap, HeapOptions, HostDevice};
use std::thread;

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let code = heap.alloc_slice::<u8>(4)?;
    let free = move || code.free();
    let run = thread::Result::Ok(free());
    drop(run);
    Ok(())
}
