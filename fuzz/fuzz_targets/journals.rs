//! Any bytes at all, where a journal expects bases and logs: nothing panics, what is read is what a fold is given and what stays
//! after it; and what was appended comes back, or is missed where it was damaged.
#![no_main]

mod common;

use common::{Input, aligned, file, in_proportion, number, record, write};
use hapax::{Compacted, CrashDisk, DirectoryJournal, Disk, Fingerprint, Journal, JournalEntry, Replay};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

const LOG: u16 = 5;
const BASE: u16 = 6;
const HINT: u16 = 3;
const HEAD: u16 = 0xfff3;
/// By how much a base's head is wrong about the length of a record.
const OFF: [u64; 8] = [0, 1, 16, 255, 1 << 16, 1 << 24, 1 << 30, (1 << 32) - 1_000];

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let how = input.byte();
    if how & 1 == 0 { hostile(how >> 1, input) } else { appended(input) }
});

fn hostile(how: u8, mut input: Input) {
    let disk = CrashDisk::new();
    let id = if how & 0x40 == 0 { u64::from(how >> 3 & 1) } else { u64::MAX };
    let log_bytes = usize::from(input.byte()) * 8;
    let log = match how >> 4 & 3 {
        0 => input.bytes(log_bytes).to_vec(),
        1 => file(LOG, 0, input.bytes(log_bytes)),
        _ => file(LOG, 0, &records(&mut Input(input.bytes(log_bytes))).concat()),
    };
    let base = match how & 3 {
        0 => input.0.to_vec(),
        1 => file(BASE, id, input.0),
        2 => {
            // The head's own bytes are hostile, and intact.
            let head = input.piece().unwrap_or_default();
            let mut body = aligned(record(HEAD, 0, [0; 32], head));
            body.extend(records(&mut input).concat());
            file(BASE, id, &body)
        }
        _ => {
            // The head says what is there, or something near it.
            let (folded, wrong) = (input.byte(), input.byte());
            let entries = records(&mut input);
            let lengths = entries.iter().enumerate().map(|(at, entry)| {
                let off = if at == usize::from(wrong >> 4) { OFF[usize::from(wrong & 7)] } else { 0 };
                entry.len() as u64 + off
            });
            let mut head = sequence([0, 1, 7].into_iter().take(usize::from(folded & 3)));
            head.extend(sequence(lengths));
            file(BASE, id, &[aligned(record(HEAD, 0, [0; 32], &head)), entries.concat()].concat())
        }
    };
    write(&disk, &format!("{id:016x}.base"), &base);
    write(&disk, "0000000000000000.log", &log);
    let journal = DirectoryJournal::over_disk(Arc::new(disk.clone()));
    let found = in_proportion(base.len() + log.len(), || journal.replay()).expect("it can be read");
    let mut given = Vec::new();
    let folded = journal.compact(&mut |entries| {
        given.clone_from(&entries);
        entries
    });
    if id == u64::MAX {
        // No number is left for another base.
        assert!(folded.is_err());
        assert_eq!(sorted(journal.replay().expect("it can be read")), sorted(found));
        return;
    }
    let found = sorted(found);
    given.sort();
    assert_eq!(given, found, "a fold is given something else than a replay");
    let count = found.len();
    assert_eq!(folded, Ok(Compacted::Done { entries_before: count, entries_after: count }));
    let left = DirectoryJournal::over_disk(Arc::new(disk.after_kill())).replay().expect("it can be read");
    assert_eq!((left.damaged, left.files), (0, 1));
    assert_eq!(sorted(left), found);
}

/// Entries as the files hold them: each is intact, and some are of another kind.
fn records(input: &mut Input) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(piece) = input.piece() {
        let kind = if piece.len() % 16 == 15 { HEAD } else { HINT };
        records.push(aligned(record(kind, 0, [piece.len() as u8; 32], piece)));
    }
    records
}

/// A list of numbers as bincode 2 writes it.
fn sequence(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    let numbers: Vec<u64> = numbers.collect();
    let mut bytes = Vec::new();
    std::iter::once(numbers.len() as u64).chain(numbers).for_each(|one| number(&mut bytes, one));
    bytes
}

fn sorted(replay: Replay) -> Vec<JournalEntry> {
    let mut entries = replay.entries;
    entries.sort();
    entries
}

/// The bytes say what is appended, when it is folded, and where the base is damaged then.
fn appended(mut input: Input) {
    let (fold_at, bit) = (usize::from(input.byte()), input.number() as usize);
    let disk = CrashDisk::new();
    let open = || DirectoryJournal::over_disk(Arc::new(disk.clone()));
    let (one, other) = (open(), open());
    let mut written = Vec::new();
    while let Some(piece) = input.piece() {
        let fingerprint = Fingerprint::of("fuzz").part("length", [piece.len() as u8]).finish();
        let journal = if piece.len() % 2 == 0 { &one } else { &other };
        journal.append(&fingerprint, piece).expect("it is short");
        written.push(JournalEntry { fingerprint, bytes: piece.to_vec() });
        if written.len() == fold_at {
            one.compact(&mut |entries| entries).expect("the disk is memory");
        }
    }
    written.sort();
    assert_eq!(sorted(one.replay().expect("it can be read")), written);
    drop((one, other));
    open().compact(&mut |entries| entries).expect("the disk is memory");
    assert_eq!(sorted(open().replay().expect("it can be read")), written);

    let name = disk.list().expect("the disk is memory").into_iter().find(|name| name.ends_with(".base"));
    let base = disk.open(&name.expect("it was folded")).expect("it is there");
    let mut bytes = Vec::new();
    base.read_at(0, usize::MAX >> 1, &mut bytes).expect("the disk is memory");
    let bit = bit % (bytes.len() * 8);
    base.write_at(bit as u64 / 8, &[bytes[bit / 8] ^ 1 << (bit % 8)]).expect("the disk is memory");
    let left = open().replay().expect("it can be read");
    assert!(left.damaged > 0 || left.entries.len() == written.len(), "entries are gone, and nobody was told");
    for entry in sorted(left) {
        let at = written.binary_search(&entry).expect("an entry that nobody wrote, or that was written less often");
        written.remove(at);
    }
}
