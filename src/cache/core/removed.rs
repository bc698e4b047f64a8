//! What leaves the core in one call, on its way out of the lock. Knows no handles.

/// Entries in the order in which they left. The first stands by itself, since there is seldom another.
pub(crate) struct Removed<K, S> {
    /// `None` if there is none at all.
    pub(crate) first: First<K, S>,
    pub(crate) rest: Vec<(K, S)>,
}

/// An `Option` whose tag is one byte for keys of any alignment. `Option<(u128, S)>` has one of 16, which is written in halves
/// and compared as a whole, and each such comparison waits until both halves are in the cache.
#[repr(u8)]
pub(crate) enum First<K, S> {
    None,
    Some(K, S),
}

impl<K, S> First<K, S> {
    #[inline]
    pub(crate) fn take(&mut self) -> Option<(K, S)> {
        match std::mem::replace(self, First::None) {
            First::Some(key, value) => Some((key, value)),
            First::None => None,
        }
    }

    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        matches!(self, First::Some(..))
    }
}

impl<K, S> Removed<K, S> {
    #[inline]
    pub(crate) const fn new() -> Self {
        Removed { first: First::None, rest: Vec::new() }
    }

    #[inline]
    pub(crate) fn one((key, value): (K, S)) -> Self {
        Removed { first: First::Some(key, value), rest: Vec::new() }
    }

    pub(crate) fn push(&mut self, (key, value): (K, S)) {
        match self.first {
            First::None => self.first = First::Some(key, value),
            First::Some(..) => self.rest.push((key, value)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.first.is_some()
    }
}

#[cfg(test)]
impl<K, S> IntoIterator for Removed<K, S> {
    type Item = (K, S);
    type IntoIter = std::iter::Chain<std::option::IntoIter<(K, S)>, std::vec::IntoIter<(K, S)>>;

    fn into_iter(mut self) -> Self::IntoIter {
        self.first.take().into_iter().chain(self.rest)
    }
}
