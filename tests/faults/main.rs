//! What stands behind a device call that fails: one session, run again and again with another of its calls failing.
//!
//! A call that fails once can be made again and the session ends as if nothing had been; a device that is lost fails
//! every later call without being asked again. Either way each handle is given back or gone, and the books add up.

/// Host memory; or CUDA's driver, in the package `cuda-suite`, which compiles these same files.
#[allow(dead_code, unused_imports, reason = "each suite uses its part")]
mod device {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device/mod.rs"));
}

mod memory;
mod session;
mod witness;

use device::{Control, Watch};
use hapax::{DeviceRef, Fault, FaultControl, FaultDevice, Heap, HeapOptions, HostDevice, Mode};
use session::session;
use std::time::{Duration, Instant};
use witness::Witness;

/// One device to fail, and both its ends.
struct Bench {
    device: DeviceRef,
    control: FaultControl,
    late: Option<Control>,
    watch: Watch,
}

fn plain() -> Option<Bench> {
    let watch = device::watch();
    let (device, control) = FaultDevice::new(device::open());
    Some(Bench { device: device.into(), control, late: None, watch })
}

/// A card is as late as it likes, which is no plan.
fn late() -> Option<Bench> {
    let watch = device::watch();
    let (inner, late) = device::late_if_there_is_one()?;
    let (device, control) = FaultDevice::new(inner);
    Some(Bench { device: device.into(), control, late: Some(late), watch })
}

#[test]
fn every_call_of_a_session_may_fail() {
    fail_each_call(plain, 60);
}

#[test]
fn every_call_of_a_session_on_a_late_device_may_fail() {
    fail_each_call(late, 150);
}

fn fail_each_call(open: fn() -> Option<Bench>, at_least: u64) {
    let Some(bench) = open() else { return };
    let calls = run(bench, Mode::Exact, None);
    assert!(calls >= at_least, "a session of {calls} calls");
    for mode in [Mode::Exact, Mode::Relaxed] {
        for nth in 1..=calls {
            for fault in [Fault::Failed, Fault::OutOfMemory, Fault::Lost] {
                run(open().expect("as before"), mode, Some((nth, fault)));
            }
        }
    }
}

/// Runs a session to its end, the device's own included, and returns how many calls that took.
fn run(bench: Bench, mode: Mode, planned: Option<(u64, Fault)>) -> u64 {
    let Bench { device, control, late, watch: _watch } = bench;
    if let Some((nth, fault)) = planned {
        control.fail_call(nth, fault);
    }
    let telltale = Telltale { planned, control: &control };
    let witness = Witness::new(device.clone(), late.clone(), planned.map(|(_, fault)| fault));
    let ended = session(&witness, &device, mode);
    drop(witness);
    let is_lost = device.is_lost();
    assert!(ended.is_ok() || is_lost, "only a lost device ends a session early");
    if !is_lost {
        // A session that failed early may have left memory for the next heap to give back, which another test's may be doing.
        let given_back = || {
            drop(Heap::new(HostDevice::new(), HeapOptions::new(256)).unwrap());
            (control.live_bytes(), control.page_locked_bytes()) == (0, 0)
        };
        let begun = Instant::now();
        while !given_back() {
            let left = (control.live_bytes(), control.page_locked_bytes());
            assert!(begun.elapsed() < Duration::from_secs(60), "{} and {} bytes are left", left.0, left.1);
            std::thread::yield_now();
        }
    }
    drop(device);
    assert_eq!(control.calls_after_loss(), 0);
    if let Some(late) = late {
        assert_eq!(late.violations(), [""; 0]);
        // Nothing keeps a lost device either.
        assert_eq!((late.memory_bytes(), late.page_locked_bytes()), (0, 0));
    }
    drop(telltale);
    control.calls()
}

/// Names the call that failed when the session went wrong.
struct Telltale<'a> {
    planned: Option<(u64, Fault)>,
    control: &'a FaultControl,
}

impl Drop for Telltale<'_> {
    fn drop(&mut self) {
        if let (true, Some((nth, fault))) = (std::thread::panicking(), self.planned) {
            let name = self.control.log().get(nth as usize - 1).copied().unwrap_or("never made");
            eprintln!("with {fault:?} at call {nth} ({name})");
        }
    }
}

/// That the session is worth its name.
#[test]
fn the_session_makes_every_kind_of_call() {
    let log = |bench: Bench| {
        let control = bench.control.clone();
        run(bench, Mode::Exact, None);
        control.log()
    };
    let plain = log(plain().expect("there is always one"));
    let calls = [
        "memory",
        "alloc",
        "free",
        "alloc_page_locked",
        "free_page_locked",
        "create_stream",
        "destroy_stream",
        "create_event",
        "destroy_event",
        "record_event",
        "event_passed",
        "wait_event",
        "copy_in",
        "copy_out",
        "copy_in_blocking",
        "copy_out_blocking",
        "zero",
    ];
    for call in calls {
        assert!(plain.contains(&call), "{call} is never made");
    }
    if let Some(late) = late() {
        let late = log(late);
        for call in calls.into_iter().chain(["stream_wait_event"]) {
            assert!(late.contains(&call), "{call} is never made on a late device");
        }
    }
}

/// The mark of one stream cannot be asked; what another one used is reclaimed all the same.
#[test]
fn a_stream_that_fails_holds_up_nothing_of_the_others() {
    // The watch ends last: it looks for what is left.
    let Some(Bench { watch: _watch, device, control, late: Some(late) }) = late() else { return };
    let heap = Heap::new(&device, HeapOptions::new(256).granule_bytes(16).slab_bytes(256)).unwrap();
    let (a, b) = (heap.new_stream().unwrap(), heap.new_stream().unwrap());
    let use_on = |stream| drop(heap.alloc_slice::<u8>(16).unwrap().zero(stream).unwrap());
    use_on(&a);
    heap.trim().unwrap();
    use_on(&b);
    assert_eq!(heap.ledger().freeing_bytes, 32);
    control.fail_call(1, Fault::Failed);
    assert!(heap.trim().is_err(), "that the mark of `a` could not be asked is told");
    late.run_stream(&b);
    heap.trim().unwrap();
    assert_eq!(heap.ledger().freeing_bytes, 16, "`b` was marked all the same, so what it used is free");
    late.run_stream(&a);
    heap.close().unwrap();
}
