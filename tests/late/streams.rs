//! Streams themselves: more of them than note classes, and streams whose handles are gone before their work is.

use crate::device::{self, Control, Watch};
use crate::{Rig, contents, lend, lend_mut};
use hapax::{FaultControl, FaultDevice, Freed, Heap, HeapOptions, Stream};

/// More than the 31 classes that a block's notes tell apart.
const STREAMS: usize = 40;
const CLASSES: usize = 31;

fn many(rig: &Rig) -> Vec<Stream> {
    (0..STREAMS).map(|_| rig.heap.new_stream().unwrap()).collect()
}

#[test]
fn with_more_streams_than_classes_a_block_still_waits_for_its_own() {
    let rig = Rig::new(4);
    let streams = many(&rig);
    for (at, own) in streams.iter().enumerate() {
        let handle = rig.ready(b"mine");
        let seen = rig.late.reads(own, lend(&handle, own), 4);
        assert_eq!(handle.free().unwrap(), Freed::WhenStreamsPass { bytes: 4 });
        rig.sweep();
        streams.iter().enumerate().filter(|(other, _)| *other != at).for_each(|(_, other)| rig.late.run_stream(other));
        rig.sweep();
        assert_eq!(rig.freeing_bytes(), 4, "stream {at} has not passed");
        rig.late.run_all(); // its own, and those that share its class
        rig.sweep();
        assert_eq!((rig.freeing_bytes(), seen.try_recv().unwrap()), (0, b"mine".to_vec()));
    }
}

#[test]
fn with_more_streams_than_classes_a_block_still_waits_for_all_of_its_own() {
    let rig = Rig::new(8);
    let streams = many(&rig);
    let handle = rig.ready(b"everyone");
    let kernels: Vec<_> = streams.iter().map(|stream| rig.late.reads(stream, lend(&handle, stream), 8)).collect();
    drop(handle);
    for (at, stream) in streams.iter().enumerate() {
        rig.sweep();
        assert_eq!(rig.freeing_bytes(), 8, "stream {at} has not passed");
        rig.late.run_stream(stream);
    }
    rig.late.run_all();
    let next = rig.ready(b"overrun!");
    assert!(kernels.iter().all(|seen| seen.try_recv().unwrap() == b"everyone"));
    drop(next);
}

#[test]
fn a_writer_waits_for_a_reader_whose_class_it_shares() {
    let rig = Rig::new(8);
    let streams = many(&rig);
    for at in 0..STREAMS - CLASSES {
        let (reader, writer) = (&streams[at], &streams[at + CLASSES]);
        let mut handle = rig.ready(b"old!");
        let address = lend(&handle, reader);
        let seen = rig.late.reads(reader, address, 4);
        lend_mut(&mut handle, writer);
        rig.late.writes(writer, address, b"new!");
        rig.late.run_stream(writer);
        assert_eq!(seen.try_recv().expect("it stands before the writer"), b"old!");
        let seen = rig.late.reads(reader, lend(&handle, reader), 4);
        rig.late.run_stream(reader);
        assert_eq!(seen.try_recv().unwrap(), b"new!", "and behind it the next time");
        drop(handle);
        rig.heap.settle().unwrap();
    }
}

#[test]
fn waiting_for_one_stream_does_not_excuse_another_of_its_class() {
    let rig = Rig::new(8);
    let streams = many(&rig);
    let (reader, copier) = (&streams[2], &streams[2 + CLASSES]);
    let handle = rig.ready(b"used");
    let seen = rig.late.reads(reader, lend(&handle, reader), 4);
    let flying = handle.download(rig.heap.page_locked_slice(4).unwrap(), copier).unwrap();
    let (handle, _) = flying.wait().unwrap();
    assert_eq!(handle.free().unwrap(), Freed::WhenStreamsPass { bytes: 4 });
    assert!(seen.try_recv().is_err(), "the reader has yet to run");
    rig.heap.settle().unwrap();
    assert_eq!(seen.try_recv().unwrap(), b"used");
}

#[test]
fn a_block_waits_for_a_stream_whose_handle_is_gone() {
    let rig = Rig::new(16);
    let stream = rig.heap.new_stream().unwrap();
    let handle = rig.ready(&[1; 16]);
    let seen = rig.late.reads(&stream, lend(&handle, &stream), 16);
    drop(stream);
    drop(handle);
    let _later = [(); 3].map(|()| rig.heap.new_stream().unwrap());
    assert!(rig.heap.alloc_slice::<u8>(16).is_err());
    assert!(seen.try_recv().is_err());
    rig.late.run_all();
    assert_eq!(seen.try_recv().unwrap(), [1; 16]);
    drop(rig.heap.alloc_slice::<u8>(16).unwrap());
}

#[test]
fn a_reader_is_ordered_behind_a_writer_whose_stream_handle_is_gone() {
    let rig = Rig::new(16);
    let stream = rig.heap.new_stream().unwrap();
    let handle = rig.pending(b"gone", &stream);
    drop(stream);
    rig.heap.settle().unwrap();
    let seen = rig.late.reads(&rig.b, lend(&handle, &rig.b), 4);
    rig.late.run_stream(&rig.b);
    assert_eq!(seen.try_recv().unwrap(), b"gone");
    assert_eq!(contents(&handle), b"gone");
}

/// A device that keeps a log, with a heap on it.
fn logged() -> (Watch, Control, FaultControl, Heap) {
    let watch = device::watch();
    let (inner, late) = device::late();
    let (device, control) = FaultDevice::new(inner);
    (watch, late, control, Heap::new(device, HeapOptions::new(64).granule_bytes(1)).unwrap())
}

fn count(control: &FaultControl, call: &str) -> usize {
    control.log().iter().filter(|made| **made == call).count()
}

#[test]
fn a_stream_ends_once_its_handles_are_gone_and_its_work_is_over() {
    let (_watch, late, control, heap) = logged();
    let stream = heap.new_stream().unwrap();
    let handle = heap.alloc_slice::<u8>(4).unwrap().zero(&stream).unwrap();
    handle.free().unwrap();
    let clone = stream.clone();
    drop(stream);
    let_streams_end(&heap, &late);
    assert_eq!(count(&control, "destroy_stream"), 0, "a clone is left");
    drop(clone);
    heap.settle().unwrap();
    assert_eq!(count(&control, "destroy_stream"), 0, "its last mark has not passed");
    let_streams_end(&heap, &late);
    assert_eq!(count(&control, "destroy_stream"), 1);
    assert!(late.violations().is_empty());
}

/// Marks every stream that is to end, lets the marks pass, and has the heap notice.
fn let_streams_end(heap: &Heap, late: &Control) {
    heap.settle().unwrap();
    late.run_all();
    heap.settle().unwrap();
}

#[test]
fn streams_that_come_and_go_do_not_pile_up() {
    let (_watch, late, control, heap) = logged();
    for _ in 0..200 {
        let stream = heap.new_stream().unwrap();
        heap.alloc_slice::<u8>(8).unwrap().zero(&stream).unwrap().free().unwrap();
        drop(stream);
        late.run_all();
    }
    let_streams_end(&heap, &late);
    let alive = count(&control, "create_stream") - count(&control, "destroy_stream");
    assert!(alive <= 2, "{alive} streams alive");
    assert!(count(&control, "create_event") < 20, "{} events", count(&control, "create_event"));
    assert_eq!(heap.ledger().freeing_bytes, 0);
    heap.close().unwrap();
    assert!(late.violations().is_empty());
}
