//! A list of pages that grows and never moves, so that it is read without a lock. Knows nothing of what is in a page.

use crate::cache::published::Published;
use crate::sync::Ordering;
use std::sync::OnceLock;

/// Slots to a page.
pub(crate) const PAGE: usize = if cfg!(hapax_loom) { 4 } else { 1024 };

pub(crate) struct Paged<T>(Published<Box<[OnceLock<T>]>>);

impl<T: Clone> Paged<T> {
    pub(crate) fn new() -> Self {
        Paged(Published::new(Box::default()))
    }

    /// The page that a slot in use is on.
    #[inline(always)]
    pub(crate) fn of(&self, slot: u32) -> &T {
        self.page(slot as usize / PAGE).expect("whoever knows a slot found it after it was made")
    }

    #[inline(always)]
    pub(crate) fn page(&self, number: usize) -> Option<&T> {
        self.0.get().get(number)?.get()
    }

    /// Adds the next page. One thread at a time.
    #[cold]
    pub(crate) fn add(&self, page: T) {
        let pages = self.0.get();
        let number = pages.iter().take_while(|page| page.get().is_some()).count();
        if number == pages.len() {
            let room: Box<[OnceLock<T>]> = (0..(2 * number).max(16)).map(|_| OnceLock::new()).collect();
            pages.iter().zip(&room).for_each(|(page, new)| drop(new.set(page.get().expect("counted").clone())));
            self.0.replace(room, Ordering::Release);
        }
        self.0.get()[number].get_or_init(|| page);
    }
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_where_they_are_while_more_are_added() {
        let pages = Paged::new();
        pages.add(0);
        let first = pages.of(PAGE as u32 - 1);
        (1..100).for_each(|page| pages.add(page));
        assert_eq!((*first, *pages.of(PAGE as u32), *pages.of(100 * PAGE as u32 - 1)), (0, 1, 99));
        assert_eq!(pages.page(100), None);
    }
}
