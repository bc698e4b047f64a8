// expect: E0277
// `?` would drop the handle that a refused call gives back.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        let code = handle.upload_from(&[0; 4])?;
        let (spent, freed) = code.free();
        (spent, freed.map(drop))
    })?;
    Ok(())
}
