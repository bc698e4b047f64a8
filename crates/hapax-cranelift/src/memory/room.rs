//! A stretch of writable pages from which the runs of a large batch are cut. Changes no protection.

use super::{Fresh, Pages, Run, Sections, Space};
use smallvec::SmallVec;
use std::sync::Arc;

/// Writable, zeroed pages from which runs are taken; dropped, it gives back what is left of them.
pub(crate) struct Room {
    pub(super) run: Run,
    /// Whether its pages are there.
    pub(super) is_populated: bool,
}

impl Room {
    /// As [`Space::take`]; `None` if there is not enough left. Code comes from the beginning and data from the end, so that
    /// what will be protected alike lies together.
    pub(crate) fn take(&mut self, sections: Sections) -> Option<Fresh> {
        let page = self.run.space.page;
        if sections.layout(page)?.1 > self.run.bytes {
            return None;
        }
        let mut runs: SmallVec<[Run; 3]> = SmallVec::new();
        for (part, length) in sections.lengths().into_iter().enumerate() {
            let bytes = length.next_multiple_of(page);
            let run = if part == 0 { self.carve(bytes)? } else { self.carve_end(bytes)? };
            if bytes > 0 && !self.is_populated {
                run.populate();
            }
            runs.push(run);
        }
        let starts = std::array::from_fn(|part| runs[part].offset);
        Some(Fresh(Pages { runs, sections, starts }))
    }

    /// Each part from a room of its own, where it lies beside others that will be protected as it is.
    pub(crate) fn take_apart(space: &Arc<Space>, rooms: &mut [Option<Room>; 3], sections: Sections) -> Option<Fresh> {
        let mut runs: SmallVec<[Run; 3]> = SmallVec::new();
        for (room, length) in rooms.iter_mut().zip(sections.lengths()) {
            runs.push(match length {
                0 => Run { space: space.clone(), offset: 0, bytes: 0 },
                _ => room.as_mut()?.carve(length.checked_next_multiple_of(space.page)?)?,
            });
        }
        let starts = std::array::from_fn(|part| runs[part].offset);
        Some(Fresh(Pages { runs, sections, starts }))
    }

    /// Bytes that are left.
    pub(crate) fn bytes(&self) -> usize {
        self.run.bytes
    }

    /// Whole pages from its beginning; `None` if there are not enough left.
    fn carve(&mut self, bytes: usize) -> Option<Run> {
        let left = self.run.bytes.checked_sub(bytes)?;
        let run = Run { space: self.run.space.clone(), offset: self.run.offset, bytes };
        (self.run.offset, self.run.bytes) = (self.run.offset + bytes, left);
        Some(run)
    }

    /// Whole pages from its end; `None` if there are not enough left.
    fn carve_end(&mut self, bytes: usize) -> Option<Run> {
        self.run.bytes = self.run.bytes.checked_sub(bytes)?;
        Some(Run { space: self.run.space.clone(), offset: self.run.offset + self.run.bytes, bytes })
    }
}
