//! Finds addresses of this process among a function's constants: code that holds one means nothing in the next process.
//! Knows no code, only numbers. A heuristic: a number counts if it points into a mapping of the process, so a number may
//! be taken for an address, and an address that is computed, shifted or split is not found.

use crate::memory::is_mapped;
use cranelift_codegen::ir::{Function, GlobalValueData, InstructionData};

/// Nothing is mapped below, unless the system is told to.
const ADDRESSES_FROM: u64 = 64 << 10;
/// The user's half of the address space of either architecture, with 48 bits.
const ADDRESSES_TO: u64 = 1 << 48;
/// Below, what is mapped from a file is an executable that lies at the same addresses in every process of its build, and
/// they are small enough to be numbers.
const FILES_FROM: u64 = 1 << 32;
/// To ask for so many pages one by one takes about as long as to read the list of all mappings.
const ASKED_ONE_BY_ONE: usize = 64;

/// The first constant of the function, or of its data at any offset, that is an address of this process.
pub(crate) fn address_in<'a>(function: &Function, data: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    let mut suspects = Vec::new();
    for block in function.layout.blocks() {
        for instruction in function.layout.block_insts(block) {
            if let InstructionData::UnaryImm { imm, .. } = function.dfg.insts[instruction]
                && function.dfg.value_type(function.dfg.first_result(instruction)).bits() == 64
            {
                suspects.push(imm.bits().cast_unsigned());
            }
        }
    }
    for global in function.global_values.values() {
        if let GlobalValueData::IAddImm { offset, .. } = global {
            suspects.push(offset.bits().cast_unsigned());
        }
    }
    for (_, constant) in function.dfg.constants.iter() {
        suspects.extend(constant.as_slice().as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
    }
    for bytes in data {
        suspects.extend(bytes.array_windows().map(|word: &[u8; 8]| u64::from_le_bytes(*word)));
    }
    first_address(suspects)
}

fn first_address(mut suspects: Vec<u64>) -> Option<u64> {
    suspects.retain(|value| (ADDRESSES_FROM..ADDRESSES_TO).contains(value));
    let mut pages: Vec<u64> = suspects.iter().map(|value| value & !0xfff).collect();
    pages.sort_unstable();
    pages.dedup();
    if pages.len() <= ASKED_ONE_BY_ONE && !pages.iter().any(|page| is_mapped(*page)) {
        return None;
    }
    match std::fs::read_to_string("/proc/self/maps") {
        Ok(maps) => {
            let mut mappings: Vec<Mapping> = maps.lines().filter_map(Mapping::parse).collect();
            mappings.sort_unstable_by_key(|mapping| mapping.start);
            suspects.into_iter().find(|value| {
                let after = mappings.partition_point(|mapping| mapping.start <= *value);
                mappings[..after].last().is_some_and(|mapping| mapping.has_address(*value))
            })
        }
        // Where there is no such list, whatever is mapped counts.
        Err(_) => suspects.into_iter().find(|value| is_mapped(*value)),
    }
}

/// A line of the list of mappings.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    /// Whether it can be read, written or executed. What can not is room that somebody reserved.
    accessible: bool,
    is_file: bool,
}

impl Mapping {
    /// `start-end permissions offset device inode path`
    fn parse(line: &str) -> Option<Mapping> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let accessible = !fields.next()?.starts_with("---");
        Some(Mapping { start, end, accessible, is_file: fields.nth(2)? != "0" })
    }

    fn has_address(&self, value: u64) -> bool {
        value < self.end && self.accessible && (value >= FILES_FROM || !self.is_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_code_heap_and_stack_are_found_and_numbers_are_not() {
        let on_stack = 0u8;
        let on_heap = Box::new(0u8);
        let code = first_address as fn(Vec<u64>) -> Option<u64>;
        for address in [(&raw const on_stack).addr(), (&raw const *on_heap).addr(), code as usize] {
            for before in 0..16 {
                let bytes = [&[0; 16][..before], &(address as u64).to_le_bytes()].concat();
                assert_eq!(address_in(&Function::new(), [&bytes[..]].into_iter()), Some(address as u64), "{before}");
            }
        }
        let numbers = [0, 1, 4096, u64::from(u32::MAX), 0x9e37_79b9_7f4a_7c15, u64::MAX, 1 << 47, 1 << 33];
        assert_eq!(address_in(&Function::new(), [&numbers.map(u64::to_le_bytes).concat()[..]].into_iter()), None);
    }

    #[test]
    fn an_address_among_many_numbers_is_found() {
        let on_heap = Box::new(0u8);
        let mut numbers: Vec<u64> = (0..10_000).map(|n| (1 << 33) + (n << 14)).collect();
        assert_eq!(first_address(numbers.clone()), None);
        numbers.insert(5_000, (&raw const *on_heap).addr() as u64);
        assert_eq!(first_address(numbers), Some((&raw const *on_heap).addr() as u64));
    }

    #[test]
    fn lines_of_the_list_of_mappings_are_read() {
        let heap = Mapping::parse("55d0f000-55d30000 rw-p 00000000 00:00 0                          [heap]").unwrap();
        assert!(heap.has_address(0x55d0_f000) && !heap.has_address(0x55d3_0000));
        let reserved = Mapping::parse("8fff7000-2008fff7000 ---p 00000000 00:00 0 ").unwrap();
        assert!(!reserved.has_address(0x100_0000_01b3));
        let fixed = Mapping::parse("00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/a path").unwrap();
        assert!(!fixed.has_address(0x40_0000), "1 << 22 is a number");
        let library = Mapping::parse("7f00a2c00000-7f00a2e00000 r-xp 00020000 08:02 135522 /lib/libc.so").unwrap();
        assert!(library.has_address(0x7f00_a2c0_0010));
        assert_eq!(Mapping::parse("no line"), None);
    }
}
