//! hapax with real handles: a miss takes the handle that the last insert evicted, or allocates one.

use crate::contenders::{ENTRY_BYTES, Operations};
use hapax::{CacheOptions, DevBox, DryDevice, Heap, HeapOptions, Mode, Policy, Stream, VramCache};
use std::hint::black_box;

pub struct Hapax {
    cache: VramCache<u128, [u8]>,
    stream: Stream,
    heap: Heap,
}

impl Hapax {
    pub fn new(entries: usize, policy: Policy, mode: Mode) -> Self {
        let budget = entries as u64 * ENTRY_BYTES;
        // Some more, for the handles that threads have at hand.
        let options = HeapOptions::new(budget + 64 * ENTRY_BYTES).slab_bytes(budget + 64 * ENTRY_BYTES);
        let heap = Heap::new(DryDevice::new(), options).unwrap();
        let stream = heap.new_stream().unwrap();
        let cache = VramCache::with_options(&heap, CacheOptions::new(budget).policy(policy).mode(mode)).unwrap();
        Hapax { cache, stream, heap }
    }

    fn new_handle(&self) -> DevBox<[u8]> {
        self.heap.alloc_slice::<u8>(ENTRY_BYTES as usize).unwrap().zero(&self.stream).unwrap()
    }
}

impl Operations for Hapax {
    type Thread = Option<DevBox<[u8]>>;

    fn thread(&self) -> Self::Thread {
        None
    }

    fn get(&self, key: u128, _: &mut Self::Thread) -> bool {
        match self.cache.get(&key, &self.stream).unwrap() {
            Some(lease) => {
                black_box(lease.view().device_address());
                true
            }
            None => false,
        }
    }

    /// One handle goes round: out of the cache, into it again.
    fn insert(&self, key: u128, spare: &mut Self::Thread) {
        let handle = spare.take().unwrap_or_else(|| self.new_handle());
        let cost_ns = 1000 + (key as u64 & 0xF_FFFF); // what CAMP looks at
        match self.cache.insert_with_cost(key, handle, cost_ns) {
            Ok(evicted) => {
                for (_, handle) in evicted {
                    *spare = Some(handle.revive(&self.stream).unwrap());
                }
            }
            // Another thread leases what is to be replaced.
            Err(refused) => *spare = Some(refused.handle.1),
        }
    }
}
