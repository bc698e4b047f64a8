//! A batch of artifacts becomes code: laid out in one run of pages, copied, relocated, sealed. All arithmetic is checked
//! and all writes go through slices; knows neither stores nor what symbols mean.

mod layout;

use crate::artifact::{DataView, Named, Relocation, Relocations, Symbol, View};
use crate::error::Error;
use crate::frames::Registered;
use crate::memory::{Fresh, NoPages, Sections};
use crate::reloc::Failed;
use crate::unwind;
use layout::{Layout, ObjectPlace};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::num::NonZeroU8;
use std::ops::Range;
use std::sync::Arc;

/// Functions begin at multiples of this, which is what processors fetch at once.
const FUNCTION_ALIGN: usize = 16;
/// On x86-64 it traps; on aarch64 four of them are an undefined instruction.
const BETWEEN_FUNCTIONS: u8 = if cfg!(target_arch = "x86_64") { 0xcc } else { 0 };

/// Where a symbol is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Known before. `near` leads there and is within reach of every instruction in the space.
    At { address: u64, near: u64 },
    /// A function of this batch, by its number.
    Function(usize),
    /// A data object of this batch, by its number.
    Object(usize),
}

impl Target {
    /// An address inside the space.
    pub(crate) fn inside(address: u64) -> Target {
        Target::At { address, near: address }
    }
}

/// What is to be linked.
pub(crate) struct Batch<'a> {
    functions: Vec<Function<'a>>,
    objects: Vec<Object<'a>>,
    /// Of the symbols of all functions.
    targets: Vec<Target>,
}

struct Function<'a> {
    name: Arc<str>,
    view: View<'a>,
    targets: Range<usize>,
}

struct Object<'a> {
    view: DataView<'a>,
    targets: Targets,
}

/// Whose targets the relocations of an object refer to.
enum Targets {
    Function(usize),
    Own { name: Arc<str>, targets: Vec<Target> },
}

/// Code that is whole and may not run yet.
pub(crate) struct Written {
    fresh: Fresh,
    /// Where the unwind table is, if there is one.
    table: Option<u64>,
    functions: Vec<Placed>,
    objects: Vec<Range<u64>>,
    traps: Vec<(u32, NonZeroU8)>,
}

impl Written {
    /// Makes all of them executable together. On an error nothing is left behind.
    pub(crate) fn seal_all(all: impl IntoIterator<Item = Written>) -> Result<Vec<Linked>, Error> {
        let (mut fresh, mut rest) = (SmallVec::new(), SmallVec::<[_; 1]>::new());
        for written in all {
            fresh.push(written.fresh);
            rest.push((written.table, written.functions, written.objects, written.traps));
        }
        let sealed = Fresh::seal_all(fresh).map_err(no_pages)?;
        let linked = sealed.into_iter().zip(rest).map(|(sealed, (table, functions, objects, traps))| Linked {
            pages: Registered::new(sealed, table),
            functions,
            objects,
            traps,
        });
        Ok(linked.collect())
    }
}

/// Code that may run, and what is known about it.
pub(crate) struct Linked {
    pages: Registered,
    functions: Vec<Placed>,
    objects: Vec<Range<u64>>,
    /// Of all functions, each one's by offset into its code, ascending.
    traps: Vec<(u32, NonZeroU8)>,
}

/// A function in memory.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) name: Arc<str>,
    pub(crate) code: Range<u64>,
    traps: Range<usize>,
}

impl<'a> Batch<'a> {
    pub(crate) fn with_capacity(functions: usize) -> Batch<'a> {
        Batch { functions: Vec::with_capacity(functions), objects: Vec::new(), targets: Vec::new() }
    }

    /// Adds a function and its data; `resolve` is asked for everything else that it refers to. Nothing is added if
    /// that fails. The functions of a batch are numbered in the order in which they are added.
    pub(crate) fn function(
        &mut self,
        name: Arc<str>,
        view: View<'a>,
        mut resolve: impl FnMut(&Symbol<'a>) -> Result<Target, Error>,
    ) -> Result<usize, Error> {
        let number = self.functions.len();
        let first_object = self.objects.len();
        let first_target = self.targets.len();
        for symbol in &view.symbols {
            let target = match symbol.named {
                Named::Itself => Ok(Target::Function(number)),
                Named::Own(object) => Ok(Target::Object(first_object + usize::from(object))),
                _ => resolve(symbol),
            };
            match target {
                Ok(target) => self.targets.push(target),
                Err(error) => {
                    self.targets.truncate(first_target);
                    return Err(error);
                }
            }
        }
        let targets = first_target..self.targets.len();
        for data in &view.data {
            self.objects.push(Object { view: *data, targets: Targets::Function(number) });
        }
        self.functions.push(Function { name, view, targets });
        Ok(number)
    }

    /// Adds a data object of its own; its relocations refer to `targets`.
    pub(crate) fn object(&mut self, name: Arc<str>, view: DataView<'a>, targets: Vec<Target>) -> usize {
        self.objects.push(Object { view, targets: Targets::Own { name, targets } });
        self.objects.len() - 1
    }

    /// As [`write`](Batch::write), and seals.
    pub(crate) fn link(
        self,
        take: impl FnOnce(Sections) -> Result<Fresh, NoPages>,
        common_entry: &[u8],
    ) -> Result<Linked, Error> {
        let mut linked = Written::seal_all([self.write(take, common_entry)?])?;
        Ok(linked.pop().expect("one for one"))
    }

    /// Lays out, copies and relocates, in pages that `take` gives: they cannot be executed yet, and need the artifacts no
    /// more. On an error nothing is left behind.
    pub(crate) fn write(
        self,
        take: impl FnOnce(Sections) -> Result<Fresh, NoPages>,
        common_entry: &[u8],
    ) -> Result<Written, Error> {
        let layout = Layout::of(&self, common_entry).ok_or(Error::Full { need_bytes: usize::MAX, largest_bytes: 0 })?;
        let mut fresh = take(layout.sections).map_err(no_pages)?;
        let places = Places::of(&layout, &fresh);
        self.copy(&layout, &mut fresh);
        self.relocate(&layout, &places, &mut fresh)?;
        let table = (!layout.table.is_empty()).then_some(places.read_only + layout.table.start as u64);
        if table.is_some() {
            let [_, read_only, _] = fresh.parts_mut();
            let functions = self.functions.iter().zip(&layout.functions);
            let entries =
                functions.map(|(function, code)| (places.text + code.start as u64, code.len(), function.view.unwind));
            unwind::write_table(&mut read_only[layout.table.clone()], common_entry, entries);
        }
        let mut traps = Vec::with_capacity(self.functions.iter().map(|function| function.view.trap_count()).sum());
        let functions = self.functions.into_iter().zip(&layout.functions).map(|(function, code)| {
            let first = traps.len();
            traps.extend(function.view.traps());
            traps[first..].sort_unstable();
            Placed { name: function.name, code: places.text_range(code), traps: first..traps.len() }
        });
        let functions = functions.collect();
        let objects = layout.objects.iter().map(|object| places.object(object)).collect();
        Ok(Written { fresh, table, functions, objects, traps })
    }

    fn copy(&self, layout: &Layout, fresh: &mut Fresh) {
        let [text, read_only, writable] = fresh.parts_mut();
        let mut end = 0;
        for (function, code) in self.functions.iter().zip(&layout.functions) {
            text[end..code.start].fill(BETWEEN_FUNCTIONS);
            text[code.clone()].copy_from_slice(function.view.code);
            end = code.end;
        }
        for (object, place) in self.objects.iter().zip(&layout.objects) {
            let part = if place.writable { &mut *writable } else { &mut *read_only };
            part[place.range.start..][..object.view.bytes.len()].copy_from_slice(object.view.bytes);
        }
    }

    fn relocate(&self, layout: &Layout, places: &Places, fresh: &mut Fresh) -> Result<(), Error> {
        let [text, read_only, writable] = fresh.parts_mut();
        let mut slots = Slots { layout, places, by_symbol: HashMap::new() };
        for (number, (function, code)) in self.functions.iter().zip(&layout.functions).enumerate() {
            let section = &mut text[code.clone()];
            let address = places.text + code.start as u64;
            for relocation in function.view.relocations.iter() {
                let target = self.targets[function.targets.start + usize::from(relocation.symbol)];
                let resolved = if relocation.kind.wants_slot() {
                    slots.of(read_only, (number, relocation.symbol), target)
                } else {
                    resolve(places, target, relocation)
                };
                let patched = relocation.kind.patch(section, address, relocation.offset, resolved, relocation.addend);
                patched.map_err(|failed| {
                    let symbol = &function.view.symbols[usize::from(relocation.symbol)];
                    unreachable_target(&function.name, &symbol.named, failed)
                })?;
            }
        }
        for (object, place) in self.objects.iter().zip(&layout.objects) {
            let part = if place.writable { &mut *writable } else { &mut *read_only };
            let section = &mut part[place.range.clone()];
            let (name, targets) = match &object.targets {
                Targets::Function(number) => {
                    let function = &self.functions[*number];
                    (&function.name, &self.targets[function.targets.clone()])
                }
                Targets::Own { name, targets } => (name, &targets[..]),
            };
            for relocation in object.view.relocations.iter() {
                let target = targets[usize::from(relocation.symbol)];
                let resolved = resolve(places, target, relocation);
                let address = places.object(place).start;
                let patched = relocation.kind.patch(section, address, relocation.offset, resolved, relocation.addend);
                patched.map_err(|failed| unreachable_target(name, &Named::Itself, failed))?;
            }
        }
        Ok(())
    }

    fn all_relocations(&self) -> impl Iterator<Item = (usize, Relocations<'a>)> {
        self.functions.iter().map(|function| function.view.relocations).enumerate()
    }
}

impl Linked {
    /// The functions, in the order in which they were added.
    pub(crate) fn functions(&self) -> &[Placed] {
        &self.functions
    }

    /// Where a function can trap: by offset into its code, ascending.
    pub(crate) fn traps(&self, function: &Placed) -> &[(u32, NonZeroU8)] {
        &self.traps[function.traps.clone()]
    }

    /// Where the objects are, in the order in which they were added.
    pub(crate) fn objects(&self) -> &[Range<u64>] {
        &self.objects
    }

    /// The first instruction of a function.
    pub(crate) fn entry(&self, number: usize) -> *const u8 {
        self.pages.pages().pointer(self.functions[number].code.start)
    }

    /// The first byte of an object.
    pub(crate) fn object(&self, number: usize) -> *const u8 {
        self.pages.pages().pointer(self.objects[number].start)
    }

    /// The addresses at which code lies.
    pub(crate) fn text(&self) -> Range<u64> {
        let [text, ..] = self.pages.pages().ranges();
        text
    }

    /// Bytes of memory that it takes.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.pages.pages().page_bytes()
    }
}

/// Addresses of the sections.
struct Places {
    text: u64,
    read_only: u64,
    writable: u64,
    functions: Vec<u64>,
    objects: Vec<u64>,
}

impl Places {
    fn of(layout: &Layout, fresh: &Fresh) -> Places {
        let [text, read_only, writable] = fresh.addresses();
        let functions = layout.functions.iter().map(|code| text + code.start as u64).collect();
        let mut places = Places { text, read_only, writable, functions, objects: Vec::new() };
        places.objects = layout.objects.iter().map(|object| places.object(object).start).collect();
        places
    }

    fn text_range(&self, code: &Range<usize>) -> Range<u64> {
        self.text + code.start as u64..self.text + code.end as u64
    }

    fn object(&self, object: &ObjectPlace) -> Range<u64> {
        let section = if object.writable { self.writable } else { self.read_only };
        section + object.range.start as u64..section + object.range.end as u64
    }
}

/// Words that hold the addresses of symbols, for instructions that load them.
struct Slots<'a> {
    layout: &'a Layout,
    places: &'a Places,
    by_symbol: HashMap<(usize, u16), usize>,
}

impl Slots<'_> {
    fn of(&mut self, read_only: &mut [u8], symbol: (usize, u16), target: Target) -> u64 {
        let next = self.by_symbol.len();
        let slot = *self.by_symbol.entry(symbol).or_insert(next);
        let at = self.layout.slots.start + slot * 8;
        read_only[at..at + 8].copy_from_slice(&self.places.address(target).to_le_bytes());
        self.places.read_only + at as u64
    }
}

impl Places {
    fn address(&self, target: Target) -> u64 {
        match target {
            Target::At { address, .. } => address,
            Target::Function(number) => self.functions[number],
            Target::Object(number) => self.objects[number],
        }
    }
}

fn resolve(places: &Places, target: Target, relocation: Relocation) -> u64 {
    match target {
        Target::At { near, .. } if !relocation.kind.reaches_all() => near,
        target => places.address(target),
    }
}

fn unreachable_target(function: &Arc<str>, named: &Named<'_>, failed: Failed) -> Error {
    let symbol = match named {
        Named::Import(name) | Named::Function(name) | Named::Object(name) | Named::LibCall(name) => Arc::from(*name),
        Named::Itself | Named::Own(_) => function.clone(),
    };
    match failed {
        Failed::Reach => Error::Reach { function: function.clone(), symbol },
        Failed::Place | Failed::Instruction => Error::Unkept {
            function: function.clone(),
            reason: format!("its relocation against `{symbol}` is at a place that cannot hold one"),
        },
    }
}

pub(crate) fn no_pages(why: NoPages) -> Error {
    match why {
        NoPages::Full { need_bytes, largest_bytes } => Error::Full { need_bytes, largest_bytes },
        NoPages::System(error) => Error::Memory(Arc::new(error)),
    }
}

/// What Cranelift makes for aarch64, linked here and read back; no aarch64 instruction is executed.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::DataObject;
    use crate::compile::{BakedAddresses, Request};
    use crate::environment::Environment;
    use crate::imports::ImportList;
    use crate::memory::Space;
    use cranelift_codegen::Context;
    use cranelift_codegen::ir::{ExternalName, GlobalValueData, UserExternalName};
    use cranelift_codegen::settings::{self, Configurable, Flags};
    use cranelift_control::ControlPlane;

    const FUNCTION: &str = "function %f(i64) -> i64 {
        gv0 = symbol colocated %near
        gv1 = symbol %far
        fn0 = colocated %callee(i64) -> i64
        fn1 = %callee(i64) -> i64
    block0(v0: i64):
        v1 = symbol_value.i64 gv0
        v2 = symbol_value.i64 gv1
        v3 = load.i64 v1
        v4 = load.i64 v2
        v5 = call fn0(v3)
        v6 = call fn1(v4)
        v7 = iadd v5, v6
        return v7
    }";
    /// Far outside of any space.
    const HOST: u64 = 0x7123_4567_89a0;

    struct Arm {
        linked: Linked,
        text: Vec<u32>,
        space: Arc<Space>,
        stub: u64,
    }

    /// Compiles the function for aarch64 and links it, with its names leading to data of its own and to the host.
    fn linked(is_pic: &str) -> Arm {
        let mut flags = settings::builder();
        flags.set("is_pic", is_pic).unwrap();
        flags.set("unwind_info", "true").unwrap();
        let isa = cranelift_codegen::isa::lookup_by_name("aarch64-unknown-linux-gnu").unwrap();
        let isa = isa.finish(Flags::new(flags)).unwrap();
        let space = Space::reserve(1 << 20).unwrap();
        let imports = ImportList::default().into_imports(&space, isa.triple().architecture).unwrap();
        let environment = Environment::new(vec![isa], imports, b"");

        let mut context = Context::new();
        context.func = cranelift_reader::parse_functions(FUNCTION).unwrap().remove(0);
        let named = [Named::Own(0), Named::Import("callee")].map(|named| Symbol { named, abi: 0 });
        let name = |function: &mut cranelift_codegen::ir::Function, index| {
            let name = UserExternalName { namespace: 0, index };
            ExternalName::user(function.declare_imported_user_function(name))
        };
        let (data, callee) = (name(&mut context.func, 0), name(&mut context.func, 1));
        for global in context.func.global_values.values_mut() {
            if let GlobalValueData::Symbol { name, .. } = global {
                *name = data.clone();
            }
        }
        for function in context.func.dfg.ext_funcs.values_mut() {
            function.name = callee.clone();
        }
        let own = [DataObject { align_log2: 3, size: 8, bytes: vec![7; 8], ..DataObject::default() }];
        let function: Arc<str> = "f".into();
        let request = Request {
            environment: &environment,
            tier: 0,
            name: &function,
            abi: 0,
            data: &own,
            symbols: &named,
            baked: BakedAddresses::Refuse,
        };
        let compiled = request
            .compile(&mut context, &mut ControlPlane::default(), |name| named.get(name.index as usize).copied())
            .unwrap();
        let view = View::parse(&compiled.bytes, environment.architecture).unwrap();
        let words = view.code.len() / 4;
        // A stub's place is taken for the host's function, so that a branch reaches it.
        let fresh = space.take(Sections { text: 16, read_only: 0, writable: 0 }).unwrap();
        let [stub, ..] = fresh.addresses();
        let mut batch = Batch::with_capacity(1);
        batch.function(function, view, |_| Ok(Target::At { address: HOST, near: stub })).unwrap();
        let linked = batch.link(|sections| space.take(sections), &environment.common_entry).unwrap();
        let text = (0..words).map(|word| read(&linked, linked.text().start + word as u64 * 4) as u32).collect();
        Arm { linked, text, space, stub }
    }

    /// The eight bytes at an address of the batch.
    #[expect(unsafe_code, reason = "reads what was linked")]
    fn read(linked: &Linked, address: u64) -> u64 {
        // SAFETY: The callers' addresses lie in the batch, whose pages can be read and are whole.
        unsafe { linked.pages.pages().pointer(address).cast::<u64>().read_unaligned() }
    }

    /// Decodes by itself what the linker encoded: where each `bl` leads, each `adrp` with the `add` or `ldr` that follows
    /// it, and each literal of 8 bytes.
    fn targets(arm: &Arm) -> Vec<(&'static str, u64)> {
        let start = arm.linked.functions()[0].code.start;
        let mut found = Vec::new();
        for (at, word) in arm.text.iter().enumerate() {
            let place = start + at as u64 * 4;
            if word >> 26 == 0b100101 {
                let distance = i64::from((word << 6).cast_signed() >> 6) * 4;
                found.push(("bl", place.wrapping_add_signed(distance)));
            } else if word & 0x9f00_0000 == 0x9000_0000 {
                let immediate = (word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3;
                let pages = i64::from((immediate << 11).cast_signed() >> 11) << 12;
                let page = (place & !0xfff).wrapping_add_signed(pages);
                let next = arm.text[at + 1];
                let low = u64::from(next >> 10 & 0xfff);
                match next & 0xffc0_0000 {
                    0x9100_0000 => found.push(("adrp, add", page + low)),
                    0xf940_0000 => found.push(("adrp, ldr", read(&arm.linked, page + low * 8))),
                    _ => {}
                }
            } else if word & 0xff00_0000 == 0x5800_0000 {
                let distance = i64::from((word << 8).cast_signed() >> 13) * 4;
                found.push(("literal", read(&arm.linked, place.wrapping_add_signed(distance))));
            }
        }
        found
    }

    #[test]
    fn aarch64_code_reaches_its_data_and_the_host() {
        let arm = linked("false");
        let data = arm.linked.objects()[0].start;
        let found = targets(&arm);
        assert!(found.contains(&("bl", arm.stub)), "{found:x?}");
        assert!(found.contains(&("literal", HOST)), "{found:x?}");
        assert!(found.contains(&("literal", data)), "{found:x?}");
        assert!(found.iter().any(|(how, at)| *how != "bl" && *how != "literal" && *at == data), "{found:x?}");
        drop(arm.space);
    }

    #[test]
    fn position_independent_aarch64_code_reaches_them_through_slots() {
        let arm = linked("true");
        let data = arm.linked.objects()[0].start;
        let found = targets(&arm);
        assert!(found.contains(&("adrp, ldr", HOST)), "{found:x?}");
        assert!(found.contains(&("adrp, ldr", data)), "{found:x?}");
        assert!(!found.iter().any(|(how, _)| *how == "literal"), "{found:x?}");
    }
}
