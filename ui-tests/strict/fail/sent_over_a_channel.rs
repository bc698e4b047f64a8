// expect: E0080
// A channel drops what nobody receives, so it can drop a handle.
use hapax::{DevBox, Error, Heap, HeapOptions, HostDevice, Ready};
use std::sync::mpsc;

fn through_a_channel(code: DevBox<[u8], Ready>) -> DevBox<[u8], Ready> {
    let (sender, receiver) = mpsc::channel();
    match sender.send(code) {
        Ok(()) => receiver.recv().unwrap(),
        Err(mpsc::SendError(code)) => code,
    }
}

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let code = heap.alloc_slice::<u8>(4)?;
    let code = match code.upload_from(b"ret\0") {
        Ok(code) => code,
        Err(refused) => return refused.handle.free().and(Err(*refused.error)),
    };
    let code = through_a_channel(code);
    code.free()?;
    Ok(())
}
