//! An array that grows and never moves, so that it is read without a lock. Knows nothing of what is in it.

use std::sync::OnceLock;

/// Chunk `c` holds `2^(FIRST + c)` values.
pub(crate) struct Growing<T, const FIRST: u32>([OnceLock<Box<[T]>>; 23]);

impl<T, const FIRST: u32> Growing<T, FIRST> {
    pub(crate) fn new() -> Self {
        Growing([const { OnceLock::new() }; 23])
    }

    /// Makes room for the value at `index`, one at a time.
    #[inline]
    pub(crate) fn grow(&self, index: u32, new: impl Fn() -> T) {
        let (chunk, _) = place::<FIRST>(index);
        if self.0[chunk].get().is_none() {
            self.add_chunk(chunk, new);
        }
    }

    #[cold]
    fn add_chunk(&self, chunk: usize, new: impl Fn() -> T) {
        self.0[chunk].get_or_init(|| (0..1u32 << (FIRST + chunk as u32)).map(|_| new()).collect());
    }

    #[inline]
    pub(crate) fn at(&self, index: u32) -> &T {
        let (chunk, offset) = place::<FIRST>(index);
        &self.0[chunk].get().expect("there is room for every index in use")[offset]
    }
}

#[inline]
fn place<const FIRST: u32>(index: u32) -> (usize, usize) {
    let shifted = u64::from(index) + (1 << FIRST);
    let chunk = 63 - shifted.leading_zeros() - FIRST;
    (chunk as usize, (shifted - (1 << (FIRST + chunk))) as usize)
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;

    #[test]
    fn chunks_follow_each_other_without_gap() {
        let mut expected = (0, 0);
        for index in 0..1 << 14 {
            assert_eq!(place::<10>(index), expected);
            expected.1 += 1;
            if expected.1 == 1 << (10 + expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place::<10>(u32::MAX).0 < 23);
    }
}
