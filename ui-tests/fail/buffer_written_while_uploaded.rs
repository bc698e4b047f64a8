// expect: E0382
// The copy under way owns its host buffer: it cannot be changed beneath it.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let mut staging = heap.page_locked_slice::<u8>(4)?;
    staging.fill(1);
    let flying = heap.alloc_slice::<u8>(4)?.upload(staging, &stream)?;
    staging.fill(2);
    assert_eq!(flying.wait()?.1[0], 1);
    Ok(())
}
