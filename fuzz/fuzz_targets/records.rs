//! Any bytes at all, where the stores expect records, segments and sidecars: nothing panics, and what is read was written.
#![no_main]

use hapax::{Fingerprint, Key, Kind, Meta, decode, encode, read_any_file};
use libfuzzer_sys::fuzz_target;
use twox_hash::XxHash3_128;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode(bytes);
    read_any_file(bytes);
    let record = with_valid_checksum(bytes);
    let _ = decode(&record);
    for file_type in 1..=6 {
        read_any_file(&in_a_file(file_type, &record));
    }
    damaged_is_never_other(bytes);
});

/// Reaches what only the checksum guards: the header's decoder.
fn with_valid_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut record = b"HPXR\x01\0".to_vec();
    record.extend(bytes);
    record.resize(record.len().max(56), 0);
    let behind = record.len() - 56;
    let header_bytes = behind.min(usize::from(record[6]));
    record[8..12].copy_from_slice(&(header_bytes as u32).to_le_bytes());
    record[12..16].copy_from_slice(&((behind - header_bytes) as u32).to_le_bytes());
    let checksum = XxHash3_128::oneshot(&record);
    record.extend(checksum.to_le_bytes());
    record
}

fn in_a_file(file_type: u16, record: &[u8]) -> Vec<u8> {
    let number = record.get(24..32).map_or([0; 8], |number| number.try_into().expect("eight bytes"));
    let mut file = b"HPXF\x01\0".to_vec();
    file.extend(file_type.to_le_bytes());
    file.extend(number);
    file.extend(record);
    file
}

/// The bytes say what is stored and where it is damaged.
fn damaged_is_never_other(bytes: &[u8]) {
    let Some((at, payload)) = bytes.split_first_chunk::<4>() else { return };
    let key = Key::new(Kind::CODE, Fingerprint::of("fuzz").part("payload", payload).finish());
    let mut record = Vec::new();
    encode(&key, 1, &Meta::default(), payload, &mut record).expect("it is short");
    let whole = decode(&record).expect("it is intact");
    assert_eq!((whole.key, whole.payload), (key, payload));
    let bit = u32::from_le_bytes(*at) as usize % (record.len() * 8);
    record[bit / 8] ^= 1 << (bit % 8);
    assert!(decode(&record).is_err(), "a flipped bit went unseen");
}
