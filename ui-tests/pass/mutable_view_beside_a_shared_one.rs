// expect: E0502
// While one kernel reads the memory, no other may be given it to write.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let mut handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let reads = handle.on(&stream)?;
    let other = handle.on(&stream)?;
    assert_eq!(reads.len(), other.len());
    assert_eq!(handle.on_mut(&stream)?.len(), 4);
    Ok(())
}
