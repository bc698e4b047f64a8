// expect: E0599
// While a copy is under way its handle cannot be freed, only waited for.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let staging = heap.page_locked_slice::<u8>(4)?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        let flying = handle.upload(staging, &stream).expect("a copy on the host");
        flying.free()
    })?;
    Ok(())
}
