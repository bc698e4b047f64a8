// expect: E0133
// Nobody can check that a kernel wrote every byte: the caller vouches for it.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let handle = heap.alloc_slice::<u8>(0)?;
    // SAFETY: there is no byte to write.
    handle.written_on(&stream)?.free()?;
    Ok(())
}
