//! A byte-oriented LZ77 codec: runs of literals and back references, found through a hash of four bytes.
//!
//! A block is a list of sequences: a literal count, the literals, then a distance (two bytes, at least 1)
//! and a match length. Counts are LEB128. The last sequence has no match.

const MIN_MATCH: usize = 4;
const MAX_DISTANCE: usize = 65_535;
const HASH_BITS: u32 = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrupt {
    Truncated,
    BadDistance,
    TooLong,
}

pub fn compress(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() / 2 + 16);
    let mut seen = vec![usize::MAX; 1 << HASH_BITS];
    let mut literals_from = 0;
    let mut at = 0;
    while at + MIN_MATCH <= input.len() {
        let slot = &mut seen[hash(&input[at..])];
        let candidate = std::mem::replace(slot, at);
        let length = match_length(input, candidate, at);
        if length < MIN_MATCH {
            at += 1;
            continue;
        }
        put_literals(&input[literals_from..at], &mut out);
        out.extend_from_slice(&((at - candidate) as u16).to_le_bytes());
        put_count(length - MIN_MATCH, &mut out);
        at += length;
        literals_from = at;
    }
    put_literals(&input[literals_from..], &mut out);
    out
}

/// Refuses to write more than `limit` bytes, since a few corrupt bytes may ask for any length.
pub fn decompress(mut block: &[u8], limit: usize) -> Result<Vec<u8>, Corrupt> {
    let mut out = Vec::new();
    loop {
        let literals = take_count(&mut block)?;
        let (head, rest) = block.split_at_checked(literals).ok_or(Corrupt::Truncated)?;
        room(&out, literals, limit)?;
        out.extend_from_slice(head);
        if rest.is_empty() {
            return Ok(out);
        }
        let (distance, mut rest) = rest.split_first_chunk::<2>().ok_or(Corrupt::Truncated)?;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let length = take_count(&mut rest)?.checked_add(MIN_MATCH).ok_or(Corrupt::TooLong)?;
        room(&out, length, limit)?;
        copy_match(&mut out, distance, length)?;
        block = rest;
    }
}

fn hash(bytes: &[u8]) -> usize {
    let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (word.wrapping_mul(2_654_435_761) >> (32 - HASH_BITS)) as usize
}

fn match_length(input: &[u8], candidate: usize, at: usize) -> usize {
    if candidate == usize::MAX || at - candidate > MAX_DISTANCE {
        return 0;
    }
    input[candidate..].iter().zip(&input[at..]).take_while(|(a, b)| a == b).count()
}

fn put_literals(literals: &[u8], out: &mut Vec<u8>) {
    put_count(literals.len(), out);
    out.extend_from_slice(literals);
}

fn put_count(mut count: usize, out: &mut Vec<u8>) {
    while count >= 0x80 {
        out.push(count as u8 | 0x80);
        count >>= 7;
    }
    out.push(count as u8);
}

fn take_count(block: &mut &[u8]) -> Result<usize, Corrupt> {
    let mut count = 0u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = block.split_first().ok_or(Corrupt::Truncated)?;
        *block = rest;
        count |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(count).map_err(|_| Corrupt::TooLong);
        }
    }
    Err(Corrupt::TooLong)
}

fn room(out: &[u8], more: usize, limit: usize) -> Result<(), Corrupt> {
    if limit.saturating_sub(out.len()) < more { Err(Corrupt::TooLong) } else { Ok(()) }
}

fn copy_match(out: &mut Vec<u8>, distance: usize, length: usize) -> Result<(), Corrupt> {
    let start = out.len().checked_sub(distance).filter(|_| distance > 0).ok_or(Corrupt::BadDistance)?;
    // A match may overlap what it writes: "aaaa" is one literal and a match at distance 1.
    for from in start..start + length {
        out.push(out[from]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let text = "the cat sat on the mat, the cat sat on the hat; ".repeat(50);
        let noise: Vec<u8> = (0..5_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for input in [b"".as_slice(), b"abc", &[7; 70_000], text.as_bytes(), &noise] {
            assert_eq!(decompress(&compress(input), input.len()).as_deref(), Ok(input));
        }
        assert!(compress(text.as_bytes()).len() < text.len() / 10);
    }

    #[test]
    fn corrupt_blocks_are_refused_and_bounded() {
        assert_eq!(decompress(&[], 10), Err(Corrupt::Truncated));
        assert_eq!(decompress(&[0, 1, 0, 0], 10), Err(Corrupt::BadDistance));
        assert_eq!(decompress(&[1, b'a', 1, 0, 0xff, 0xff, 0x7f], 1 << 10), Err(Corrupt::TooLong));
        assert_eq!(decompress(&[0x80; 12], 10), Err(Corrupt::TooLong));
    }
}
