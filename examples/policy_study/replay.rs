//! Recorded requests, done again to the real cache: on addresses without memory, so that any budget fits any machine.

use hapax::{CacheOptions, DryDevice, Error, Heap, HeapOptions, Mode, Policy, Stream, VramCache, linear};

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub key: u64,
    pub bytes: u64,
    pub cost_ns: u64,
}

/// Requests, and those of them that missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: Sum,
    pub misses: Sum,
}

/// A number of requests, their bytes, and what they cost to make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    pub bytes: u128,
    pub cost_ns: u128,
}

impl Tally {
    pub fn count(&mut self, request: &Request, missed: bool) {
        self.requests.add(request);
        if missed {
            self.misses.add(request);
        }
    }

    pub fn miss_ratio(&self) -> f64 {
        ratio(self.misses.count.into(), self.requests.count.into())
    }

    pub fn byte_miss_ratio(&self) -> f64 {
        ratio(self.misses.bytes, self.requests.bytes)
    }

    pub fn cost_miss_ratio(&self) -> f64 {
        ratio(self.misses.cost_ns, self.requests.cost_ns)
    }
}

impl Sum {
    fn add(&mut self, request: &Request) {
        self.count += 1;
        self.bytes += u128::from(request.bytes);
        self.cost_ns += u128::from(request.cost_ns);
    }
}

fn ratio(part: u128, whole: u128) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Looks every request up, and puts in what is missing, unless it is larger than the budget. What is resident keeps
/// the bytes that it came in with.
pub fn replay(requests: &[Request], policy: Policy, mode: Mode, budget_bytes: u64) -> Result<Tally, Error> {
    let largest = requests.iter().map(|request| request.bytes).max().unwrap_or(0);
    // Addresses cost nothing: with room to spare, no allocation fails for fragments.
    let limit_bytes = budget_bytes.saturating_mul(8).saturating_add(largest.saturating_mul(8));
    let options = HeapOptions::new(limit_bytes).granule_bytes(1).slab_bytes(limit_bytes);
    let heap = Heap::new(DryDevice::new(), options)?;
    let stream = heap.new_stream()?;
    let options = CacheOptions::new(budget_bytes).policy(policy).mode(mode);
    let cache: VramCache<u64, [u8]> = VramCache::with_options(&heap, options)?;
    let mut tally = Tally::default();
    for request in requests {
        let missed = cache.get(&request.key, &stream)?.is_none();
        tally.count(request, missed);
        if missed && request.bytes <= budget_bytes {
            put(&cache, request, &stream)?;
        }
    }
    Ok(tally)
}

fn put(cache: &VramCache<u64, [u8]>, request: &Request, stream: &Stream) -> Result<(), Error> {
    linear::scope(cache.heap().alloc_slice::<u8>(request.bytes as usize)?, |room| {
        let value = match room.zero(stream) {
            Ok(value) => value,
            Err(refused) => return refused.free(),
        };
        match value.insert_with_cost(cache, request.key, request.cost_ns, |_, evicted| evicted.free().0) {
            Ok(spent) => (spent, Ok(())),
            Err(refused) => refused.free(),
        }
    })
}

/// Bytes of all keys together, each as large as when it was first asked for; `u64::MAX` if they are more.
pub fn footprint_bytes(requests: &[Request]) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let first = requests.iter().filter(|request| seen.insert(request.key));
    first.fold(0, |sum, request| sum.saturating_add(request.bytes))
}
