//! The names of a store's files: all that it ever opens or removes. Pure text.

use crate::persist::envelope::{Key, Kind};
use crate::persist::fingerprint::Fingerprint;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A name that this store may have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// Records, one after the other.
    Segment(u64),
    /// Where the records of a segment are.
    Sidecar(u64),
    /// One record that is too large for a segment.
    Large { key: Key, order: u64, bytes: u32 },
    /// Being written, and will take so many bytes.
    Temporary(u64, u32),
    /// When which entry was last used.
    Recency,
    /// Held by whoever makes room, or folds.
    Lock,
    /// Entries of a journal, appended by one process.
    Log(u64),
    /// What a journal's older entries were folded into; the greatest number counts.
    Base(u64),
}

impl Name {
    /// What the file of a large entry takes; 0 of others.
    pub(super) fn large_file_bytes(&self) -> u64 {
        if let Name::Large { bytes, .. } = self { u64::from(*bytes) } else { 0 }
    }

    /// `None` for every name that no store writes.
    pub(super) fn parse(name: &str) -> Option<Name> {
        let parsed = match name.rsplit_once('.') {
            None if name == "recency" => Name::Recency,
            None if name == "lock" => Name::Lock,
            Some((stem, "seg")) => Name::Segment(number(stem)?),
            Some((stem, "idx")) => Name::Sidecar(number(stem)?),
            Some((stem, "log")) => Name::Log(number(stem)?),
            Some((stem, "base")) => Name::Base(number(stem)?),
            Some((stem, "tmp")) => {
                let (id, bytes) = stem.split_once('-')?;
                Name::Temporary(number(id)?, number(bytes)?.try_into().ok()?)
            }
            Some((stem, "art")) => {
                let mut parts = stem.split('-');
                let mut part = || parts.next();
                let (fingerprint, kind, order, bytes) = (part()?, part()?, part()?, part()?);
                let kind = Kind::internal(number(kind)?.try_into().ok()?);
                let key = Key::new(kind, Fingerprint::from_hex(fingerprint)?);
                Name::Large { key, order: number(order)?, bytes: number(bytes)?.try_into().ok()? }
            }
            _ => return None,
        };
        // One spelling each, so that a name that is removed is the one that was read.
        (parsed.to_string() == name).then_some(parsed)
    }

    /// What a journal keeps, as opposed to what a store does.
    pub(super) fn is_of_a_journal(&self) -> bool {
        matches!(self, Name::Log(_) | Name::Base(_))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Segment(id) => write!(f, "{id:016x}.seg"),
            Name::Sidecar(id) => write!(f, "{id:016x}.idx"),
            Name::Large { key, order, bytes } => {
                write!(f, "{}-{:04x}-{order:016x}-{bytes:08x}.art", key.fingerprint, key.kind.number())
            }
            Name::Temporary(id, bytes) => write!(f, "{id:016x}-{bytes:08x}.tmp"),
            Name::Recency => f.write_str("recency"),
            Name::Lock => f.write_str("lock"),
            Name::Log(id) => write!(f, "{id:016x}.log"),
            Name::Base(number) => write!(f, "{number:016x}.base"),
        }
    }
}

/// A number that no other file has, very likely: files are created only under names that are free.
pub(super) fn fresh_id() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one((std::process::id(), SystemTime::now(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

fn number(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_no_other_spelling_of_it() {
        let key = Key::new(Kind::custom(7), Fingerprint::of("names").finish());
        let names = [
            Name::Segment(u64::MAX),
            Name::Sidecar(0),
            Name::Large { key, order: 77, bytes: 300_000 },
            Name::Temporary(5, u32::MAX),
            Name::Recency,
            Name::Lock,
            Name::Log(0xabc),
            Name::Base(1),
        ];
        for name in names {
            let text = name.to_string();
            assert_eq!(Name::parse(&text), Some(name), "{text}");
            for other in [text.to_uppercase(), format!("{text} "), format!("+{text}"), text[1..].to_owned()] {
                assert_eq!(Name::parse(&other), None, "{other}");
            }
        }
        for other in ["", ".", "..", "a.seg", "README", "lock.seg", "0000000000000001.SEG"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
