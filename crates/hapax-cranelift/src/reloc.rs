//! Relocations: which kinds are kept, and their arithmetic on a slice. Knows no memory and runs no code, so both
//! architectures are tested on either.
//!
//! In the formulas S is the target, A the addend, P the place that is patched, G the slot that holds S. Their sources
//! are the ELF supplements of the two architectures (System V ABI AMD64; ELF for the Arm 64-bit Architecture).

use cranelift_codegen::binemit::Reloc;
use target_lexicon::Architecture;

/// The kinds that can be kept and loaded. The numbers are part of the format of artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// S + A in 8 bytes.
    Abs8 = 1,
    /// x86-64: S + A - P in 4 bytes.
    X86Relative4 = 2,
    /// x86-64: G + A - P in 4 bytes.
    X86Slot4 = 3,
    /// aarch64 `bl`, `b`: (S + A - P) / 4 in 26 bits.
    ArmBranch26 = 4,
    /// aarch64 `adrp`: (page(S + A) - page(P)) / 4096 in 21 bits.
    ArmPage21 = 5,
    /// aarch64 `add`: the low 12 bits of S + A.
    ArmLow12 = 6,
    /// aarch64 `adrp`: as `ArmPage21`, of G.
    ArmSlotPage21 = 7,
    /// aarch64 `ldr` of 8 bytes: the low 12 bits of G, which is a multiple of 8.
    ArmSlotLow12 = 8,
}

/// Why a place cannot be patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It lies outside its section, or not where an instruction can be.
    Place,
    /// The target is further away than the instruction reaches, or not aligned for it.
    Reach,
    /// The instruction is not one that the relocation is for.
    Instruction,
}

impl Kind {
    /// Of Cranelift's; `None` for those that are not kept.
    pub(crate) fn of(reloc: Reloc) -> Option<Kind> {
        Some(match reloc {
            Reloc::Abs8 => Kind::Abs8,
            Reloc::X86PCRel4 | Reloc::X86CallPCRel4 | Reloc::X86CallPLTRel4 => Kind::X86Relative4,
            Reloc::X86GOTPCRel4 => Kind::X86Slot4,
            Reloc::Arm64Call => Kind::ArmBranch26,
            Reloc::Aarch64AdrPrelPgHi21 => Kind::ArmPage21,
            Reloc::Aarch64AddAbsLo12Nc => Kind::ArmLow12,
            Reloc::Aarch64AdrGotPage21 => Kind::ArmSlotPage21,
            Reloc::Aarch64Ld64GotLo12Nc => Kind::ArmSlotLow12,
            _ => return None,
        })
    }

    /// Of its number in an artifact, if the architecture has it.
    pub(crate) fn decode(number: u8, architecture: Architecture) -> Option<Kind> {
        let kind = match number {
            1 => return Some(Kind::Abs8),
            2 => Kind::X86Relative4,
            3 => Kind::X86Slot4,
            4 => Kind::ArmBranch26,
            5 => Kind::ArmPage21,
            6 => Kind::ArmLow12,
            7 => Kind::ArmSlotPage21,
            8 => Kind::ArmSlotLow12,
            _ => return None,
        };
        let fits = match kind {
            Kind::Abs8 => true,
            Kind::X86Relative4 | Kind::X86Slot4 => architecture == Architecture::X86_64,
            _ => matches!(architecture, Architecture::Aarch64(_)),
        };
        fits.then_some(kind)
    }

    /// Whether the target is the slot that holds the symbol's address, not the symbol.
    pub(crate) fn wants_slot(self) -> bool {
        matches!(self, Kind::X86Slot4 | Kind::ArmSlotPage21 | Kind::ArmSlotLow12)
    }

    /// Whether any target in the address space can be reached.
    pub(crate) fn reaches_all(self) -> bool {
        self == Kind::Abs8
    }

    /// Bytes that are patched.
    pub(crate) fn width(self) -> usize {
        if self == Kind::Abs8 { 8 } else { 4 }
    }

    /// Whether the offset is one at which such a place can be, in a section of `length` bytes.
    pub(crate) fn fits(self, offset: u32, length: usize) -> bool {
        let aligned = matches!(self, Kind::Abs8 | Kind::X86Relative4 | Kind::X86Slot4) || offset.is_multiple_of(4);
        aligned && (offset as usize).checked_add(self.width()).is_some_and(|end| end <= length)
    }

    /// Patches the place at `offset` of a section that will be at `section_address`; `target` is S or G.
    pub(crate) fn patch(
        self,
        section: &mut [u8],
        section_address: u64,
        offset: u32,
        target: u64,
        addend: i64,
    ) -> Result<(), Failed> {
        if !self.fits(offset, section.len()) {
            return Err(Failed::Place);
        }
        let place = section_address.wrapping_add(u64::from(offset));
        let bytes = &mut section[offset as usize..][..self.width()];
        let wanted = target.wrapping_add_signed(addend);
        match self {
            Kind::Abs8 => bytes.copy_from_slice(&wanted.to_le_bytes()),
            Kind::X86Relative4 | Kind::X86Slot4 => {
                let distance = i32::try_from(wanted.wrapping_sub(place).cast_signed()).map_err(|_| Failed::Reach)?;
                bytes.copy_from_slice(&distance.to_le_bytes());
            }
            _ => {
                let before = u32::from_le_bytes(bytes.try_into().expect("its width is 4"));
                bytes.copy_from_slice(&self.arm(before, place, wanted)?.to_le_bytes());
            }
        }
        Ok(())
    }

    fn arm(self, instruction: u32, place: u64, wanted: u64) -> Result<u32, Failed> {
        let is = |mask: u32, bits: u32| if instruction & mask == bits { Ok(()) } else { Err(Failed::Instruction) };
        match self {
            Kind::ArmBranch26 => {
                is(0x7c00_0000, 0x1400_0000)?;
                let distance = wanted.wrapping_sub(place).cast_signed();
                if distance % 4 != 0 || !(-(1 << 27)..1 << 27).contains(&distance) {
                    return Err(Failed::Reach);
                }
                Ok(instruction & 0xfc00_0000 | (distance >> 2) as u32 & 0x03ff_ffff)
            }
            Kind::ArmPage21 | Kind::ArmSlotPage21 => {
                is(0x9f00_0000, 0x9000_0000)?;
                let pages = (wanted & !0xfff).wrapping_sub(place & !0xfff).cast_signed() >> 12;
                if !(-(1 << 20)..1 << 20).contains(&pages) {
                    return Err(Failed::Reach);
                }
                let pages = pages as u32;
                Ok(instruction & 0x9f00_001f | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5)
            }
            Kind::ArmLow12 => {
                is(0x7fc0_0000, 0x1100_0000)?;
                Ok(instruction & !(0xfff << 10) | (wanted as u32 & 0xfff) << 10)
            }
            Kind::ArmSlotLow12 => {
                is(0xffc0_0000, 0xf940_0000)?;
                if !wanted.is_multiple_of(8) {
                    return Err(Failed::Reach);
                }
                Ok(instruction & !(0xfff << 10) | (wanted as u32 & 0xfff) >> 3 << 10)
            }
            Kind::Abs8 | Kind::X86Relative4 | Kind::X86Slot4 => Err(Failed::Instruction),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x7f00_0000_1000;

    fn patched(kind: Kind, before: &[u8], target: u64, addend: i64) -> Result<Vec<u8>, Failed> {
        let mut section = before.to_vec();
        kind.patch(&mut section, AT, 0, target, addend).map(|()| section)
    }

    fn instruction(kind: Kind, before: u32, target: u64) -> Result<u32, Failed> {
        let after = patched(kind, &before.to_le_bytes(), target, 0)?;
        Ok(u32::from_le_bytes(after.try_into().unwrap()))
    }

    #[test]
    fn x86_places_hold_distances_and_addresses() {
        assert_eq!(
            patched(Kind::Abs8, &[0; 8], 0x1122_3344_5566_7788, 1).unwrap(),
            0x1122_3344_5566_7789u64.to_le_bytes()
        );
        assert_eq!(patched(Kind::X86Relative4, &[9; 4], AT + 0x104, -4).unwrap(), 0x100i32.to_le_bytes());
        assert_eq!(patched(Kind::X86Slot4, &[0; 4], AT - 0x100, -4).unwrap(), (-0x104i32).to_le_bytes());
    }

    #[test]
    fn a_target_out_of_reach_is_refused() {
        assert!(patched(Kind::X86Relative4, &[0; 4], AT + 0x7fff_ffff, 0).is_ok());
        assert_eq!(patched(Kind::X86Relative4, &[0; 4], AT + 0x8000_0000, 0), Err(Failed::Reach));
        assert_eq!(patched(Kind::X86Relative4, &[0; 4], AT - 0x8000_0001, 0), Err(Failed::Reach));
        let call = 0x9400_0000;
        assert!(instruction(Kind::ArmBranch26, call, AT + 0x7ff_fffc).is_ok());
        assert_eq!(instruction(Kind::ArmBranch26, call, AT + 0x800_0000), Err(Failed::Reach));
        assert_eq!(instruction(Kind::ArmBranch26, call, AT + 2), Err(Failed::Reach));
        assert!(instruction(Kind::ArmPage21, 0x9000_0000, AT + 0xffff_f000).is_ok());
        assert_eq!(instruction(Kind::ArmPage21, 0x9000_0000, AT + (1 << 32)), Err(Failed::Reach));
        assert_eq!(instruction(Kind::ArmSlotLow12, 0xf940_0000, AT + 4), Err(Failed::Reach));
    }

    /// The expected words are those of GNU as for the same distances.
    #[test]
    fn aarch64_instructions_take_their_immediates() {
        assert_eq!(instruction(Kind::ArmBranch26, 0x9400_0000, AT + 0x100), Ok(0x9400_0040)); // bl .+0x100
        assert_eq!(instruction(Kind::ArmBranch26, 0x1400_0000, AT - 4), Ok(0x17ff_ffff)); // b .-4
        assert_eq!(instruction(Kind::ArmPage21, 0x9000_0003, AT + 0x5000), Ok(0xb000_0023)); // adrp x3, .+0x5000
        assert_eq!(instruction(Kind::ArmPage21, 0x9000_0000, AT - 0x1000), Ok(0xf0ff_ffe0)); // adrp x0, .-0x1000
        assert_eq!(instruction(Kind::ArmLow12, 0x9100_0021, AT + 0xabc), Ok(0x912a_f021)); // add x1, x1, #0xabc
        assert_eq!(instruction(Kind::ArmSlotLow12, 0xf940_0042, AT + 0x18), Ok(0xf940_0c42)); // ldr x2, [x2, #0x18]
    }

    #[test]
    fn a_place_that_holds_another_instruction_is_refused() {
        for kind in [Kind::ArmBranch26, Kind::ArmPage21, Kind::ArmLow12, Kind::ArmSlotPage21, Kind::ArmSlotLow12] {
            assert_eq!(instruction(kind, 0xd65f_03c0, AT), Err(Failed::Instruction), "{kind:?}"); // ret
        }
    }

    #[test]
    fn a_place_outside_its_section_is_refused() {
        let mut section = [0; 8];
        assert_eq!(Kind::Abs8.patch(&mut section, AT, 1, 0, 0), Err(Failed::Place));
        assert_eq!(Kind::X86Relative4.patch(&mut section, AT, 5, AT, 0), Err(Failed::Place));
        assert_eq!(Kind::X86Relative4.patch(&mut section, AT, u32::MAX, AT, 0), Err(Failed::Place));
        assert_eq!(Kind::ArmBranch26.patch(&mut section, AT, 2, AT, 0), Err(Failed::Place));
        assert_eq!(section, [0; 8]);
    }

    #[test]
    fn an_architecture_has_its_own_kinds_only() {
        let arm = Architecture::Aarch64(target_lexicon::Aarch64Architecture::Aarch64);
        for number in 0..=255 {
            let (x86, arm) = (Kind::decode(number, Architecture::X86_64), Kind::decode(number, arm));
            assert!(x86.is_none() || arm.is_none() || x86 == Some(Kind::Abs8), "{number}");
            for kind in x86.into_iter().chain(arm) {
                assert_eq!(kind as u8, number);
            }
        }
    }
}
