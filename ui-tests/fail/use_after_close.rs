// expect: E0382
// `close` takes the heap: nothing can be allocated from it afterwards.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let other = Heap::new(heap.device(), HeapOptions::new(1 << 20))?;
    heap.close()?;
    heap.alloc_slice::<u8>(4)?.free()?;
    Ok(())
}
