// expect: E0277
// A view can be read as other plain data only: most bytes are no `bool`.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let view = handle.on(&stream)?;
    let _flags = view.cast::<i8>();
    Ok(())
}
