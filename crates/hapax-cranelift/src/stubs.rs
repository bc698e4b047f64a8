//! Jumps through a word: each stub is an address inside the space that leads to wherever its word says. The host's
//! functions are reached through stubs because they may be far away, other compiled functions because they may be
//! replaced. Knows no names.

use crate::memory::{NoPages, Sealed, Sections, Space};
use crate::reloc::Kind;
use std::sync::Arc;
use target_lexicon::Architecture;

const STUB_BYTES: usize = 16;
/// Stubs are made this many at a time: a page of them.
const STUBS_PER_CHUNK: usize = 256;

/// Stubs whose words never change, so they lie in read-only memory.
pub(crate) struct FixedStubs {
    pages: Sealed,
}

impl FixedStubs {
    /// One stub for each target.
    pub(crate) fn new(space: &Arc<Space>, architecture: Architecture, targets: &[u64]) -> Result<FixedStubs, NoPages> {
        let sections = Sections { text: targets.len() * STUB_BYTES, read_only: targets.len() * 8, writable: 0 };
        let mut fresh = space.take(sections)?;
        let [text_at, words_at, _] = fresh.addresses();
        let [text, words, _] = fresh.parts_mut();
        write_stubs(architecture, text, text_at, words_at);
        for (word, target) in words.as_chunks_mut::<8>().0.iter_mut().zip(targets) {
            *word = target.to_le_bytes();
        }
        Ok(FixedStubs { pages: fresh.seal()? })
    }

    /// The address of the stub with this number.
    pub(crate) fn address(&self, number: usize) -> u64 {
        stub_address(&self.pages, number)
    }
}

/// Stubs whose words change while their code may run. They only grow in number.
pub(crate) struct Stubs {
    space: Arc<Space>,
    architecture: Architecture,
    /// Where a stub leads that has no target yet.
    nowhere: u64,
    /// Each is one or more chunks.
    runs: Vec<Sealed>,
    /// Of each chunk, in which run it is and with which of its stubs it begins.
    chunks: Vec<(usize, usize)>,
    used: usize,
}

impl Stubs {
    pub(crate) fn new(space: Arc<Space>, architecture: Architecture, nowhere: u64) -> Stubs {
        Stubs { space, architecture, nowhere, runs: Vec::new(), chunks: Vec::new(), used: 0 }
    }

    /// A new stub that leads nowhere, by number.
    pub(crate) fn add(&mut self) -> Result<usize, NoPages> {
        if self.used == self.chunks.len() * STUBS_PER_CHUNK {
            self.grow(1)?;
        }
        self.used += 1;
        Ok(self.used - 1)
    }

    /// Makes room for so many more, if it can: in one run, which costs less than one for each chunk.
    pub(crate) fn reserve(&mut self, stubs: usize) {
        let more = (self.used + stubs).div_ceil(STUBS_PER_CHUNK).saturating_sub(self.chunks.len());
        if more > 0 {
            // Whoever adds a stub that there is no room for is told.
            let _ = self.grow(more);
        }
    }

    /// The address of the stub, which stays the same as long as the stubs live.
    pub(crate) fn address(&self, number: usize) -> u64 {
        let (run, first) = self.chunks[number / STUBS_PER_CHUNK];
        stub_address(&self.runs[run], first + number % STUBS_PER_CHUNK)
    }

    /// Calls that begin after this lead to `target`.
    pub(crate) fn lead(&self, number: usize, target: u64) {
        let (run, first) = self.chunks[number / STUBS_PER_CHUNK];
        self.runs[run].store_word((first + number % STUBS_PER_CHUNK) * 8, target);
    }

    /// Calls that begin after this lead nowhere.
    pub(crate) fn lead_nowhere(&self, number: usize) {
        self.lead(number, self.nowhere);
    }

    /// Adds so many chunks, in one run of pages.
    fn grow(&mut self, chunks: usize) -> Result<(), NoPages> {
        let stubs = chunks * STUBS_PER_CHUNK;
        let sections = Sections { text: stubs * STUB_BYTES, read_only: 0, writable: stubs * 8 };
        let mut fresh = self.space.take(sections)?;
        let [text_at, _, words_at] = fresh.addresses();
        let [text, _, words] = fresh.parts_mut();
        write_stubs(self.architecture, text, text_at, words_at);
        words.as_chunks_mut::<8>().0.fill(self.nowhere.to_le_bytes());
        self.runs.push(fresh.seal()?);
        let run = self.runs.len() - 1;
        self.chunks.extend((0..chunks).map(|chunk| (run, chunk * STUBS_PER_CHUNK)));
        Ok(())
    }
}

fn stub_address(pages: &Sealed, number: usize) -> u64 {
    let [text, ..] = pages.ranges();
    let address = text.start + (number * STUB_BYTES) as u64;
    assert!(text.contains(&address));
    address
}

/// One stub in each 16 bytes of `text`, each with a word of its own.
fn write_stubs(architecture: Architecture, text: &mut [u8], text_at: u64, words_at: u64) {
    for (number, stub) in text.as_chunks_mut::<STUB_BYTES>().0.iter_mut().enumerate() {
        let at = text_at + (number * STUB_BYTES) as u64;
        write_stub(architecture, stub, at, words_at + (number * 8) as u64);
    }
}

fn write_stub(architecture: Architecture, stub: &mut [u8; STUB_BYTES], at: u64, word: u64) {
    // x16 is the register that the procedure call standard leaves to code between a call and its target.
    let (bytes, patches): (_, &[_]) = match architecture {
        // jmp [rip + distance]; int3 ..
        Architecture::X86_64 => {
            let mut bytes = [0xcc; STUB_BYTES];
            bytes[..6].copy_from_slice(&[0xff, 0x25, 0, 0, 0, 0]);
            (bytes, &[(Kind::X86Slot4, 2, -4)])
        }
        // adrp x16, word; ldr x16, [x16, low 12 bits]; br x16; udf
        _ => {
            let words = [0x9000_0010u32, 0xf940_0210, 0xd61f_0200, 0];
            let mut bytes = [0; STUB_BYTES];
            for (at, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *at = word.to_le_bytes();
            }
            (bytes, &[(Kind::ArmSlotPage21, 0, 0), (Kind::ArmSlotLow12, 4, 0)])
        }
    };
    *stub = bytes;
    for (kind, offset, addend) in patches {
        kind.patch(stub, at, *offset, word, *addend).expect("a word lies in the run of its stub");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_x86_stub_jumps_through_its_word() {
        let mut stub = [0; STUB_BYTES];
        write_stub(Architecture::X86_64, &mut stub, 0x1010, 0x2008);
        assert_eq!(stub[..6], [0xff, 0x25, 0xf2, 0x0f, 0, 0]);
        assert_eq!(stub[6..], [0xcc; 10]);
    }

    #[test]
    fn an_aarch64_stub_jumps_through_its_word() {
        let arm = Architecture::Aarch64(target_lexicon::Aarch64Architecture::Aarch64);
        let mut stub = [0; STUB_BYTES];
        write_stub(arm, &mut stub, 0x1010, 0x3018);
        let words: Vec<u32> = stub.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        // adrp x16, .+0x2000; ldr x16, [x16, #24]; br x16
        assert_eq!(words, [0xd000_0010, 0xf940_0e10, 0xd61f_0200, 0]);
    }

    #[test]
    fn a_stub_keeps_its_address_when_others_come() {
        let space = Space::reserve(1 << 20).unwrap();
        let mut stubs = Stubs::new(space, Architecture::X86_64, 0);
        let first = stubs.add().unwrap();
        let address = stubs.address(first);
        let all: Vec<u64> = (0..600)
            .map(|_| {
                let n = stubs.add().unwrap();
                stubs.address(n)
            })
            .collect();
        assert_eq!(stubs.address(first), address);
        let mut distinct = all.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 600);
    }
}
