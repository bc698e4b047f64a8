// expect: E0382
// The copy under way owns its host buffer: it cannot be changed beneath it.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let mut staging = heap.page_locked_slice::<u8>(4)?;
    let mut spare = heap.page_locked_slice::<u8>(4)?;
    staging.fill(1);
    let flying = heap.alloc_slice::<u8>(4)?.upload(staging, &stream)?;
    spare.fill(2);
    assert_eq!(spare.len(), 4);
    flying.wait()?.0.free()?;
    Ok(())
}
