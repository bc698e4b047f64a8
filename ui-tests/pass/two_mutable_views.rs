// expect: E0499
// A kernel that writes has the memory to itself; `split_at_mut` makes two disjoint parts.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let mut handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let whole = handle.on_mut(&stream)?;
    let (first, second) = whole.split_at_mut(2)?;
    assert_eq!(first.len(), second.len());
    Ok(())
}
