//! Finds addresses of this process among a function's constants: code that holds one means nothing in the next process.
//! Knows no code, only numbers; a number counts if it points into a mapping of the process.

use crate::memory::is_mapped;
use cranelift_codegen::ir::{Function, GlobalValueData, InstructionData};

/// Smaller numbers are too likely to be numbers. Position-independent executables, shared libraries, heaps and stacks of
/// 64-bit processes lie above.
const ADDRESSES_FROM: u64 = 1 << 32;
/// The user's half of the address space of either architecture, with 48 bits.
const ADDRESSES_TO: u64 = 1 << 48;

/// The first constant of the function, or word of its data, that is an address of this process.
pub(crate) fn address_in<'a>(function: &Function, data: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    let mut suspects = Vec::new();
    for block in function.layout.blocks() {
        for instruction in function.layout.block_insts(block) {
            if let InstructionData::UnaryImm { imm, .. } = function.dfg.insts[instruction] {
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
        suspects.extend(words(constant.as_slice()));
    }
    for bytes in data {
        suspects.extend(words(bytes));
    }
    first_address(suspects)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word))
}

fn first_address(mut suspects: Vec<u64>) -> Option<u64> {
    suspects.retain(|value| (ADDRESSES_FROM..ADDRESSES_TO).contains(value));
    suspects.into_iter().find(|value| is_mapped(*value))
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
            let bytes = [&7u64.to_le_bytes()[..], &(address as u64).to_le_bytes()].concat();
            assert_eq!(address_in(&Function::new(), [&bytes[..]].into_iter()), Some(address as u64));
        }
        let numbers = [0, 1, 4096, u64::from(u32::MAX), 0x9e37_79b9_7f4a_7c15, u64::MAX, 1 << 47, 1 << 33];
        assert_eq!(address_in(&Function::new(), [&numbers.map(u64::to_le_bytes).concat()[..]].into_iter()), None);
    }
}
