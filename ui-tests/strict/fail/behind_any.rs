// expect: E0080
// A value of an unknown type carries its drop along, whether it is called or not.
use hapax::{DevBox, Error, Heap, HeapOptions, HostDevice, Ready};
use std::any::Any;

fn through_any(code: DevBox<[u8], Ready>) -> DevBox<[u8], Ready> {
    let value: Box<dyn Any> = Box::new(code);
    *value.downcast().unwrap()
}

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let code = heap.alloc_slice::<u8>(4)?;
    let code = match code.upload_from(b"ret\0") {
        Ok(code) => code,
        Err(refused) => return refused.handle.free().and(Err(*refused.error)),
    };
    let code = through_any(code);
    code.free()?;
    Ok(())
}
