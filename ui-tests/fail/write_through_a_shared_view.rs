// expect: E0599
// A shared view is one of many: none of them lends its memory to a writer.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let view = handle.on(&stream)?;
    let part = view.slice_mut(0..2)?;
    assert_eq!(part.len(), 2);
    Ok(())
}
