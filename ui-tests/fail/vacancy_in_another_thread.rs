// expect: E0277
// Waiting is checked for deadlocks by thread: a vacancy stays where it was opened.
use hapax::{Error, Heap, HeapOptions, HostDevice, Lookup, VramCache};

fn elsewhere(work: impl FnOnce() + Send) {
    std::thread::scope(|threads| drop(threads.spawn(work)));
}

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let Lookup::Miss(vacancy) = cache.lookup(&1, &stream)? else { unreachable!("the cache is empty") };
    elsewhere(move || drop(vacancy));
    Ok(())
}
