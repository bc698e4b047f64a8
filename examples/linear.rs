//! A cache of compiled kernels in which no path can lose a handle: every one is freed or cached, or this does not
//! compile. `RUSTFLAGS='--cfg hapax_strict_linear' cargo build --profile linear --example linear` also refuses a drop
//! outside of the scopes.

use hapax::linear::{self, Linear, Spent};
use hapax::{DevBox, Error, Evicted, Heap, HeapOptions, VramCache};

/// What leaves the device, with its key.
type Spilled = Vec<(u32, Vec<u8>)>;

fn main() -> Result<(), Error> {
    let heap = Heap::new(&hapax::best_device().device, HeapOptions::new(1 << 20))?;
    let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 4 * 256)?;
    let mut spilled = Spilled::new();
    for kernel in 0..6 {
        let code = compile(kernel);
        match cache_it(&cache, kernel, &code, &mut spilled) {
            Ok(()) => println!("kernel {kernel}: {} bytes cached", code.len()),
            Err(error) if error.is_refusal() => println!("kernel {kernel}: used uncached, {error}"),
            Err(error) => return Err(error),
        }
    }
    for (kernel, code) in &spilled {
        assert_eq!(code, &compile(*kernel));
        println!("kernel {kernel}: spilled, {} bytes", code.len());
    }
    cache.into_handles().spend_each(|_, handle| handle.free().0);
    println!("{} bytes are left on {}", heap.ledger().live_bytes, heap.device().name());
    Ok(())
}

/// Puts `code` on the device and into the cache; what that evicts is read back first.
fn cache_it(cache: &VramCache<u32, [u8]>, key: u32, code: &[u8], spilled: &mut Spilled) -> Result<(), Error> {
    linear::scope(cache.heap().alloc_slice::<u8>(code.len())?, |room| {
        let handle = match room.upload_from(code) {
            Ok(handle) => handle,
            Err(refused) => return refused.free(),
        };
        match handle.insert(cache, key, |key, evicted| spill(key, evicted, spilled)) {
            Ok(spent) => (spent, Ok(())),
            Err(refused) => refused.free(),
        }
    })
}

fn spill<'e>(key: u32, evicted: Linear<'e, DevBox<[u8], Evicted>>, spilled: &mut Spilled) -> Spent<'e> {
    let mut code = vec![0; evicted.len()];
    if evicted.download_to(&mut code).is_ok() {
        spilled.push((key, code)); // what cannot be read back is compiled again
    }
    evicted.free().0
}

fn compile(kernel: u32) -> Vec<u8> {
    // The last one is larger than the whole budget.
    vec![kernel as u8; if kernel == 5 { 2000 } else { 200 }]
}
