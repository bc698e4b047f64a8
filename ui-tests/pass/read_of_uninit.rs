// expect: E0599
// Memory that nothing was written to has no contents to read.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let handle = heap.alloc_slice::<u8>(4)?;
    let mut back = [1; 4];
    handle.zero(&stream)?.download_to(&mut back)?;
    assert_eq!(back, [0; 4]);
    Ok(())
}
