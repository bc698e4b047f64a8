// expect: E0521
// An evicted handle is spent by the call that got it, not by the next one.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, u32> = VramCache::new(&heap, 512)?;
    let mut last = None;
    cache.clear().spend_each(|_, evicted| {
        let evicted = { last.replace(()); evicted };
        evicted.free().0
    });
    Ok(())
}
