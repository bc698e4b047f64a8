//! From Cranelift's function to the bytes of an artifact, on a miss. Knows no store and loads nothing.

use crate::artifact::{Artifact, DataObject, Named, Relocation, Symbol};
use crate::baked;
use crate::environment::Environment;
use crate::error::Error;
use crate::reloc::Kind;
use crate::unwind;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::{ExternalName, Function, LibCall, UserExternalName};
use cranelift_codegen::{CompiledCode, Context, FinalizedRelocTarget};
use cranelift_control::ControlPlane;
use std::sync::Arc;

/// What to do with functions that hold addresses of this process, among their constants or anywhere in their data.
///
/// To find them is a heuristic. A number of 64 bits counts as an address if it points into a mapping of this process that
/// can be accessed. So a number may be refused that happens to point there, in one process and not in another; and an
/// address is not found that code computes, or that is stored in another form than its 8 bytes in a row. It catches the
/// mistake that is made most, a pointer given to `iconst`, and does not stand in for naming what code refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BakedAddresses {
    /// They are an error, which names the function.
    #[default]
    Refuse,
    /// They are compiled and run, and never stored: every process compiles them again.
    RunUnkept,
    /// They are not looked for: for a front end that names all that it refers to, and whose numbers must not be refused for
    /// what they look like. An address that is a constant all the same is stored, and the next process crashes.
    Trust,
}

/// What comes out.
pub(crate) struct Compiled {
    pub(crate) bytes: Vec<u8>,
    /// False if another process could do nothing with it.
    pub(crate) keep: bool,
}

/// A function that is to be compiled, and what its names mean.
pub(crate) struct Request<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) tier: usize,
    pub(crate) name: &'a Arc<str>,
    pub(crate) abi: u64,
    pub(crate) data: &'a [DataObject],
    /// What the relocations of `data` refer to, in their order.
    pub(crate) symbols: &'a [Symbol<'a>],
    pub(crate) baked: BakedAddresses,
}

impl<'a> Request<'a> {
    /// Compiles the function in `context`; `named` says what its user-defined names refer to.
    pub(crate) fn compile(
        &self,
        context: &mut Context,
        control: &mut ControlPlane,
        named: impl Fn(&UserExternalName) -> Option<Symbol<'a>>,
    ) -> Result<Compiled, Error> {
        let keep = self.check_addresses(&context.func)?;
        let isa = &*self.environment.tiers[self.tier].isa;
        if let Err(error) = context.compile(isa, control) {
            let message = cranelift_codegen::print_errors::pretty_error(error.func, error.inner);
            return Err(Error::Codegen { function: self.name.clone(), message });
        }
        let code = context.compiled_code().expect("it has just been compiled");
        self.check_side_tables(code)?;
        let unwind = if isa.flags().unwind_info() { unwind::program(isa, code) } else { Ok(Vec::new()) };
        let unwind = unwind.map_err(|error| Error::Codegen {
            function: self.name.clone(),
            message: format!("unwind information: {error}"),
        })?;
        let align = code.buffer.alignment.max(isa.function_alignment().minimum).max(1);
        let mut artifact = Artifact {
            align_log2: align.next_power_of_two().trailing_zeros() as u8,
            abi: self.abi,
            code: code.code_buffer(),
            unwind,
            traps: code.buffer.traps().iter().map(|trap| (trap.offset, trap.code.as_raw())).collect(),
            symbols: self.symbols.to_vec(),
            data: self.data,
            ..Artifact::default()
        };
        for reloc in code.buffer.relocs() {
            let (symbol, offset) = self.symbol(&reloc.target, &context.func, &named)?;
            let symbol = artifact.position(symbol).ok_or_else(|| self.too_large())?;
            let kind = Kind::of(reloc.kind).ok_or_else(|| self.unkept(unkept_relocation(reloc.kind)))?;
            let addend = reloc.addend.wrapping_add(offset);
            artifact.relocations.push(Relocation { offset: reloc.offset, kind, symbol, addend });
        }
        let bytes = artifact.to_bytes().ok_or_else(|| self.too_large())?;
        Ok(Compiled { bytes, keep })
    }

    fn symbol(
        &self,
        target: &FinalizedRelocTarget,
        function: &Function,
        named: &impl Fn(&UserExternalName) -> Option<Symbol<'a>>,
    ) -> Result<(Symbol<'a>, i64), Error> {
        let symbol = match target {
            FinalizedRelocTarget::Func(offset) => {
                return Ok((Symbol { named: Named::Itself, abi: 0 }, i64::from(*offset)));
            }
            FinalizedRelocTarget::ExternalName(ExternalName::User(name)) => {
                let name = &function.params.user_named_funcs()[*name];
                named(name).ok_or_else(|| self.not_listed(&name.to_string()))?
            }
            FinalizedRelocTarget::ExternalName(ExternalName::LibCall(call)) => self.lib_call(*call)?,
            FinalizedRelocTarget::ExternalName(other) => {
                return Err(self.unkept(format!("it refers to `{}`, which only a linker knows", other.display(None))));
            }
        };
        Ok((symbol, 0))
    }

    fn lib_call(&self, call: LibCall) -> Result<Symbol<'a>, Error> {
        let name = call.to_string();
        let listed = self.environment.imports.lib_call_name(&name);
        let listed = listed.ok_or_else(|| Error::no_lib_call(self.name, &name))?;
        Ok(Symbol { named: Named::LibCall(listed), abi: 0 })
    }

    /// Whether the function can be kept, as far as its constants go.
    fn check_addresses(&self, function: &Function) -> Result<bool, Error> {
        if self.baked == BakedAddresses::Trust {
            return Ok(true);
        }
        let data = self.data.iter().map(|object| &object.bytes[..]);
        match baked::address_in(function, data) {
            None => Ok(true),
            Some(_) if self.baked == BakedAddresses::RunUnkept => Ok(false),
            Some(address) => Err(self.unkept(format!(
                "its constant {address:#x} is an address of this process; import it by name, or pass it as an argument. \
                 If it is a number, choose `BakedAddresses::RunUnkept` or `Trust`"
            ))),
        }
    }

    /// What Cranelift tells beside the code, and nothing here keeps.
    fn check_side_tables(&self, code: &CompiledCode) -> Result<(), Error> {
        let buffer = &code.buffer;
        let what = if buffer.call_sites().any(|site| !site.exception_handlers.is_empty()) {
            "exception handlers"
        } else if !buffer.user_stack_maps().is_empty() {
            "stack maps"
        } else if buffer.patchable_call_sites().next().is_some() {
            "patchable calls"
        } else {
            return Ok(());
        };
        Err(self.unkept(format!("it has {what}, which artifacts do not hold")))
    }

    fn unkept(&self, reason: String) -> Error {
        Error::Unkept { function: self.name.clone(), reason }
    }

    fn too_large(&self) -> Error {
        self.unkept("it has more symbols, or longer names, than an artifact can hold".to_owned())
    }

    fn not_listed(&self, symbol: &str) -> Error {
        Error::NotListed { function: self.name.clone(), symbol: symbol.into() }
    }
}

fn unkept_relocation(kind: Reloc) -> String {
    match kind {
        Reloc::Abs4 => "it holds an address in 4 bytes".to_owned(),
        other => format!("its relocation {other:?} is not one that can be loaded; thread-local data is such a case"),
    }
}
