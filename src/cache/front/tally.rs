//! Counts hits without a line of memory that all threads write. Knows threads.
//!
//! A thread that counts for the first time gets a lane for as long as it lives. Nobody else writes the lane's
//! numbers meanwhile, so a hit is a load and a store and no atomic step. Threads beyond the lanes share one, with
//! atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};

/// With the one that is shared: the last.
const LANES: usize = if cfg!(hapax_loom) { 1 } else { 64 };
const SHARED: usize = LANES - 1;

pub(crate) struct Tally(Box<[Lane; LANES]>);

/// As much as two lines, since processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Lane(AtomicU64);

impl Tally {
    pub(crate) fn new() -> Self {
        Tally(Box::new([const { Lane(AtomicU64::new(0)) }; LANES]))
    }

    #[inline]
    pub(crate) fn add_one(&self) {
        let lane = lane();
        let count = &self.0[lane % LANES].0;
        if lane == SHARED {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|lane| lane.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(hapax_loom)]
fn lane() -> usize {
    SHARED
}

#[cfg(not(hapax_loom))]
#[inline]
fn lane() -> usize {
    // A thread that is about to end has given its lane back.
    HELD.try_with(|held| held.0).unwrap_or(SHARED)
}

#[cfg(not(hapax_loom))]
thread_local! {
    static HELD: Held = Held::claim();
}

/// Which lanes are held. Bit `SHARED` is never set.
#[cfg(not(hapax_loom))]
static CLAIMED: AtomicU64 = AtomicU64::new(0);

#[cfg(not(hapax_loom))]
struct Held(usize);

#[cfg(not(hapax_loom))]
impl Held {
    fn claim() -> Self {
        let mut claimed = CLAIMED.load(Ordering::Relaxed);
        loop {
            let free = claimed.trailing_ones() as usize;
            if free >= SHARED {
                return Held(SHARED);
            }
            // Acquire: what the last holder of the lane counted is seen.
            match CLAIMED.compare_exchange_weak(claimed, claimed | 1 << free, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Held(free),
                Err(now) => claimed = now,
            }
        }
    }
}

#[cfg(not(hapax_loom))]
impl Drop for Held {
    fn drop(&mut self) {
        if self.0 != SHARED {
            CLAIMED.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::time::{Duration, Instant};

    /// All of them at once, so that some share a lane; those count for longer than the system lets a thread run, to meet each other there.
    #[test]
    fn no_count_is_lost_among_more_threads_than_lanes() {
        const THREADS: usize = LANES + 3;
        const LONG: Duration = Duration::from_millis(100);
        let tally = Tally::new();
        let mut expected = [0; LANES];
        for _ in 0..2 {
            let (all_counted, all_done) = (Barrier::new(THREADS), Barrier::new(THREADS));
            let mut held = HashSet::from([lane()]); // this thread's, all the while
            std::thread::scope(|scope| {
                let count = || {
                    tally.add_one();
                    all_counted.wait();
                    let (begun, mut times) = (Instant::now(), 1);
                    while times == 1 || lane() == SHARED && begun.elapsed() < LONG {
                        (0..1000).for_each(|_| tally.add_one());
                        times += 1000;
                    }
                    all_done.wait();
                    (lane(), times)
                };
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(count)).collect();
                for thread in threads {
                    let (lane, times) = thread.join().unwrap(); // a lane is given back at the thread's very end
                    assert!(held.insert(lane) || lane == SHARED, "two threads hold lane {lane}");
                    expected[lane] += times;
                }
            });
            assert!(held.len() > LANES / 2, "other tests' threads are few");
        }
        assert_eq!(tally.0.each_ref().map(|lane| lane.0.load(Ordering::Relaxed)), expected);
        assert_eq!(tally.sum(), expected.iter().sum());
    }
}
