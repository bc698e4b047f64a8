// expect: lint:unused_must_use
// `try_wait` takes the handle: what it answers holds it.
use hapax::{Error, Heap, HeapOptions, HostDevice};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let staging = heap.page_locked_slice::<u8>(4)?;
    let flying = heap.alloc_slice::<u8>(4)?.upload(staging, &stream)?;
    flying.try_wait()?;
    Ok(())
}
