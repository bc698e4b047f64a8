//! What is inside the files: the header that each begins with, records in a row, and the sidecar that says where they
//! are. Pure: bytes in, bytes out.
//!
//! ```text
//! every file            segment, log, base: the header, then     sidecar: the header, then one record (kind 0xfff1)
//!      0  4  "HPXF"     records, each padded with zeros to a     whose fingerprint is the segment's number, padded
//!      4  2  version 1  multiple of 16 bytes                     with zeros, and whose payload is
//!      6  2  type                                                   0  8  bytes of the segment that it covers
//!      8  8  number     large entry: the header, then one           8  8  rows n
//!                       record                                     16 64n rows: 0  2  kind        2  2  zero
//!                                                                               4  4  offset      8  4  bytes
//!                                                                              12  4  zero       16  8  order
//!                                                                              24  8  last use   32 32  fingerprint
//! ```

use crate::persist::envelope::{self, Damage, FORMAT_VERSION, Key, Kind, Meta};
use crate::persist::fingerprint::Fingerprint;
use std::sync::LazyLock;

/// What every file begins with.
pub(super) const HEADER_BYTES: usize = 16;
const MAGIC: [u8; 4] = *b"HPXF";
const ALIGN: usize = 16;
pub(super) const ROW_BYTES: usize = 64;
const INDEX: Kind = Kind::internal(0xfff1);

/// What a file is, besides what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileType {
    Segment = 1,
    Sidecar = 2,
    Large = 3,
    Recency = 4,
    Log = 5,
    Base = 6,
}

/// Where a record is in its segment, and when it was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) offset: u32,
    pub(super) bytes: u32,
    pub(super) order: u64,
    pub(super) last_use: u64,
}

pub(super) fn header(file_type: FileType, number: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[6..8].copy_from_slice(&(file_type as u16).to_le_bytes());
    header[8..].copy_from_slice(&number.to_le_bytes());
    header
}

/// What follows the header, if the file is what its name says.
pub(super) fn body(bytes: &[u8], file_type: FileType, number: u64) -> Result<&[u8], Damage> {
    let (found, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(Damage::Truncated)?;
    let expected = header(file_type, number);
    if found == expected {
        return Ok(body);
    }
    let version = u16::from_le_bytes([found[4], found[5]]);
    Err(if found[..4] == MAGIC && version != FORMAT_VERSION {
        Damage::OtherVersion(version)
    } else {
        Damage::NotARecord
    })
}

/// Where the next record begins after one that ends at `end`.
pub(super) fn aligned(end: usize) -> usize {
    end.next_multiple_of(ALIGN)
}

/// The intact records of a stretch of a segment that begins at `offset`, up to the first that is not, with their padding: what
/// follows that one was not written after it, or not by us. `end` is where the next record would go.
pub(super) struct Scan<'a> {
    pub(super) records: Vec<(Row, &'a [u8])>,
    pub(super) end: usize,
    pub(super) stopped_by: Option<Damage>,
}

pub(super) fn scan(stretch: &[u8], offset: usize) -> Scan<'_> {
    let mut scan = Scan { records: Vec::new(), end: offset, stopped_by: None };
    loop {
        let at = scan.end - offset;
        let rest = match stretch.get(at..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => return scan,
        };
        match envelope::decode(rest) {
            // Where not all of the padding is there the write failed, and was refused: whoever wrote it may write it again.
            Ok(record) if aligned(scan.end + record.record_bytes()) > offset + stretch.len() => {
                scan.stopped_by = Some(Damage::Truncated);
                return scan;
            }
            Ok(record) => {
                let bytes = record.record_bytes();
                let (order, last_use) = (record.order, record.order);
                let row = Row { key: record.key, offset: scan.end as u32, bytes: bytes as u32, order, last_use };
                scan.records.push((row, record.payload));
                scan.end = aligned(scan.end + bytes);
            }
            Err(damage) => {
                scan.stopped_by = Some(damage);
                return scan;
            }
        }
    }
}

/// A sidecar's bytes.
pub(super) fn encode_sidecar(number: u64, covered_bytes: u64, rows: &[Row]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(16 + rows.len() * ROW_BYTES);
    payload.extend(covered_bytes.to_le_bytes());
    encode_rows(rows, &mut payload);
    whole_file(FileType::Sidecar, number, &sidecar_key(number), &payload)
}

/// How long a sidecar of so many rows is.
pub(super) fn sidecar_bytes(rows: usize) -> u64 {
    static WITHOUT_ROWS: LazyLock<usize> = LazyLock::new(|| encode_sidecar(0, 0, &[]).len());
    (*WITHOUT_ROWS + rows * ROW_BYTES) as u64
}

/// How much of its segment a sidecar covers, and the rows of it that lie inside.
pub(super) fn decode_sidecar(number: u64, bytes: &[u8]) -> Result<(u64, Vec<Row>), Damage> {
    let payload = whole_payload(bytes, FileType::Sidecar, number, &sidecar_key(number))?;
    let (covered, rows) = payload.split_first_chunk().ok_or(Damage::Header)?;
    let covered = u64::from_le_bytes(*covered);
    let rows = decode_rows(rows)?;
    let inside = |row: &Row| u64::from(row.offset) + u64::from(row.bytes) <= covered;
    if rows.iter().all(inside) { Ok((covered, rows)) } else { Err(Damage::Header) }
}

fn encode_rows(rows: &[Row], out: &mut Vec<u8>) {
    out.extend((rows.len() as u64).to_le_bytes());
    for row in rows {
        out.extend(row.key.kind.number().to_le_bytes());
        out.extend([0; 2]);
        out.extend(row.offset.to_le_bytes());
        out.extend(row.bytes.to_le_bytes());
        out.extend([0; 4]);
        out.extend(row.order.to_le_bytes());
        out.extend(row.last_use.to_le_bytes());
        out.extend(row.key.fingerprint.as_bytes());
    }
}

fn decode_rows(bytes: &[u8]) -> Result<Vec<Row>, Damage> {
    let (count, rows) = bytes.split_first_chunk().ok_or(Damage::Header)?;
    if u64::from_le_bytes(*count) != (rows.len() / ROW_BYTES) as u64 || rows.len() % ROW_BYTES != 0 {
        return Err(Damage::Header);
    }
    Ok(rows.chunks_exact(ROW_BYTES).map(decode_row).collect())
}

fn decode_row(row: &[u8]) -> Row {
    let number_u32 = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().expect("four bytes"));
    let number_u64 = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().expect("eight bytes"));
    let fingerprint = Fingerprint::from_bytes(row[32..].try_into().expect("32 bytes"));
    let kind = Kind::internal(u16::from_le_bytes([row[0], row[1]]));
    let (order, last_use) = (number_u64(16), number_u64(24));
    Row { key: Key::new(kind, fingerprint), offset: number_u32(4), bytes: number_u32(8), order, last_use }
}

/// A file of one record.
pub(super) fn whole_file(file_type: FileType, number: u64, key: &Key, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(file_type, number).to_vec();
    envelope::encode(key, 0, &Meta::default(), payload, &mut bytes).expect("lists of this store are bounded");
    bytes
}

/// The payload of a file of one record.
pub(super) fn whole_payload<'a>(
    bytes: &'a [u8],
    file_type: FileType,
    number: u64,
    key: &Key,
) -> Result<&'a [u8], Damage> {
    Ok(envelope::decode_expecting(body(bytes, file_type, number)?, key)?.payload)
}

fn sidecar_key(number: u64) -> Key {
    let mut fingerprint = [0; 32];
    fingerprint[..8].copy_from_slice(&number.to_le_bytes());
    Key::new(INDEX, Fingerprint::from_bytes(fingerprint))
}

/// Reads a whole file as a sidecar and as a segment: what a fuzzer throws bytes at. Returns how many records it found.
#[cfg(feature = "testing")]
pub fn read_any_file(bytes: &[u8]) -> usize {
    let number = bytes.get(8..HEADER_BYTES).map_or(0, |id| u64::from_le_bytes(id.try_into().expect("eight bytes")));
    let rows = decode_sidecar(number, bytes).map_or(0, |(_, rows)| rows.len());
    rows + body(bytes, FileType::Segment, number).map_or(0, |body| scan(body, HEADER_BYTES).records.len())
}
