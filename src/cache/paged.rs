//! A list of pages that grows and never moves, so that it is read without a lock. Knows nothing of what is in a page.

use std::sync::OnceLock;

/// Slots to a page.
pub(crate) const PAGE: usize = if cfg!(hapax_loom) { 4 } else { 1024 };

/// As many as lead to all pages that a slot's number can be on.
const SHELVES: usize = (u32::BITS - PAGE.trailing_zeros()) as usize + 1;

/// Shelf `s` has room for `2^s` pages.
pub(crate) struct Paged<T>([OnceLock<Box<[OnceLock<T>]>>; SHELVES]);

impl<T> Paged<T> {
    pub(crate) fn new() -> Self {
        Paged([const { OnceLock::new() }; SHELVES])
    }

    /// The page that a slot in use is on.
    #[inline(always)]
    pub(crate) fn of(&self, slot: u32) -> &T {
        self.page(slot as usize / PAGE).expect("whoever knows a slot found it after it was made")
    }

    #[inline(always)]
    pub(crate) fn page(&self, number: usize) -> Option<&T> {
        let (shelf, at) = place(number);
        self.0[shelf].get()?[at].get()
    }

    /// Puts a page in its place, if none is there.
    #[cold]
    pub(crate) fn add(&self, number: usize, page: T) {
        let (shelf, at) = place(number);
        self.0[shelf].get_or_init(|| (0..1usize << shelf).map(|_| OnceLock::new()).collect())[at].get_or_init(|| page);
    }
}

#[inline(always)]
fn place(number: usize) -> (usize, usize) {
    let shelf = (number + 1).ilog2();
    (shelf as usize, number + 1 - (1 << shelf))
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_where_they_are_while_more_are_added() {
        let pages = Paged::new();
        pages.add(0, 0);
        let first = pages.of(PAGE as u32 - 1);
        (1..100).for_each(|page| pages.add(page, page));
        assert_eq!(*first, 0);
        (0..100).for_each(|page| assert_eq!(*pages.of((page * PAGE) as u32), page));
        assert_eq!(pages.page(100), None);
        assert!(pages.page(u32::MAX as usize / PAGE).is_none());
    }
}
