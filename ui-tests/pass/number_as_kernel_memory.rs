// expect: E0277
// memory for a kernel is lent to a stream; an address alone says neither to which nor for how long.
use hapax::{Error, Heap, HeapOptions, HostDevice, Launch, LaunchShape};

fn main() -> Result<(), Error> {
    assert!(matches!(session(), Err(Error::Unsupported { .. })), "host memory runs no kernels");
    Ok(())
}

fn session() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let module = heap.load_module(b".version 8.0")?;
    let code = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let view = code.on(&stream)?;
    let kernel = module.on(&stream)?.function("main")?;
    let launch = Launch::new(&kernel, LaunchShape::linear(1, 1)).memory(&view);
    drop(launch);
    Ok(())
}
