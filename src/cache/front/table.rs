//! Which slot a key is in. Knows hashes and slots; the keys it asks for.

use crate::cache::front::words::Words;
use crate::cache::slot::expand;
use hashbrown::HashTable;
use std::sync::Arc;

pub(crate) enum Table {
    /// For who holds the lock.
    Locked(HashTable<u32>),
    /// For lookups without it, too.
    LockFree(Arc<Words>),
}

impl Table {
    pub(crate) fn locked() -> Self {
        Table::Locked(HashTable::new())
    }

    #[inline(always)]
    pub(crate) fn find(&self, hash: u32, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        match self {
            Table::Locked(table) => table.find(expand(hash), |&slot| wanted(slot)).copied(),
            Table::LockFree(words) => words.slots(hash).find(|&slot| wanted(slot)),
        }
    }

    /// `hash_of` is asked about the others when the table grows.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, slot: u32, hash_of: impl Fn(u32) -> u32) {
        match self {
            Table::Locked(table) => {
                table.insert_unique(expand(hash), slot, |&slot| expand(hash_of(slot)));
            }
            Table::LockFree(words) => words.insert(hash, slot),
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, hash: u32, slot: u32) {
        match self {
            Table::Locked(table) => match table.find_entry(expand(hash), |&other| other == slot) {
                Ok(entry) => drop(entry.remove()),
                Err(_) => unreachable!("every key is in the table"),
            },
            Table::LockFree(words) => words.remove(hash, slot),
        }
    }

    #[inline]
    pub(crate) fn is_lock_free(&self) -> bool {
        matches!(self, Table::LockFree(_))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Table::Locked(table) => table.len(),
            Table::LockFree(words) => words.len(),
        }
    }
}
