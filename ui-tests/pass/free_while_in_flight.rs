// expect: E0599
// While a copy uses the memory, it cannot be given up by hand.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let staging = heap.page_locked_slice::<u8>(4)?;
    let flying = heap.alloc_slice::<u8>(4)?.upload(staging, &stream)?;
    flying.wait()?.0.free()?;
    Ok(())
}
