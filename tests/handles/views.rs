//! Views: parts, halves, casts and bytes, and what they refuse.

use crate::{heap, watch};
use hapax::{DevBox, Error, Heap, Stream, View};

fn numbers(heap: &Heap) -> DevBox<[u32]> {
    heap.alloc_slice(8).unwrap().upload_from(&[10, 11, 12, 13, 14, 15, 16, 17]).unwrap()
}

fn read(view: &View<'_, [u32]>) -> Vec<u32> {
    let mut back = vec![0; view.len()];
    view.download_to(&mut back).unwrap();
    back
}

fn rig() -> (Heap, Stream) {
    let heap = heap();
    let stream = heap.new_stream().unwrap();
    (heap, stream)
}

#[test]
fn a_part_of_a_view_is_the_same_memory() {
    let _watch = watch();
    let (heap, stream) = rig();
    let handle = numbers(&heap);
    let view = handle.on(&stream).unwrap();
    let part = view.slice(2..6).unwrap();
    assert_eq!((part.len(), part.bytes(), part.is_empty()), (4, 16, false));
    assert_eq!(part.device_address(), view.device_address() + 8);
    assert_eq!(read(&part), [12, 13, 14, 15]);
    assert_eq!(read(&part.slice(1..2).unwrap()), [13]);
    assert!(view.slice(8..8).unwrap().is_empty());
    assert_eq!(part.stream().raw(), stream.raw());
    let copy = part;
    assert_eq!(read(&copy), read(&part), "shared views are copies of each other");
}

#[test]
fn a_range_outside_of_a_view_is_refused() {
    let _watch = watch();
    let (heap, stream) = rig();
    let mut handle = numbers(&heap);
    let view = handle.on(&stream).unwrap();
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    for (range, start, end) in [(0..9, 0, 9), (9..9, 9, 9), (3..2, 3, 2), (0..usize::MAX, 0, usize::MAX)] {
        assert_eq!(view.slice(range).err(), Some(Error::OutOfRange { start, end, elements: 8 }));
    }
    let part = view.slice(4..8).unwrap();
    assert_eq!(part.slice(0..5).err(), Some(Error::OutOfRange { start: 0, end: 5, elements: 4 }));
    let mut view = handle.on_mut(&stream).unwrap();
    assert_eq!(view.slice_mut(7..9).err(), Some(Error::OutOfRange { start: 7, end: 9, elements: 8 }));
    let refused_split = view.split_at_mut(9).unwrap_err();
    assert_eq!(*refused_split.error, Error::OutOfRange { start: 0, end: 9, elements: 8 });
    assert_eq!(refused_split.handle.len(), 8, "the view comes back");
}

#[test]
fn the_halves_of_a_mutable_view_are_disjoint_and_cover_it() {
    let _watch = watch();
    let (heap, stream) = rig();
    let mut handle = numbers(&heap);
    for mid in [0, 3, 8] {
        let mut whole = handle.on_mut(&stream).unwrap();
        let start = whole.device_address();
        let (mut head, mut tail) = whole.split_at_mut(mid).unwrap();
        assert_eq!((head.len(), tail.len()), (mid, 8 - mid));
        assert_eq!((head.device_address(), tail.device_address()), (start, start + 4 * mid as u64));
        let mut back = vec![0; 8 - mid];
        tail.download_to(&mut back).unwrap();
        assert_eq!(back, &[10, 11, 12, 13, 14, 15, 16, 17][mid..]);
    }
}

#[test]
fn a_mutable_part_lends_the_view_and_gives_it_back() {
    let _watch = watch();
    let (heap, stream) = rig();
    let mut handle = numbers(&heap);
    let mut view = handle.on_mut(&stream).unwrap();
    let start = view.device_address();
    let mut part = view.slice_mut(1..3).unwrap();
    assert_eq!((part.len(), part.is_empty(), part.bytes(), part.device_address()), (2, false, 8, start + 4));
    let mut back = [0; 2];
    part.download_to(&mut back).unwrap();
    assert_eq!(back, [11, 12]);
    assert_eq!((view.len(), view.bytes(), view.stream().raw()), (8, 32, stream.raw()));
}

#[test]
fn a_cast_keeps_the_bytes_and_counts_the_elements_anew() {
    let _watch = watch();
    let (heap, stream) = rig();
    let mut handle = numbers(&heap);
    let view = handle.on(&stream).unwrap();
    let pairs = view.cast::<[u32; 2]>().unwrap();
    let mut back = [[0; 2]; 4];
    pairs.download_to(&mut back).unwrap();
    assert_eq!(back, [[10, 11], [12, 13], [14, 15], [16, 17]]);
    assert_eq!(view.cast::<u64>().unwrap().len(), 4);
    assert_eq!(view.cast::<u8>().unwrap().len(), 32);
    assert_eq!(view.slice(0..0).unwrap().cast::<()>().unwrap().len(), 0);
    assert_eq!(handle.on_mut(&stream).unwrap().cast::<i16>().unwrap().len(), 16);
}

#[test]
fn a_cast_to_a_size_that_does_not_divide_is_refused() {
    let _watch = watch();
    let (heap, stream) = rig();
    let mut handle = numbers(&heap);
    let view = handle.on(&stream).unwrap();
    let address = view.device_address();
    let refused = |element_bytes, align_bytes| Error::Misaligned { address, bytes: 32, element_bytes, align_bytes };
    assert_eq!(view.cast::<[u8; 3]>().err(), Some(refused(3, 1)));
    assert_eq!(view.cast::<[u64; 5]>().err(), Some(refused(40, 8)));
    assert_eq!(view.cast::<()>().err(), Some(refused(0, 1)), "no count of nothing makes 32 bytes");
    assert_eq!(*handle.on_mut(&stream).unwrap().cast::<[u8; 5]>().unwrap_err().error, refused(5, 1));
}

#[test]
fn a_cast_to_an_alignment_that_the_address_lacks_is_refused() {
    let _watch = watch();
    let (heap, stream) = rig();
    let handle = numbers(&heap);
    let odd = handle.on(&stream).unwrap().slice(1..7).unwrap();
    assert_eq!(odd.bytes() % 8, 0);
    let address = odd.device_address();
    let refused = Error::Misaligned { address, bytes: 24, element_bytes: 8, align_bytes: 8 };
    assert_eq!(odd.cast::<u64>().err(), Some(refused));
    let bytes = handle.on(&stream).unwrap().into_bytes();
    assert!(bytes.slice(2..6).unwrap().cast::<u32>().is_err());
    let mut back = [0; 1];
    bytes.slice(4..8).unwrap().cast::<u32>().unwrap().download_to(&mut back).unwrap();
    assert_eq!(back, [11]);
}

#[test]
fn views_of_values_and_slices_turn_into_bytes() {
    let _watch = watch();
    let (heap, stream) = rig();
    let mut one = heap.alloc::<[u16; 2]>().unwrap().upload_from(&[0x0102, 0x0304]).unwrap();
    let mut back = [0; 4];
    one.on(&stream).unwrap().into_bytes().download_to(&mut back).unwrap();
    assert_eq!(back, bytemuck::cast::<[u16; 2], [u8; 4]>([0x0102, 0x0304]));
    assert_eq!(one.on(&stream).unwrap().bytes(), 4);
    assert_eq!(one.on_mut(&stream).unwrap().into_bytes().len(), 4);
}

#[test]
fn a_download_from_a_view_checks_the_length() {
    let _watch = watch();
    let (heap, stream) = rig();
    let handle = numbers(&heap);
    let view = handle.on(&stream).unwrap().slice(0..3).unwrap();
    let refused = Error::LengthMismatch { device_elements: 3, host_elements: 4 };
    assert_eq!(view.download_to(&mut [0; 4]).err(), Some(refused));
}
