//! What a `LateDevice` promises, driven through the trait itself.
#![expect(unsafe_code, reason = "the trait's calls are unsafe")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "the device checks every call that these tests make")]

use super::*;
use crate::device::stream::DeviceRef;
use std::sync::mpsc;
use std::time::Duration;

/// A device with 256 bytes of its memory and 8 page-locked ones that hold 1 to 8.
fn rig() -> (LateDevice, LateControl, u64, NonNull<u8>) {
    let (device, control) = LateDevice::with_memory(1024);
    let memory = device.alloc(256).unwrap();
    let host = device.alloc_page_locked(8).unwrap();
    unsafe { host.copy_from_nonoverlapping(NonNull::from(&[1u8, 2, 3, 4, 5, 6, 7, 8]).cast(), 8) };
    (device, control, memory, host)
}

fn marked(device: &LateDevice, stream: RawStream) -> RawEvent {
    let event = device.create_event().unwrap();
    unsafe { device.record_event(event, stream).unwrap() };
    event
}

/// Queues a host function that reports its name.
fn note(control: &LateControl, stream: RawStream, name: &'static str, to: &mpsc::Sender<&'static str>) {
    let to = to.clone();
    let function = Operation::HostFunction(Box::new(move || to.send(name).unwrap()));
    control.0.state.lock().queue("launch", stream).unwrap().operations.push_back(function);
}

#[test]
fn nothing_runs_until_an_event_demands_it() {
    let (device, control, memory, host) = rig();
    let stream = device.create_stream().unwrap();
    unsafe { device.copy_in(memory, host.as_ptr(), 8, stream).unwrap() };
    unsafe { device.zero(memory + 2, 2, stream).unwrap() };
    let event = marked(&device, stream);
    assert!(!unsafe { device.event_passed(event) }.unwrap());
    assert_eq!(control.pending(), 3);
    assert_eq!(control.read(memory, 8), [POISON; 8]);
    unsafe { device.wait_event(event).unwrap() };
    assert!(unsafe { device.event_passed(event) }.unwrap());
    assert_eq!(control.read(memory, 9), [1, 2, 0, 0, 5, 6, 7, 8, POISON]);
    assert_eq!((control.pending(), control.calls()), (0, 10));
    assert!(control.violations().is_empty());
}

#[test]
fn waiting_runs_what_the_mark_depends_on_and_nothing_more() {
    let (device, control, ..) = rig();
    let [first, second, third] = [(); 3].map(|()| device.create_stream().unwrap());
    let (to, seen) = mpsc::channel();
    note(&control, first, "before", &to);
    let before = marked(&device, first);
    note(&control, first, "after", &to);
    unsafe { device.stream_wait_event(second, before).unwrap() };
    note(&control, second, "second", &to);
    let middle = marked(&device, second);
    note(&control, third, "unrelated", &to);
    unsafe { device.stream_wait_event(third, middle).unwrap() };
    let last = marked(&device, third);
    unsafe { device.wait_event(middle).unwrap() };
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["before", "second"]);
    assert!(!unsafe { device.event_passed(last) }.unwrap());
    unsafe { device.wait_event(last).unwrap() };
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["unrelated"]);
    control.run_all();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["after"]);
}

#[test]
fn a_stream_waits_for_the_mark_that_it_was_given() {
    let (device, control, ..) = rig();
    let [first, second] = [(); 2].map(|()| device.create_stream().unwrap());
    let (to, seen) = mpsc::channel();
    let event = device.create_event().unwrap();
    assert!(unsafe { device.event_passed(event) }.unwrap(), "never recorded, so it has passed");
    unsafe { device.stream_wait_event(second, event).unwrap() };
    assert_eq!(control.pending(), 0);
    note(&control, first, "old", &to);
    unsafe { device.record_event(event, first).unwrap() };
    unsafe { device.stream_wait_event(second, event).unwrap() };
    note(&control, first, "new", &to);
    unsafe { device.record_event(event, first).unwrap() };
    unsafe { device.wait_event(marked(&device, second)).unwrap() };
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["old"]);
    assert!(!unsafe { device.event_passed(event) }.unwrap());
}

#[test]
fn a_blocking_copy_runs_its_own_stream_before_itself() {
    let (device, control, memory, host) = rig();
    let [stream, other] = [(); 2].map(|()| device.create_stream().unwrap());
    let mut back = [0; 4];
    unsafe { device.copy_in(memory, host.as_ptr(), 8, stream).unwrap() };
    unsafe { device.zero(memory, 8, other).unwrap() };
    unsafe { device.copy_in_blocking(memory + 1, [9u8, 9].as_ptr(), 2, stream).unwrap() };
    unsafe { device.copy_out_blocking(back.as_mut_ptr(), memory, 4, stream).unwrap() };
    assert_eq!((back, control.pending()), ([1, 9, 9, 4], 1));
    unsafe { device.copy_out(host.as_ptr(), memory, 8, other).unwrap() };
    unsafe { device.wait_event(marked(&device, other)).unwrap() };
    assert_eq!(unsafe { host.cast::<[u8; 8]>().read() }, [0; 8]);
}

#[test]
fn queued_work_on_freed_memory_is_reported_and_skipped() {
    let (device, control, memory, host) = rig();
    let stream = device.create_stream().unwrap();
    unsafe { device.copy_in(memory, host.as_ptr(), 8, stream).unwrap() };
    unsafe { device.free(memory, 256).unwrap() };
    assert!(control.violations()[0].starts_with("free: 1 queued operations still name"));
    let again = device.alloc(256).unwrap();
    control.run_all();
    assert!(control.violations()[1].starts_with("copy_in: ran after"));
    assert_eq!(control.read(again, 256), [POISON; 256]);
    assert_eq!(control.violations().len(), 2);
    let mut span = control.0.state.lock().memory.span(Kind::Device, again, 8).unwrap();
    span.allocation -= 1;
    assert!(control.0.state.lock().memory.copy(None, span).is_err(), "another allocation, the same address");
    assert!(unsafe { device.free(memory ^ 1, 256) }.is_err(), "no allocation");
    assert!(unsafe { device.free(again, 255) }.is_err(), "not its size");
    assert!(unsafe { device.copy_in(again, [0u8].as_ptr(), 1, stream) }.is_err(), "not page-locked");
    control.write(again + 255, &[0, 0]);
    assert_eq!(control.violations().len(), 6);
    assert_eq!((control.memory_bytes(), control.page_locked_bytes()), (256, 8));
}

#[test]
fn streams_and_events_are_refused_once_destroyed() {
    let (device, control, ..) = rig();
    let stream = device.create_stream().unwrap();
    let event = marked(&device, stream);
    assert!(unsafe { device.destroy_stream(stream) }.is_err(), "the mark is pending");
    unsafe { device.wait_event(event).unwrap() };
    unsafe { device.destroy_stream(stream).unwrap() };
    assert!(unsafe { device.record_event(event, stream) }.is_err());
    unsafe { device.destroy_event(event).unwrap() };
    assert!(unsafe { device.event_passed(event) }.is_err());
    assert_eq!(control.violations().len(), 3);
}

#[test]
fn memory_ends_where_it_was_told_to() {
    let (device, control, memory, _) = rig();
    assert_eq!(device.memory().unwrap(), Some(MemoryInfo { free_bytes: 768, total_bytes: 1024 }));
    assert_eq!(device.alloc(769).unwrap_err().fault, Fault::OutOfMemory);
    unsafe { device.free(memory, 256).unwrap() };
    device.alloc(1024).unwrap();
    assert!(control.violations().is_empty());
    assert!(device.alloc(0).is_err());
}

#[test]
fn one_operation_runs_alone_and_a_host_function_outside_the_lock() {
    let (device, control, memory, _) = rig();
    let device = DeviceRef::new(device);
    let [first, second] = [(); 2].map(|()| device.new_stream().unwrap());
    let inner = control.clone();
    let stream = first.clone();
    control.launch(&first, move || inner.write(memory, &[7]));
    second.wait_for(&first.record().unwrap()).unwrap();
    assert!(!control.run_one(&second), "it waits for the first");
    assert!(control.run_one(&first));
    assert_eq!((control.read(memory, 1), control.pending()), (vec![7], 2));
    control.run_stream(&second);
    assert_eq!(control.pending(), 0);
    control.launch(&first, move || assert!(stream.synchronize().is_err(), "refused, or it would wait for itself"));
    control.run_all();
    assert_eq!(control.violations().len(), 1);
}

#[test]
fn a_thread_waits_for_the_host_function_that_another_one_runs() {
    let (device, control, ..) = rig();
    let stream = device.create_stream().unwrap();
    let ((started, has_started), (finish, may_finish)) = (mpsc::channel(), mpsc::channel());
    let (to, seen) = mpsc::channel();
    let wait = Operation::HostFunction(Box::new(move || {
        started.send(()).unwrap();
        let _ = may_finish.recv_timeout(Duration::from_secs(60)); // a failing test must not hang
    }));
    control.0.state.lock().queue("launch", stream).unwrap().operations.push_back(wait);
    let first = marked(&device, stream);
    std::thread::scope(|scope| {
        scope.spawn(|| unsafe { device.wait_event(first) });
        has_started.recv().unwrap();
        note(&control, stream, "behind", &to);
        let event = marked(&device, stream);
        assert!(!unsafe { device.event_passed(event) }.unwrap());
        let waiter = scope.spawn({
            let device = &device;
            move || unsafe { device.wait_event(event) }
        });
        assert!(seen.recv_timeout(Duration::from_millis(50)).is_err(), "it would have overtaken");
        finish.send(()).unwrap();
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(control.pending(), 0);
    assert_eq!(seen.try_recv(), Ok("behind"));
}
