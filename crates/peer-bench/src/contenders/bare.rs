//! What hapax's layout costs by itself: the same table, slots and links as hapax's index, without lock, leases, budget
//! or streams. For one thread. Its lock is there for the compiler's sake and taken once per batch.

use crate::contenders::{Contender, Payload, payload, read};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Mutex;

const NIL: u32 = u32::MAX;

pub struct Bare(Mutex<Inner>);

struct Inner {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    links: Vec<Links>,
    oldest: u32,
    newest: u32,
    room: usize,
    hasher: RandomState,
}

/// 48 bytes, as a slot of hapax with a 128-bit key and a handle.
struct Slot {
    key: u128,
    payload: Payload,
    hash: u32,
}

#[derive(Clone, Copy)]
struct Links {
    older: u32,
    newer: u32,
}

impl Bare {
    pub fn new(entries: usize) -> Self {
        Bare(Mutex::new(Inner {
            table: HashTable::new(),
            slots: Vec::new(),
            links: Vec::new(),
            oldest: NIL,
            newest: NIL,
            room: entries,
            hasher: RandomState::default(),
        }))
    }
}

impl Contender for Bare {
    fn look_up(&self, keys: &[u128]) -> usize {
        let mut inner = self.0.lock().unwrap();
        keys.iter().filter(|&&key| inner.get(key)).count()
    }

    fn insert_all(&self, keys: &[u128]) {
        let mut inner = self.0.lock().unwrap();
        keys.iter().for_each(|&key| inner.insert(key));
    }

    fn use_all(&self, keys: &[u128]) -> usize {
        let mut inner = self.0.lock().unwrap();
        let mut hits = 0;
        for &key in keys {
            if inner.get(key) {
                hits += 1;
            } else {
                inner.insert(key);
            }
        }
        hits
    }
}

impl Inner {
    fn get(&mut self, key: u128) -> bool {
        let hash = self.hash(key);
        let slots = &self.slots;
        let Some(&slot) = self.table.find(expand(hash), |&slot| slots[slot as usize].key == key) else {
            return false;
        };
        if self.newest != slot {
            self.unlink(slot);
            self.push(slot);
        }
        read(&self.slots[slot as usize].payload);
        true
    }

    fn insert(&mut self, key: u128) {
        let hash = self.hash(key);
        let content = Slot { key, payload: payload(key), hash };
        let slot = if self.slots.len() < self.room {
            self.slots.push(content);
            self.links.push(Links { older: NIL, newer: NIL });
            self.slots.len() as u32 - 1
        } else {
            let victim = self.oldest;
            self.unlink(victim);
            let old = expand(self.slots[victim as usize].hash);
            self.table.find_entry(old, |&slot| slot == victim).expect("every key is in the table").remove();
            self.slots[victim as usize] = content;
            victim
        };
        let slots = &self.slots;
        self.table.insert_unique(expand(hash), slot, |&slot| expand(slots[slot as usize].hash));
        self.push(slot);
    }

    fn push(&mut self, slot: u32) {
        self.links[slot as usize] = Links { older: self.newest, newer: NIL };
        match self.newest {
            NIL => self.oldest = slot,
            newest => self.links[newest as usize].newer = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Links { older, newer } = self.links[slot as usize];
        match older {
            NIL => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NIL => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
    }

    fn hash(&self, key: u128) -> u32 {
        self.hasher.hash_one(key) as u32
    }
}

fn expand(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
