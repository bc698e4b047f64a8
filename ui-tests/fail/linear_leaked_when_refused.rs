// expect: E0308
// A refused call gives the handle back: it must still be spent.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        let code = match handle.upload_from(b"ret\0") {
            Ok(code) => code,
            Err(refused) => return ((), Err(refused.into_error())),
        };
        let (spent, freed) = code.free();
        (spent, freed.map(drop))
    })?;
    Ok(())
}
