//! Room for small batches, so that their code lies beside other code and their data beside other data: a system counts each
//! run of pages that are protected alike as one mapping, and allows some 65,000 of them. Knows no instruction and no
//! symbol.

use crate::memory::{Fresh, Room, Sections, Space};
use std::sync::Arc;

/// Of a chunk, of which there are up to three at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// A chunk takes at most this part of the space.
const PART_OF_SPACE: usize = 256;
/// A chunk serves at least so many parts; what is larger gets pages of its own.
const PARTS_AT_LEAST: usize = 4;

/// What is left of the chunks for executable, read-only and writable parts.
pub(crate) struct Arenas {
    chunk_bytes: usize,
    rooms: [Option<Room>; 3],
}

impl Arenas {
    pub(crate) fn new(space: &Space) -> Arenas {
        Arenas { chunk_bytes: CHUNK_BYTES.min(space.bytes() / PART_OF_SPACE), rooms: [None, None, None] }
    }

    /// As [`Space::take`]; `None` if the sections are not small, or there is no room for another chunk.
    pub(crate) fn take(&mut self, space: &Arc<Space>, sections: Sections) -> Option<Fresh> {
        let lengths = [sections.text, sections.read_only, sections.writable];
        if lengths.iter().any(|length| *length > self.chunk_bytes / PARTS_AT_LEAST) {
            return None;
        }
        for (room, length) in self.rooms.iter_mut().zip(lengths) {
            // What is left of the one before is less than a small part, and goes back.
            if length > 0 && room.as_ref().is_none_or(|room| room.bytes() < length) {
                *room = Some(space.chunk(self.chunk_bytes)?);
            }
        }
        Room::take_apart(space, &mut self.rooms, sections)
    }
}
