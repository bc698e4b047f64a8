// expect: error: lifetime may not live long enough
// The proof of one handle does not pass for that of another.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let (a, b) = (heap.alloc::<u32>()?, heap.alloc::<u32>()?);
    linear::scope(a, |first| {
        let spent = linear::scope(b, |second| {
            (second.free().0, first.free().0)
        });
        (spent, ())
    });
    Ok(())
}
