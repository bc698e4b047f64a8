// expect: E0080
// Padding bytes are uninitialised: copying them to a device would read them.
use bytemuck::{Pod, Zeroable};
use hapax::{Error, Heap, HeapOptions, HostDevice};

#[derive(Clone, Copy, Pod, Zeroable)] #[repr(C)] struct Launch(u32, u32);

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    heap.alloc_slice::<Launch>(4)?.free()?;
    Ok(())
}
