// expect: E0080
// An arm that names nothing leaves its result whole, and drops it with the handle that it could hold.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    match heap.alloc_slice::<u8>(4) {
        Ok(code) => drop(code.free()?),
        Err(_refused) => println!("no room"),
    }
    Ok(())
}
