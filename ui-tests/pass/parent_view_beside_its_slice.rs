// expect: E0502
// A mutable part is lent by its view, which cannot be used meanwhile.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let mut handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let mut view = handle.on_mut(&stream)?;
    let part = view.slice_mut(0..2)?;
    part.download_to(&mut [0; 2])?;
    assert_eq!(part.len(), 2);
    Ok(())
}
