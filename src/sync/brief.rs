//! A lock for sections of some tens of nanoseconds which many threads enter all the time. Knows nothing of what it
//! guards.
//!
//! Where it differs from a lock for all purposes:
//! - To let go is one store and one load, no atomic read-modify-write; in a section this short that one is a fifth of
//!   everything. The price: a thread that goes to sleep at that very moment may be overlooked. It therefore sleeps for
//!   a limited time and looks again.
//! - Who finds it held looks away for longer than a section takes before it looks again. Meanwhile the holder goes on with
//!   all that the lock guards in its own core's cache; handed over at each turn, every line of it would have to cross from
//!   core to core, which takes longer than the section.
//! - Who still finds it held sleeps: its holder is not running, or holds it for long.

use crate::sync::{AtomicBool, Condvar, Mutex, Ordering, pause};
use std::time::Duration;

pub(crate) struct Brief {
    held: AtomicBool,
    /// Somebody sleeps whom nobody has woken. Written under `asleep`.
    wanted: AtomicBool,
    asleep: Mutex<u32>,
    bell: Condvar,
}

/// How often who finds the lock held looks away: for 2^6, 2^7 and so on pauses of the processor, some microseconds in all. More
/// would be wasted where there are more threads than cores and the holder waits for one.
const LOOKS: std::ops::Range<u32> = if cfg!(hapax_loom) { 0..1 } else { 6..9 };

/// How late who was overlooked wakes.
const NAP: Duration = Duration::from_millis(1);

impl Brief {
    #[cfg(not(hapax_loom))]
    pub(crate) const fn new() -> Self {
        Brief {
            held: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            asleep: Mutex::new(0),
            bell: Condvar::new(),
        }
    }

    #[inline]
    pub(crate) fn try_acquire(&self) -> bool {
        self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(crate) fn acquire(&self) {
        if !self.try_acquire() {
            self.acquire_held();
        }
    }

    /// By the holder.
    #[inline]
    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::Release);
        // May be read before others see the store. Who set it in between has found the lock held, and naps.
        if self.wanted.load(Ordering::Relaxed) {
            self.wake_one();
        }
    }

    #[cold]
    fn acquire_held(&self) {
        loop {
            for look in LOOKS {
                for _ in 0..1 << look {
                    pause();
                }
                if !self.held.load(Ordering::Relaxed) && self.try_acquire() {
                    return;
                }
            }
            if self.acquire_or_nap() {
                return;
            }
        }
    }

    fn acquire_or_nap(&self) -> bool {
        let mut asleep = self.asleep.lock();
        self.wanted.store(true, Ordering::SeqCst);
        if self.try_acquire() {
            self.wanted.store(*asleep > 0, Ordering::Relaxed); // the next to let go wakes the next
            return true;
        }
        *asleep += 1;
        (asleep, _) = self.bell.wait_for(asleep, NAP);
        *asleep -= 1;
        false
    }

    #[cold]
    fn wake_one(&self) {
        let asleep = self.asleep.lock(); // nobody is between its look and its sleep
        self.wanted.store(false, Ordering::Relaxed); // until who wakes has had its turn: one is on its way
        if *asleep > 0 {
            self.bell.notify_one();
        }
    }
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use crate::sync::BriefMutex;
    use std::panic::AssertUnwindSafe;
    use std::time::Duration;

    #[test]
    fn of_many_threads_one_is_in_at_a_time() {
        let count = BriefMutex::new(0u64);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20_000).for_each(|_| *count.lock() += 1));
            }
        });
        assert_eq!(count.into_inner(), 160_000);
    }

    /// Everybody sleeps before it is let go, and all get in: each who leaves wakes the next.
    #[test]
    fn who_sleeps_gets_in() {
        for _ in 0..20 {
            let count = BriefMutex::new(0u32);
            std::thread::scope(|scope| {
                let held = count.lock();
                for _ in 0..4 {
                    scope.spawn(|| *count.lock() += 1);
                }
                std::thread::sleep(Duration::from_millis(2));
                drop(held);
            });
            assert_eq!(count.into_inner(), 4);
        }
    }

    #[test]
    fn a_panic_lets_go() {
        let count = BriefMutex::new(0u32);
        let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let _held = count.lock();
            std::panic::resume_unwind(Box::new("while it is held"));
        }));
        assert!(panicked.is_err() && count.try_lock().is_some());
    }
}

/// Every interleaving of two threads, with what the lock guards in a cell that loom watches. A nap ends at once here, so
/// this shows that one gets in at a time, after all that the one before did, and that nobody stays outside; not who wakes whom.
#[cfg(all(test, hapax_loom))]
mod loom_models {
    use super::*;
    use loom::cell::UnsafeCell;
    use std::rc::Rc;

    struct Guarded {
        lock: Brief,
        count: UnsafeCell<()>,
    }

    fn two_threads_count_twice(release: fn(&Brief)) {
        loom::model(move || {
            let lock = Brief {
                held: AtomicBool::new(false),
                wanted: AtomicBool::new(false),
                asleep: Mutex::new(0),
                bell: Condvar::new(),
            };
            let guarded = Rc::new(Guarded { lock, count: UnsafeCell::new(()) });
            let count = move |guarded: &Guarded| {
                guarded.lock.acquire();
                guarded.count.with_mut(|_| ()); // two of these that nothing orders are a data race, which loom reports
                release(&guarded.lock);
            };
            let other = guarded.clone();
            let thread = loom::thread::spawn(move || (0..2).for_each(|_| count(&other)));
            (0..2).for_each(|_| count(&guarded));
            thread.join().unwrap();
        });
    }

    #[test]
    fn loom_of_two_threads_one_is_in_at_a_time() {
        two_threads_count_twice(Brief::release);
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn loom_a_release_that_orders_nothing_is_caught() {
        two_threads_count_twice(|lock| lock.held.store(false, Ordering::Relaxed));
    }
}
