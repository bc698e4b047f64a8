// expect: E0080
// A static is never dropped, but it comes with the drop of its type.
use hapax::{DevBox, Error, Heap, HeapOptions, HostDevice, Ready};
use std::sync::OnceLock;

static KEPT: OnceLock<Option<&DevBox<[u8], Ready>>> = OnceLock::new();

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let code = heap.alloc_slice::<u8>(4)?;
    let code = match code.upload_from(b"ret\0") {
        Ok(code) => code,
        Err(refused) => return refused.handle.free().and(Err(*refused.error)),
    };
    assert!(KEPT.get().is_none());
    code.free()?;
    Ok(())
}
