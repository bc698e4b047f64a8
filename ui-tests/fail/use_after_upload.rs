// expect: E0382
// `upload` takes the handle until the copy is over: what is left is the flight.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let staging = heap.page_locked_slice::<u8>(4)?;
    let handle = heap.alloc_slice::<u8>(4)?;
    let flying = handle.upload(staging, &stream)?;
    assert_eq!(handle.bytes(), 4);
    flying.wait()?.0.free()?;
    Ok(())
}
