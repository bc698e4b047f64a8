//! Unwind tables in the form that the platform's unwinder reads (`.eh_frame`, DWARF 4 section 6.4 and the LSB's chapter on
//! exception frames). Pure: registering them is the business of `frames`.

use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::isa::unwind::{UnwindInfo, UnwindInfoKind};
use cranelift_codegen::{CodegenError, CompiledCode};
use gimli::LittleEndian;
use gimli::write::{Address, CommonInformationEntry, EhFrame, EndianVec, FrameDescriptionEntry, FrameTable};

/// Bytes of an entry before its program: length, distance to the common entry, start and length of the code.
const ENTRY_BYTES: usize = 24;
const END_BYTES: usize = 4;

/// What all functions of an ISA have in common; empty if it has no unwind information.
pub(crate) fn common_entry(isa: &dyn TargetIsa) -> Vec<u8> {
    let Some(common) = isa.create_systemv_cie() else { return Vec::new() };
    // A common entry is written for those that refer to it.
    split(common, FrameDescriptionEntry::new(Address::Constant(0), 1)).0
}

/// The function's unwind program; empty if it has none.
pub(crate) fn program(isa: &dyn TargetIsa, code: &CompiledCode) -> Result<Vec<u8>, CodegenError> {
    let info = code.create_unwind_info_of_kind(isa, UnwindInfoKind::SystemV)?;
    let (Some(UnwindInfo::SystemV(info)), Some(common)) = (info, isa.create_systemv_cie()) else {
        return Ok(Vec::new());
    };
    Ok(split(common, info.to_fde(Address::Constant(0))).1)
}

/// The bytes of the common entry, and of the other's program.
fn split(common: CommonInformationEntry, entry: FrameDescriptionEntry) -> (Vec<u8>, Vec<u8>) {
    let mut table = FrameTable::default();
    let id = table.add_cie(common);
    table.add_fde(id, entry);
    let mut section = EhFrame(EndianVec::new(LittleEndian));
    // Cranelift's entries are of the version and format that every platform of ours reads.
    table.write_eh_frame(&mut section).expect("entries of version 1 can be written");
    let mut common = section.0.into_vec();
    let length = common.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let mut program = common.split_off(4 + length);
    program.drain(..ENTRY_BYTES);
    (common, program)
}

/// Bytes of a table for functions with these programs.
pub(crate) fn table_bytes<'a>(common: &[u8], programs: impl Iterator<Item = &'a [u8]>) -> usize {
    let entries: usize = programs.filter(|program| !program.is_empty()).map(entry_bytes).sum();
    if common.is_empty() || entries == 0 { 0 } else { common.len() + entries + END_BYTES }
}

/// Writes the table of functions, each with its start, its length and its program, into exactly [`table_bytes`].
pub(crate) fn write_table<'a>(out: &mut [u8], common: &[u8], functions: impl Iterator<Item = (u64, usize, &'a [u8])>) {
    out[..common.len()].copy_from_slice(common);
    let mut at = common.len();
    for (start, code_bytes, program) in functions.filter(|(_, _, program)| !program.is_empty()) {
        let entry = &mut out[at..at + entry_bytes(program)];
        let (length, back) = (entry.len() as u32 - 4, at as u32 + 4);
        entry[0..4].copy_from_slice(&length.to_le_bytes());
        entry[4..8].copy_from_slice(&back.to_le_bytes());
        entry[8..16].copy_from_slice(&start.to_le_bytes());
        entry[16..24].copy_from_slice(&(code_bytes as u64).to_le_bytes());
        // What follows the program stays zero, which is an instruction that does nothing.
        entry[ENTRY_BYTES..ENTRY_BYTES + program.len()].copy_from_slice(program);
        at += entry.len();
    }
    out[at..].copy_from_slice(&[0; END_BYTES]);
}

fn entry_bytes(program: &[u8]) -> usize {
    (ENTRY_BYTES + program.len()).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cranelift_codegen::settings;
    use gimli::{BaseAddresses, CieOrFde, UnwindSection};

    #[test]
    fn a_table_reads_back_with_each_functions_range() {
        for triple in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
            let flags = settings::Flags::new(settings::builder());
            let isa = cranelift_codegen::isa::lookup_by_name(triple).unwrap().finish(flags).unwrap();
            let common = common_entry(&*isa);
            let programs: [&[u8]; 3] = [&[0x41, 0x0e, 0x10], &[], &[0]];
            let mut bytes = vec![0xff; table_bytes(&common, programs.iter().copied())];
            bytes.fill(0);
            let functions =
                programs.iter().enumerate().map(|(at, program)| (0x1000 + at as u64 * 64, 40 + at, *program));
            write_table(&mut bytes, &common, functions);
            let section = gimli::EhFrame::new(&bytes, LittleEndian);
            let bases = BaseAddresses::default().set_eh_frame(0);
            let mut entries = section.entries(&bases);
            let mut ranges = Vec::new();
            while let Some(entry) = entries.next().unwrap() {
                if let CieOrFde::Fde(partial) = entry {
                    let entry = partial.parse(|section, bases, offset| section.cie_from_offset(bases, offset)).unwrap();
                    ranges.push((entry.initial_address(), entry.len()));
                }
            }
            assert_eq!(ranges, [(0x1000, 40), (0x1080, 42)], "{triple}");
        }
    }

    #[test]
    fn no_unwind_information_makes_no_table() {
        assert_eq!(table_bytes(&[1; 24], [&[][..]].into_iter()), 0);
        assert_eq!(table_bytes(&[], [&[1u8][..]].into_iter()), 0);
    }
}
