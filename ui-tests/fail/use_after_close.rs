// expect: E0382
// `close` takes the heap: nothing can be asked of it afterwards.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    heap.close()?;
    heap.trim()?;
    Ok(())
}
