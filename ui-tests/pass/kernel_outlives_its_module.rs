// expect: E0505
// a kernel is of a module that is lent: the module cannot be freed before the kernel is given up.
use hapax::{Error, Heap, HeapOptions, HostDevice, Launch, LaunchShape};

fn main() -> Result<(), Error> {
    assert!(matches!(session(), Err(Error::Unsupported { .. })), "host memory runs no kernels");
    Ok(())
}

fn session() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let module = heap.load_module(b".version 8.0")?;
    let kernel = module.on(&stream)?.function("main")?;
    stream.synchronize()?;
    drop(Launch::new(&kernel, LaunchShape::linear(1, 1)));
    Ok(())
}
