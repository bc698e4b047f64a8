//! hapax's store at its budget: what a put costs when another entry has to go for it. The other engines have no bound.

use crate::work::{Artifact, Random};
use crate::{disk_bytes, microseconds, percentile};
use hapax::{DirectoryOptions, DirectoryStore, Fingerprint, Key, Kind, Meta, Store};
use std::path::Path;
use std::time::Instant;

/// Puts three budgets of entries and times those of the last two. Each put is followed by so many lookups of older entries, the
/// lately put ones more often, so that segments hold what stays beside what goes.
pub fn run(name: &str, artifacts: &[Artifact], budget_bytes: u64, lookups: usize, folder: &Path) {
    std::fs::create_dir(folder).expect("a new folder");
    let options = DirectoryOptions::new("bench").dir(folder).budget_bytes(budget_bytes);
    let store = DirectoryStore::open_strict(&options).expect("it opens");
    let mut random = Random::new(5);
    let (mut keys, mut times) = (Vec::new(), Vec::new());
    let (mut put_bytes, mut timed_bytes, mut written_before, mut most) = (0, 0, 0, 0);
    for artifact in artifacts.iter().cycle() {
        if put_bytes >= 3 * budget_bytes {
            break;
        }
        let key = Key::new(Kind::CODE, Fingerprint::from_bytes(random.key()));
        let begun = Instant::now();
        store.put(&key, &Meta::default(), &artifact.payload).expect("it is stored");
        let took = microseconds(begun);
        put_bytes += artifact.payload.len() as u64;
        keys.push(key);
        if put_bytes < budget_bytes {
            written_before = bytes_written();
        } else {
            times.push(took);
            timed_bytes += artifact.payload.len() as u64;
            if times.len() % 500 == 0 {
                most = most.max(disk_bytes(folder));
            }
        }
        for _ in 0..lookups {
            let within = 1 + random.below(keys.len() as u64);
            let back = random.below(within);
            let _ = store.get(&keys[keys.len() - 1 - back as usize]);
        }
    }
    let stats = store.stats();
    let written = bytes_written().saturating_sub(written_before) as f64 / timed_bytes as f64;
    println!(
        "| {name} | {} MiB | {lookups} | {:.2} | {:.2} | {:.0} | {written:.2} | {:.2} | {:.2} |",
        budget_bytes >> 20,
        percentile(&mut times, 0.5),
        percentile(&mut times, 0.99),
        percentile(&mut times, 1.0),
        most as f64 / budget_bytes as f64,
        stats.hit_rate(),
    );
    drop(store);
    std::fs::remove_dir_all(folder).expect("the folder goes");
}

pub fn head() {
    println!("\nhapax at its budget:\n");
    println!(
        "| payloads | budget | lookups a put | put p50 µs | put p99 µs | put most µs | written / put bytes | most on disk / budget | hit rate |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
}

/// Handed to the system by this process so far.
fn bytes_written() -> u64 {
    let counts = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}
