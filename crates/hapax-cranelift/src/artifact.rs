//! A compiled function as bytes, and back. Pure: knows neither memory nor symbols' addresses. What [`View::parse`]
//! accepts has every offset inside its section and every number inside its table; whoever reads it relies on that.
//!
//! ```text
//! offset  bytes  (numbers are little-endian)
//!      0      1  format version, 1
//!      1      1  log2 of the code's alignment, at most 12
//!      2      2  symbols s
//!      4      8  ABI of the function: a hash of its signature
//!     12      4  code bytes
//!     16      4  bytes of its unwind program (DWARF call frame instructions)
//!     20      4  relocations r of the code
//!     24      4  traps t
//!     28      4  data objects d
//!     32         code, unwind program, r relocations of 16 bytes, t traps of 5, s symbols, d data objects
//!
//! relocation   offset 4, symbol 2, kind 1, zero 1, addend 8
//! trap         code offset 4, Cranelift's trap code 1
//! symbol       what it names 1, ABI 8, name bytes 2, name
//! data object  log2 of its alignment 1, writable 1, size 8, bytes 4, relocations 4; bytes, relocations; zeros follow
//! ```

use crate::reloc::Kind;
use smallvec::SmallVec;
use std::num::NonZeroU8;
use target_lexicon::Architecture;

/// The version that is written, and the only one that is read.
pub(crate) const FORMAT_VERSION: u8 = 1;
/// What the loader aligns to at most: a page, on every platform.
pub(crate) const ALIGN_LOG2_AT_MOST: u8 = 12;

const PREFIX_BYTES: usize = 32;
const RELOCATION_BYTES: usize = 16;
const TRAP_BYTES: usize = 5;

/// What a relocation refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Named<'a> {
    /// A function of the host, by its name in the allow-list.
    Import(&'a str),
    /// A function that is compiled apart, by its name.
    Function(&'a str),
    /// A data object that is defined apart, by its name.
    Object(&'a str),
    /// A helper that Cranelift calls by itself, by its name.
    LibCall(&'a str),
    /// The function itself.
    Itself,
    /// A data object of this artifact, by its number.
    Own(u16),
}

/// What is referred to, and with which ABI if it is a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Symbol<'a> {
    pub(crate) named: Named<'a>,
    pub(crate) abi: u64,
}

/// A place to patch. The target is a position in the list of symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relocation {
    pub(crate) offset: u32,
    pub(crate) kind: Kind,
    pub(crate) symbol: u16,
    pub(crate) addend: i64,
}

/// Data that belongs to the function.
#[derive(Debug, Clone, Default)]
pub(crate) struct DataObject {
    pub(crate) align_log2: u8,
    pub(crate) writable: bool,
    /// Bytes in memory; zeros follow `bytes`.
    pub(crate) size: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) relocations: Vec<Relocation>,
}

/// What the compiler makes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Artifact<'a> {
    pub(crate) align_log2: u8,
    pub(crate) abi: u64,
    pub(crate) code: &'a [u8],
    pub(crate) unwind: Vec<u8>,
    pub(crate) relocations: Vec<Relocation>,
    pub(crate) traps: Vec<(u32, NonZeroU8)>,
    pub(crate) symbols: Vec<Symbol<'a>>,
    pub(crate) data: &'a [DataObject],
}

impl<'a> Artifact<'a> {
    /// The symbol's place in the list, where it is added if it is new; `None` if the list is full.
    pub(crate) fn position(&mut self, symbol: Symbol<'a>) -> Option<u16> {
        let found = self.symbols.iter().position(|known| *known == symbol).unwrap_or(self.symbols.len());
        if found == self.symbols.len() {
            self.symbols.push(symbol);
        }
        u16::try_from(found).ok().filter(|found| *found < u16::MAX)
    }

    /// The bytes to store. `None` if there is more of something than the format counts.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut out =
            Vec::with_capacity(PREFIX_BYTES + self.code.len() + self.relocations.len() * RELOCATION_BYTES + 256);
        out.extend([FORMAT_VERSION, self.align_log2]);
        out.extend(u16::try_from(self.symbols.len()).ok()?.to_le_bytes());
        out.extend(self.abi.to_le_bytes());
        let lengths = [self.code.len(), self.unwind.len(), self.relocations.len(), self.traps.len(), self.data.len()];
        for length in lengths {
            out.extend(u32::try_from(length).ok()?.to_le_bytes());
        }
        out.extend(self.code);
        out.extend(&self.unwind);
        write_relocations(&self.relocations, &mut out);
        for (offset, code) in &self.traps {
            out.extend(offset.to_le_bytes());
            out.push(code.get());
        }
        for symbol in &self.symbols {
            let own;
            let (what, name) = match symbol.named {
                Named::Import(name) => (0, name.as_bytes()),
                Named::Function(name) => (1, name.as_bytes()),
                Named::Object(name) => (2, name.as_bytes()),
                Named::LibCall(name) => (3, name.as_bytes()),
                Named::Itself => (4, &[][..]),
                Named::Own(number) => {
                    own = number.to_le_bytes();
                    (5, &own[..])
                }
            };
            out.push(what);
            out.extend(symbol.abi.to_le_bytes());
            out.extend(u16::try_from(name.len()).ok()?.to_le_bytes());
            out.extend(name);
        }
        for object in self.data {
            out.extend([object.align_log2, u8::from(object.writable)]);
            out.extend(object.size.to_le_bytes());
            out.extend(u32::try_from(object.bytes.len()).ok()?.to_le_bytes());
            out.extend(u32::try_from(object.relocations.len()).ok()?.to_le_bytes());
            out.extend(&object.bytes);
            write_relocations(&object.relocations, &mut out);
        }
        Some(out)
    }
}

/// Relocations, all of them checked: as they lie in an artifact, or as they were made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Relocations<'a> {
    Parsed { bytes: &'a [u8], architecture: Architecture },
    Made(&'a [Relocation]),
}

impl<'a> Relocations<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = Relocation> + use<'a> {
        let count = match self {
            Relocations::Parsed { bytes, .. } => bytes.len() / RELOCATION_BYTES,
            Relocations::Made(made) => made.len(),
        };
        (0..count).map(move |at| match self {
            Relocations::Parsed { bytes, architecture } => {
                relocation(&bytes.as_chunks().0[at], architecture).expect("parsed before")
            }
            Relocations::Made(made) => made[at],
        })
    }

    fn parse(bytes: &'a [u8], architecture: Architecture, section_bytes: usize, symbols: usize) -> Option<Self> {
        let valid = bytes.as_chunks().0.iter().all(|bytes| {
            relocation(bytes, architecture).is_some_and(|relocation| {
                relocation.kind.fits(relocation.offset, section_bytes) && usize::from(relocation.symbol) < symbols
            })
        });
        valid.then_some(Relocations::Parsed { bytes, architecture })
    }
}

/// A data object as it lies in an artifact.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataView<'a> {
    pub(crate) align_log2: u8,
    pub(crate) writable: bool,
    pub(crate) size: usize,
    pub(crate) bytes: &'a [u8],
    pub(crate) relocations: Relocations<'a>,
}

impl<'a> DataView<'a> {
    /// Of an object that never was in an artifact.
    pub(crate) fn of(object: &'a DataObject) -> DataView<'a> {
        let DataObject { align_log2, writable, size, bytes, relocations } = object;
        let relocations = Relocations::Made(relocations);
        DataView { align_log2: *align_log2, writable: *writable, size: *size as usize, bytes, relocations }
    }
}

/// An artifact in the bytes that it was read from.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) align_log2: u8,
    pub(crate) abi: u64,
    pub(crate) code: &'a [u8],
    pub(crate) unwind: &'a [u8],
    pub(crate) relocations: Relocations<'a>,
    traps: &'a [u8],
    pub(crate) symbols: SmallVec<[Symbol<'a>; 4]>,
    pub(crate) data: Vec<DataView<'a>>,
}

impl<'a> View<'a> {
    /// The artifact that fills `bytes` exactly; `None` if anything about them is not as the format says.
    pub(crate) fn parse(bytes: &'a [u8], architecture: Architecture) -> Option<View<'a>> {
        let mut rest = Reader(bytes);
        let [version, align_log2] = rest.array()?;
        if version != FORMAT_VERSION || align_log2 > ALIGN_LOG2_AT_MOST {
            return None;
        }
        let symbol_count = usize::from(u16::from_le_bytes(rest.array()?));
        let abi = u64::from_le_bytes(rest.array()?);
        let [code, unwind, relocations, traps, data] =
            [rest.length()?, rest.length()?, rest.length()?, rest.length()?, rest.length()?];
        let code = rest.take(code)?;
        let unwind = rest.take(unwind)?;
        let relocations = rest.relocations(relocations, architecture, code.len(), symbol_count)?;
        let traps = rest.take(traps.checked_mul(TRAP_BYTES)?)?;
        let mut symbols = SmallVec::with_capacity(symbol_count.min(rest.0.len()));
        for _ in 0..symbol_count {
            symbols.push(rest.symbol(data)?);
        }
        let mut objects = Vec::with_capacity(data.min(rest.0.len()));
        for _ in 0..data {
            objects.push(rest.object(architecture, symbol_count)?);
        }
        let sound = rest.0.is_empty()
            && !code.is_empty()
            && traps
                .as_chunks::<TRAP_BYTES>()
                .0
                .iter()
                .all(|trap| trap_of(trap).is_some_and(|(at, _)| (at as usize) < code.len()));
        sound.then_some(View { align_log2, abi, code, unwind, relocations, traps, symbols, data: objects })
    }

    /// At how many places the code can trap.
    pub(crate) fn trap_count(&self) -> usize {
        self.traps.len() / TRAP_BYTES
    }

    /// Where the code can trap, and with which of Cranelift's codes.
    pub(crate) fn traps(&self) -> impl Iterator<Item = (u32, NonZeroU8)> + use<'a> {
        self.traps.as_chunks::<TRAP_BYTES>().0.iter().map(|trap| trap_of(trap).expect("parsed before"))
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn relocations(
        &mut self,
        count: usize,
        architecture: Architecture,
        section_bytes: usize,
        symbols: usize,
    ) -> Option<Relocations<'a>> {
        let bytes = self.take(count.checked_mul(RELOCATION_BYTES)?)?;
        Relocations::parse(bytes, architecture, section_bytes, symbols)
    }

    fn symbol(&mut self, own_objects: usize) -> Option<Symbol<'a>> {
        let [what] = self.array()?;
        let abi = u64::from_le_bytes(self.array()?);
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let name = self.take(length)?;
        let text = || std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
        let named = match what {
            0 => Named::Import(text()?),
            1 => Named::Function(text()?),
            2 => Named::Object(text()?),
            3 => Named::LibCall(text()?),
            4 if name.is_empty() => Named::Itself,
            5 => Named::Own(u16::from_le_bytes(name.try_into().ok()?)),
            _ => return None,
        };
        match named {
            Named::Own(number) if usize::from(number) >= own_objects => None,
            named => Some(Symbol { named, abi }),
        }
    }

    fn object(&mut self, architecture: Architecture, symbols: usize) -> Option<DataView<'a>> {
        let [align_log2, writable] = self.array()?;
        let size = usize::try_from(u64::from_le_bytes(self.array()?)).ok()?;
        let (bytes, relocations) = (self.length()?, self.length()?);
        let bytes = self.take(bytes)?;
        let relocations = self.relocations(relocations, architecture, bytes.len(), symbols)?;
        let sound = align_log2 <= ALIGN_LOG2_AT_MOST && writable <= 1 && bytes.len() <= size;
        sound.then_some(DataView { align_log2, writable: writable == 1, size, bytes, relocations })
    }
}

fn write_relocations(relocations: &[Relocation], out: &mut Vec<u8>) {
    for relocation in relocations {
        out.extend(relocation.offset.to_le_bytes());
        out.extend(relocation.symbol.to_le_bytes());
        out.extend([relocation.kind as u8, 0]);
        out.extend(relocation.addend.to_le_bytes());
    }
}

fn relocation(bytes: &[u8; RELOCATION_BYTES], architecture: Architecture) -> Option<Relocation> {
    let [o0, o1, o2, o3, s0, s1, kind, zero, addend @ ..] = *bytes;
    if zero != 0 {
        return None;
    }
    let kind = Kind::decode(kind, architecture)?;
    let offset = u32::from_le_bytes([o0, o1, o2, o3]);
    Some(Relocation { offset, kind, symbol: u16::from_le_bytes([s0, s1]), addend: i64::from_le_bytes(addend) })
}

fn trap_of(bytes: &[u8; TRAP_BYTES]) -> Option<(u32, NonZeroU8)> {
    let [offset @ .., code] = *bytes;
    Some((u32::from_le_bytes(offset), NonZeroU8::new(code)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: Architecture = Architecture::X86_64;

    fn sample() -> Vec<u8> {
        let call = Relocation { offset: 1, kind: Kind::X86Relative4, symbol: 0, addend: -4 };
        let word = Relocation { offset: 8, kind: Kind::Abs8, symbol: 4, addend: 3 };
        let data =
            [DataObject { align_log2: 3, writable: true, size: 32, bytes: vec![1; 16], relocations: vec![word] }];
        let named = [
            Named::Import("rt_add"),
            Named::Function("f"),
            Named::Object("table"),
            Named::LibCall("FloorF64"),
            Named::Own(0),
            Named::Itself,
        ];
        let artifact = Artifact {
            align_log2: 4,
            abi: 9,
            code: &[0x90; 40],
            unwind: vec![1, 2, 3],
            relocations: vec![call],
            traps: vec![(39, NonZeroU8::new(5).unwrap())],
            symbols: named.map(|named| Symbol { named, abi: 7 }).to_vec(),
            data: &data,
        };
        artifact.to_bytes().unwrap()
    }

    #[test]
    fn an_artifact_comes_back() {
        let bytes = sample();
        let view = View::parse(&bytes, X86).unwrap();
        assert_eq!((view.align_log2, view.abi, view.code, view.unwind), (4, 9, &[0x90; 40][..], &[1u8, 2, 3][..]));
        assert_eq!(view.symbols[4], Symbol { named: Named::Own(0), abi: 7 });
        assert_eq!(view.traps().collect::<Vec<_>>(), [(39, NonZeroU8::new(5).unwrap())]);
        let [call] = view.relocations.iter().collect::<Vec<_>>()[..] else { panic!("one relocation") };
        assert_eq!((call.offset, call.kind, call.symbol, call.addend), (1, Kind::X86Relative4, 0, -4));
        let object = &view.data[0];
        assert_eq!((object.size, object.bytes, object.writable), (32, &[1u8; 16][..], true));
        assert_eq!(object.relocations.iter().next().unwrap().addend, 3);
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(View::parse(&bytes[..length], X86).is_none(), "cut at {length}");
        }
        assert!(View::parse(&[&bytes[..], &[0]].concat(), X86).is_none());
    }

    /// No checksum stands before this one: whatever a byte becomes, what is accepted is inside its bounds.
    #[test]
    fn whatever_a_byte_becomes_the_accepted_is_in_bounds() {
        let bytes = sample();
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                let Some(view) = View::parse(&changed, X86) else { continue };
                let all = view.relocations.iter().map(|relocation| (relocation, view.code.len()));
                let data = view
                    .data
                    .iter()
                    .flat_map(|object| object.relocations.iter().map(|relocation| (relocation, object.bytes.len())));
                for (relocation, length) in all.chain(data) {
                    assert!(relocation.offset as usize + relocation.kind.width() <= length);
                    assert!(usize::from(relocation.symbol) < view.symbols.len());
                }
                assert!(view.traps().all(|(at, _)| (at as usize) < view.code.len()));
                for symbol in &view.symbols {
                    assert!(!matches!(symbol.named, Named::Own(number) if usize::from(number) >= view.data.len()));
                }
            }
        }
    }

    #[test]
    fn another_architectures_relocations_are_refused() {
        let arm = Architecture::Aarch64(target_lexicon::Aarch64Architecture::Aarch64);
        assert!(View::parse(&sample(), arm).is_none());
    }
}
