// expect: E0382
// The copy under way owns its host buffer: it is back, and whole, after `wait`.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let staging = heap.page_locked_slice::<u8>(4)?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let flying = handle.download(staging, &stream)?;
    assert_eq!(staging[0], b'r');
    assert_eq!(flying.wait()?.1[0], b'r');
    Ok(())
}
