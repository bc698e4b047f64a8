//! Canonical Huffman coding of bytes: code lengths are all that a reader needs to know.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The bits of the longest code: 2^32 bytes would be needed to reach even 45.
const MAX_LENGTH: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub lengths: [u8; 256],
    pub bytes: usize,
    pub bits: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrupt {
    BadLengths,
    Truncated,
    UnknownCode,
}

pub fn encode(input: &[u8]) -> Encoded {
    let mut counts = [0u64; 256];
    for &byte in input {
        counts[usize::from(byte)] += 1;
    }
    let lengths = code_lengths(&counts);
    let codes = codes(&lengths);
    let mut bits = BitWriter::default();
    for &byte in input {
        bits.put(codes[usize::from(byte)], lengths[usize::from(byte)]);
    }
    Encoded { lengths, bytes: input.len(), bits: bits.finish() }
}

pub fn decode(encoded: &Encoded) -> Result<Vec<u8>, Corrupt> {
    let table = Table::new(&encoded.lengths)?;
    let mut bits = encoded.bits.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    (0..encoded.bytes).map(|_| table.next_symbol(&mut bits)).collect()
}

/// The length of each byte's code, 0 for bytes that never occur.
pub fn code_lengths(counts: &[u64; 256]) -> [u8; 256] {
    let used: Vec<u8> = (0..=255).filter(|&byte| counts[usize::from(byte)] > 0).collect();
    let mut lengths = [0; 256];
    if let [only] = used[..] {
        lengths[usize::from(only)] = 1;
        return lengths;
    }
    // Nodes below 256 are bytes; each merge makes the next node, so parents come after children.
    let mut parents = vec![usize::MAX; 256];
    let mut open: BinaryHeap<_> =
        used.iter().map(|&byte| Reverse((counts[usize::from(byte)], usize::from(byte)))).collect();
    while let (Some(Reverse((first, a))), Some(Reverse((second, b)))) = (open.pop(), open.pop()) {
        let parent = parents.len();
        parents.push(usize::MAX);
        (parents[a], parents[b]) = (parent, parent);
        open.push(Reverse((first + second, parent)));
        if open.len() == 1 {
            break;
        }
    }
    let mut depths = vec![0u8; parents.len()];
    for node in (0..parents.len()).rev() {
        if parents[node] != usize::MAX {
            depths[node] = depths[parents[node]] + 1;
        }
    }
    lengths.copy_from_slice(&depths[..256]);
    lengths
}

/// Codes of one length are consecutive, in the order of the bytes.
fn codes(lengths: &[u8; 256]) -> [u64; 256] {
    let mut codes = [0; 256];
    let mut next = 0;
    for length in 1..=MAX_LENGTH {
        next <<= 1;
        for byte in (0..256).filter(|&byte| usize::from(lengths[byte]) == length) {
            codes[byte] = next;
            next += 1;
        }
    }
    codes
}

struct Table {
    /// For each length: the first code, and where its symbols begin in `symbols`.
    firsts: [(u64, usize); MAX_LENGTH + 2],
    symbols: Vec<u8>,
}

impl Table {
    fn new(lengths: &[u8; 256]) -> Result<Table, Corrupt> {
        let mut firsts = [(0, 0); MAX_LENGTH + 2];
        let mut symbols = Vec::new();
        let mut next = 0u64;
        for (length, first) in firsts.iter_mut().enumerate().take(MAX_LENGTH + 1).skip(1) {
            next <<= 1;
            *first = (next, symbols.len());
            symbols.extend((0..=255u8).filter(|&byte| usize::from(lengths[usize::from(byte)]) == length));
            next += (symbols.len() - first.1) as u64;
            if next > 1 << length {
                return Err(Corrupt::BadLengths);
            }
        }
        firsts[MAX_LENGTH + 1] = (0, symbols.len());
        Ok(Table { firsts, symbols })
    }

    fn next_symbol(&self, bits: &mut impl Iterator<Item = u8>) -> Result<u8, Corrupt> {
        let mut code = 0;
        for length in 1..=MAX_LENGTH {
            code = code << 1 | u64::from(bits.next().ok_or(Corrupt::Truncated)?);
            let (first, symbols_from) = self.firsts[length];
            let symbols = &self.symbols[symbols_from..self.firsts[length + 1].1];
            if let Some(&symbol) = code.checked_sub(first).and_then(|at| symbols.get(at as usize)) {
                return Ok(symbol);
            }
        }
        Err(Corrupt::UnknownCode)
    }
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    fn put(&mut self, code: u64, length: u8) {
        for at in (0..length).rev() {
            if self.used % 8 == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((code >> at & 1) as u8) << (7 - self.used % 8);
            self.used = (self.used + 1) % 8;
        }
    }

    fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let skewed: Vec<u8> = (0..20_000u32).map(|i| i.trailing_zeros() as u8).collect();
        for input in [b"".as_slice(), b"aaaa", b"abracadabra", &skewed, &(0..=255).collect::<Vec<u8>>()] {
            assert_eq!(decode(&encode(input)).as_deref(), Ok(input));
        }
        assert!(encode(&skewed).bits.len() < skewed.len() / 3);
    }

    #[test]
    fn bad_input_is_refused() {
        let good = encode(b"abracadabra");
        assert_eq!(decode(&Encoded { bytes: 1_000, ..good.clone() }), Err(Corrupt::Truncated));
        assert_eq!(decode(&Encoded { lengths: [1; 256], ..good }), Err(Corrupt::BadLengths));
        let mut one_code = encode(b"aaaa");
        one_code.bits = vec![0xff; 9];
        assert_eq!(decode(&one_code), Err(Corrupt::UnknownCode));
    }
}
