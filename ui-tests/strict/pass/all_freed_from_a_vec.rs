// expect: E0080
// Every handle is freed, but the gate does not count: a vector drops what is in it.
use hapax::{DevBox, Error, Heap, HeapOptions, HostDevice, Ready};

fn through_a_vec(code: DevBox<[u8], Ready>) -> DevBox<[u8], Ready> {
    let mut handles = vec![code];
    match handles.pop() {
        Some(code) => code,
        None => unreachable!("it holds one"),
    }
}

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let code = heap.alloc_slice::<u8>(4)?;
    let code = match code.upload_from(b"ret\0") {
        Ok(code) => code,
        Err(refused) => return refused.handle.free().and(Err(*refused.error)),
    };
    let code = std::convert::identity(code);
    code.free()?;
    Ok(())
}
