// expect: E0599
// While a copy writes the memory, there is nothing whole to read.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let staging = heap.page_locked_slice::<u8>(4)?;
    let flying = heap.alloc_slice::<u8>(4)?.upload(staging, &stream)?;
    let mut back = [1; 4];
    flying.download_to(&mut back)?;
    assert_eq!(back, [0; 4]);
    Ok(())
}
