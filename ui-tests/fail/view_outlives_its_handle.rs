// expect: E0505
// A view borrows its handle: the memory cannot be freed beneath it.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let view = handle.on(&stream)?;
    handle.free()?;
    assert_eq!(view.len(), 4);
    Ok(())
}
