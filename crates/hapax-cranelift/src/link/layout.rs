//! Where each function and object of a batch will lie. Pure arithmetic, all of it checked.

use super::{Batch, FUNCTION_ALIGN};
use crate::memory::Sections;
use crate::unwind;
use std::ops::Range;

/// Offsets into the sections.
pub(super) struct Layout {
    pub(super) sections: Sections,
    pub(super) functions: Vec<Range<usize>>,
    pub(super) objects: Vec<ObjectPlace>,
    /// Read-only words that hold addresses.
    pub(super) slots: Range<usize>,
    /// The unwind table, also read-only.
    pub(super) table: Range<usize>,
}

pub(super) struct ObjectPlace {
    pub(super) writable: bool,
    pub(super) range: Range<usize>,
}

impl Layout {
    /// `None` if there is more than addresses can count.
    pub(super) fn of(batch: &Batch<'_>, common_entry: &[u8]) -> Option<Layout> {
        let mut sections = Sections::default();
        let mut functions = Vec::with_capacity(batch.functions.len());
        for function in &batch.functions {
            let align = FUNCTION_ALIGN.max(1 << function.view.align_log2);
            functions.push(append(&mut sections.text, align, function.view.code.len())?);
        }
        let mut objects = Vec::with_capacity(batch.objects.len());
        for object in &batch.objects {
            let part = if object.view.writable { &mut sections.writable } else { &mut sections.read_only };
            // An empty object has an address of its own, too.
            let start = append(part, 1 << object.view.align_log2, object.view.size.max(1))?.start;
            objects.push(ObjectPlace { writable: object.view.writable, range: start..start + object.view.size });
        }
        let wanting = batch.all_relocations().map(|(number, relocations)| {
            let mut symbols: Vec<u16> = relocations.iter().filter(|r| r.kind.wants_slot()).map(|r| r.symbol).collect();
            symbols.sort_unstable();
            symbols.dedup();
            (number, symbols.len())
        });
        let slot_count: usize = wanting.map(|(_, symbols)| symbols).sum();
        let slots = append(&mut sections.read_only, 8, slot_count.checked_mul(8)?)?;
        let programs = batch.functions.iter().map(|function| function.view.unwind);
        let table = append(&mut sections.read_only, 8, unwind::table_bytes(common_entry, programs))?;
        Some(Layout { sections, functions, objects, slots, table })
    }
}

fn append(end: &mut usize, align: usize, bytes: usize) -> Option<Range<usize>> {
    let start = end.checked_next_multiple_of(align)?;
    *end = start.checked_add(bytes)?;
    Some(start..*end)
}
