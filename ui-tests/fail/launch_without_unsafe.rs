// expect: E0133
// hapax cannot see what a kernel does with its arguments: the caller vouches for it.
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
    let launch = Launch::new(&kernel, LaunchShape::linear(1, 1)).value(1u32);
    // SAFETY: nothing of the kind is loaded here.
    launch.launch()?;
    Ok(())
}
