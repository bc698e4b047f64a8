// expect: E0597
// A thread may outlive the cache and the stream that a lease borrows; `into_owned` shares them.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};
use std::sync::Arc;

fn spawn(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(work).join().unwrap();
}

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: Arc<VramCache<u8, [u8]>> = Arc::new(VramCache::new(&heap, 1 << 16)?);
    cache.insert(1, heap.alloc_slice(4)?.upload_from(b"ret\0")?)?.free_all()?;
    let lease = cache.get(&1, &stream)?.expect("resident");
    spawn(move || assert_eq!(lease.len(), 4));
    Ok(())
}
