//! One record as bytes, and back. Pure: no files, no clock. Whoever reads gets the bytes that were written under the
//! key that was asked for, or the reason why not.
//!
//! ```text
//! offset   bytes  (numbers are little-endian)
//!      0       4  "HPXR"
//!      4       2  format version, 1
//!      6       2  kind
//!      8       4  header bytes h, at most 1,024
//!     12       4  payload bytes p, at most 1 GiB
//!     16       8  order: of two records of a key the one with the greater number was put later
//!     24      32  fingerprint
//!     56       h  header: label, compile time and time of writing of a `Meta` in bincode 2, then the 32 bytes of its
//!                 `hinted_as`, or none of them
//!   56+h       p  payload
//! 56+h+p      16  XXH3-128 of all bytes before
//! ```

use crate::persist::codec;
use crate::persist::fingerprint::Fingerprint;
use std::fmt;
use twox_hash::XxHash3_128;

/// The version that is written, and the only one that is read.
pub(crate) const FORMAT_VERSION: u16 = 1;
/// Bytes before the header, enough to know how long the record is.
pub(crate) const PREFIX_BYTES: usize = 56;
const MAGIC: [u8; 4] = *b"HPXR";
const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES_AT_MOST: usize = 1 << 10;
/// No payload is longer.
pub(crate) const PAYLOAD_BYTES_AT_MOST: usize = 1 << 30;
const LABEL_BYTES_AT_MOST: usize = 256;

/// What kind of artifact a record holds. The same fingerprint may name one of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u16);

impl Kind {
    /// Machine code, ready to be relocated or loaded.
    pub const CODE: Kind = Kind(1);
    /// Precompiled intermediate representation.
    pub const IR: Kind = Kind(2);
    /// Compile history.
    pub const HINT: Kind = Kind(3);

    /// A kind of the embedder's own.
    pub const fn custom(number: u8) -> Kind {
        Kind(0x100 | number as u16)
    }

    pub(crate) const fn internal(number: u16) -> Kind {
        Kind(number)
    }

    /// The number that stands for it on disk.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What a store looks entries up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What kind of artifact.
    pub kind: Kind,
    /// Of which compilation.
    pub fingerprint: Fingerprint,
}

impl Key {
    /// The entry of one kind under a fingerprint.
    pub const fn new(kind: Kind, fingerprint: Fingerprint) -> Key {
        Key { kind, fingerprint }
    }
}

/// What is known of an artifact beside its bytes. Nothing depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// A name for people, such as the function's; longer ones are cut to 256 bytes.
    pub label: String,
    /// How long compiling it took, in nanoseconds; 0 if unknown.
    pub compile_ns: u64,
    /// When it was written, in seconds since 1970 by the clock of the writer; 0 if unknown.
    pub written_unix_s: u64,
    /// The fingerprint under which hints of it are recorded, if that is not its own: so that who knows both can join them.
    pub hinted_as: Option<Fingerprint>,
}

/// Why bytes are not the record that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// They end before the record does.
    Truncated,
    /// They do not begin as a record does.
    NotARecord,
    /// Another version of hapax wrote them in a format of its own.
    OtherVersion(u16),
    /// They claim to be longer than any record is.
    TooLong,
    /// The checksum disagrees: bytes have changed.
    Checksum,
    /// The checksum agrees and the header still cannot be read.
    Header,
    /// An intact record, of another key.
    OtherKey,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Truncated => f.write_str("it is cut short"),
            Damage::NotARecord => f.write_str("it does not begin as a record does"),
            Damage::OtherVersion(version) => write!(f, "it is of format version {version}, not {FORMAT_VERSION}"),
            Damage::TooLong => f.write_str("it claims to be longer than any record"),
            Damage::Checksum => f.write_str("its checksum disagrees"),
            Damage::Header => f.write_str("its header cannot be read"),
            Damage::OtherKey => f.write_str("it belongs to another key"),
        }
    }
}

/// An intact record, borrowed from the bytes that it was read from.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// What it is stored under.
    pub key: Key,
    /// When it was put, as a number that grows.
    pub order: u64,
    /// What is known beside the payload.
    pub meta: Meta,
    /// The artifact's bytes.
    pub payload: &'a [u8],
    /// Where they begin in the record.
    pub(crate) payload_offset: usize,
}

impl Envelope<'_> {
    /// How long the whole record is.
    pub(crate) fn record_bytes(&self) -> usize {
        self.payload_offset + self.payload.len() + CHECKSUM_BYTES
    }
}

/// The lengths of a record, as its first bytes claim them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lengths {
    header_bytes: usize,
    payload_bytes: usize,
}

impl Lengths {
    /// Of the whole record.
    pub(crate) fn record_bytes(self) -> usize {
        PREFIX_BYTES + self.header_bytes + self.payload_bytes + CHECKSUM_BYTES
    }
}

/// Appends the record to `out`; `None`, with nothing written, if the payload is longer than any may be.
/// One copy and one pass of the checksum.
pub fn encode(key: &Key, order: u64, meta: &Meta, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if payload.len() > PAYLOAD_BYTES_AT_MOST {
        return None;
    }
    let mut header = codec::to_bytes(&(cut(&meta.label), meta.compile_ns, meta.written_unix_s));
    header.extend(meta.hinted_as.iter().flat_map(Fingerprint::as_bytes));
    debug_assert!(header.len() <= HEADER_BYTES_AT_MOST);
    let start = out.len();
    // And a little more, since whoever aligns records would otherwise copy this one.
    out.reserve(PREFIX_BYTES + header.len() + payload.len() + CHECKSUM_BYTES + 16);
    out.extend(MAGIC);
    out.extend(FORMAT_VERSION.to_le_bytes());
    out.extend(key.kind.0.to_le_bytes());
    out.extend((header.len() as u32).to_le_bytes());
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend(order.to_le_bytes());
    out.extend(key.fingerprint.as_bytes());
    out.extend(header);
    out.extend(payload);
    let checksum = XxHash3_128::oneshot(&out[start..]);
    out.extend(checksum.to_le_bytes());
    Some(())
}

/// The record that begins `bytes`, if it is intact. What follows it is not looked at.
pub fn decode(bytes: &[u8]) -> Result<Envelope<'_>, Damage> {
    let lengths = lengths(bytes)?;
    let record = bytes.get(..lengths.record_bytes()).ok_or(Damage::Truncated)?;
    let (checked, checksum) = record.split_at(record.len() - CHECKSUM_BYTES);
    if XxHash3_128::oneshot(checked).to_le_bytes() != checksum {
        return Err(Damage::Checksum);
    }
    let (header, payload) = checked[PREFIX_BYTES..].split_at(lengths.header_bytes);
    let meta = meta(header).ok_or(Damage::Header)?;
    let order = u64::from_le_bytes(checked[16..24].try_into().expect("eight bytes"));
    Ok(Envelope { key: key(checked), order, meta, payload, payload_offset: PREFIX_BYTES + lengths.header_bytes })
}

/// As [`decode`], of the record that is looked for.
pub(crate) fn decode_expecting<'a>(bytes: &'a [u8], expected: &Key) -> Result<Envelope<'a>, Damage> {
    let envelope = decode(bytes)?;
    if envelope.key == *expected { Ok(envelope) } else { Err(Damage::OtherKey) }
}

/// How long the record that begins `bytes` claims to be. Nothing but the magic and the version vouches for it yet.
pub(crate) fn lengths(bytes: &[u8]) -> Result<Lengths, Damage> {
    let prefix = bytes.get(..PREFIX_BYTES).ok_or(Damage::Truncated)?;
    if prefix[..4] != MAGIC {
        return Err(Damage::NotARecord);
    }
    let version = number_u16(prefix, 4);
    if version != FORMAT_VERSION {
        return Err(Damage::OtherVersion(version));
    }
    let lengths =
        Lengths { header_bytes: number_u32(prefix, 8) as usize, payload_bytes: number_u32(prefix, 12) as usize };
    if lengths.header_bytes > HEADER_BYTES_AT_MOST || lengths.payload_bytes > PAYLOAD_BYTES_AT_MOST {
        return Err(Damage::TooLong);
    }
    Ok(lengths)
}

fn meta(header: &[u8]) -> Option<Meta> {
    let ((label, compile_ns, written_unix_s), rest) = codec::split_from_bytes(header)?;
    let hinted_as = match rest {
        [] => None,
        rest => Some(Fingerprint::from_bytes(rest.try_into().ok()?)),
    };
    Some(Meta { label, compile_ns, written_unix_s, hinted_as })
}

fn key(prefix: &[u8]) -> Key {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(&prefix[24..PREFIX_BYTES]);
    Key::new(Kind(number_u16(prefix, 6)), Fingerprint::from_bytes(fingerprint))
}

fn number_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn number_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn cut(label: &str) -> &str {
    let mut end = label.len().min(LABEL_BYTES_AT_MOST);
    while !label.is_char_boundary(end) {
        end -= 1;
    }
    &label[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Key, Meta, Vec<u8>) {
        let key = Key::new(Kind::IR, Fingerprint::of("envelope").finish());
        let meta = Meta {
            label: "kernel".to_owned(),
            compile_ns: 1_000_000,
            written_unix_s: 1_763_000_000,
            ..Meta::default()
        };
        let mut bytes = Vec::new();
        encode(&key, 9, &meta, b"artifact", &mut bytes).unwrap();
        (key, meta, bytes)
    }

    #[test]
    fn a_record_comes_back_whatever_follows_it() {
        let (key, meta, mut bytes) = sample();
        bytes.extend(b"more");
        let read = decode_expecting(&bytes, &key).unwrap();
        assert_eq!((read.key, read.order, read.meta, read.payload), (key, 9, meta, &b"artifact"[..]));
        assert_eq!(lengths(&bytes).unwrap().record_bytes(), bytes.len() - 4);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (_, _, bytes) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]).unwrap_err(), Damage::Truncated, "{length} bytes");
        }
    }

    #[test]
    fn each_damage_has_its_own_name() {
        let (_, _, bytes) = sample();
        let changed = |at: usize, to: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            decode(&bytes).unwrap_err()
        };
        assert_eq!(changed(0, b"X"), Damage::NotARecord);
        assert_eq!(changed(4, &[2, 0]), Damage::OtherVersion(2));
        assert_eq!(changed(8, &u32::MAX.to_le_bytes()), Damage::TooLong);
        assert_eq!(changed(12, &u32::MAX.to_le_bytes()), Damage::TooLong);
        assert_eq!(changed(12, &9u32.to_le_bytes()), Damage::Truncated);
        assert_eq!(changed(16, &[!bytes[16]]), Damage::Checksum);
    }

    #[test]
    fn a_header_that_only_its_checksum_vouches_for_is_damage() {
        let (_, _, mut bytes) = sample();
        bytes[PREFIX_BYTES] = 200; // the label's length
        let end = bytes.len() - CHECKSUM_BYTES;
        let checksum = XxHash3_128::oneshot(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(decode(&bytes).unwrap_err(), Damage::Header);
    }

    #[test]
    fn a_record_says_under_which_fingerprint_its_hints_are_or_nothing_of_it() {
        let (key, meta, without) = sample();
        let hinted = Meta { hinted_as: Some(Fingerprint::of("unit").finish()), ..meta };
        let mut bytes = Vec::new();
        encode(&key, 9, &hinted, b"artifact", &mut bytes).unwrap();
        assert_eq!(bytes.len(), without.len() + 32);
        assert_eq!(decode(&bytes).unwrap().meta, hinted);
        let header = PREFIX_BYTES..PREFIX_BYTES + lengths(&bytes).unwrap().header_bytes;
        let short = header.end - header.start - 32;
        for length in 0..=header.len() {
            let read = super::meta(&bytes[header.clone()][..length]);
            assert_eq!(read.is_some(), length == short || length == header.len(), "{length} bytes");
        }
        assert_eq!(super::meta(&[&bytes[header], &[0]].concat()), None);
    }

    /// The checksum is that of the C library.
    #[test]
    fn the_bytes_of_a_record_stay_the_same_over_releases() {
        let (_, _, bytes) = sample();
        assert_eq!(&bytes[..16], b"HPXR\x01\0\x02\0\x11\0\0\0\x08\0\0\0");
        assert_eq!(&bytes[16..24], b"\x09\0\0\0\0\0\0\0");
        assert_eq!(&bytes[56..81], b"\x06kernel\xfc\x40\x42\x0f\0\xfc\xc0\x3e\x15\x69artifact");
        assert_eq!(&bytes[81..], b"G\xd3t^*\x19\xba>\xb6\xe4'Gqh\xc3\xae");
    }

    #[test]
    fn a_long_label_is_cut_between_characters() {
        let (key, _, _) = sample();
        let meta = Meta { label: "é".repeat(200) + "x", ..Meta::default() };
        let mut bytes = Vec::new();
        encode(&key, 0, &meta, b"", &mut bytes).unwrap();
        assert_eq!(decode(&bytes).unwrap().meta.label, "é".repeat(128));
    }
}
