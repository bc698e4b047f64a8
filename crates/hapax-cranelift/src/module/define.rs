//! How a function of a module gets its artifact: from the store under a fingerprint, or from Cranelift.

use super::{JitModule, backend};
use crate::artifact::{Named, Symbol, View};
use crate::compile::{Compiled, Request};
use crate::error::Error;
use crate::imports;
use crate::job::{NotStored, meta};
use cranelift_codegen::Context;
use cranelift_codegen::ir::UserExternalName;
use cranelift_control::ControlPlane;
use cranelift_module::{DataId, FuncId, ModuleReloc, ModuleRelocTarget, ModuleResult};
use hapax::{CodeError, Fingerprint, Record, Source};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

/// A function that is compiled if the store does not have it.
struct Job<'a> {
    module: &'a JitModule,
    name: &'a Arc<str>,
    key: StoredAs,
    abi: u64,
    work: RefCell<(&'a mut Context, &'a mut ControlPlane)>,
}

/// What an artifact is stored under.
#[derive(Debug, Clone, Copy)]
pub(super) enum StoredAs {
    /// A hash of the IR, with the names that it refers to.
    Clif(Fingerprint),
    /// The key of the front end's unit. It does not say which names the IR refers to, so those must mean the same in
    /// another process.
    Unit(Fingerprint),
}

impl StoredAs {
    fn fingerprint(self) -> Fingerprint {
        let (StoredAs::Clif(fingerprint) | StoredAs::Unit(fingerprint)) = self;
        fingerprint
    }
}

/// The name of something, by itself.
pub(super) enum OwnedName {
    Function(String, u64),
    Object(String),
    LibCall(String),
    /// The function itself, and an offset into it.
    Itself(u32),
}

impl OwnedName {
    pub(super) fn as_symbol(&self) -> Symbol<'_> {
        match self {
            OwnedName::Function(name, abi) => Symbol { named: Named::Function(name), abi: *abi },
            OwnedName::Object(name) => Symbol { named: Named::Object(name), abi: 0 },
            OwnedName::LibCall(name) => Symbol { named: Named::LibCall(name), abi: 0 },
            OwnedName::Itself(_) => Symbol { named: Named::Itself, abi: 0 },
        }
    }

    /// What is to be added to the addend.
    pub(super) fn offset(&self) -> i64 {
        if let OwnedName::Itself(offset) = self { i64::from(*offset) } else { 0 }
    }
}

impl hapax::Unit for Job<'_> {
    fn fingerprint(&self) -> Fingerprint {
        self.key.fingerprint()
    }

    fn label(&self) -> String {
        self.name.to_string()
    }
}

impl Job<'_> {
    fn get_or_compile(&self) -> Result<Record, Error> {
        let inner = &*self.module.jit.0;
        let enabled = self.module.jit.is_enabled();
        if enabled {
            match inner.store.get_or_compile(self, Job::compile) {
                Ok(found) if found.source == Source::Compiled => {
                    inner.counters.put(found.refusal.is_none());
                    return Ok(found.record);
                }
                Ok(found) if self.module.fits(&found.record, self.abi, self.key) => {
                    inner.counters.store_hits(1, found.record.meta().compile_ns);
                    return Ok(found.record);
                }
                // What the store gave is no artifact that fits here, whatever its checksum said.
                Ok(_) => inner.counters.unusable(),
                Err(CodeError::Compile(NotStored::Unkept(record))) => return Ok(record),
                Err(CodeError::Compile(NotStored::Error(error))) => return Err(error),
                Err(other) => return Err(Error::Store { function: self.name.clone(), message: other.to_string() }),
            }
        }
        let (compiled, compile_ns) = self.run()?;
        let meta = meta(self.name, compile_ns);
        if enabled && compiled.keep {
            inner.put(self.key.fingerprint(), &meta, &compiled.bytes);
        }
        Ok(Record::from_vec(compiled.bytes, meta))
    }

    fn compile(&self) -> Result<Vec<u8>, NotStored> {
        let (compiled, compile_ns) = self.run().map_err(NotStored::Error)?;
        if compiled.keep {
            return Ok(compiled.bytes);
        }
        Err(NotStored::Unkept(Record::from_vec(compiled.bytes, meta(self.name, compile_ns))))
    }

    fn run(&self) -> Result<(Compiled, u64), Error> {
        let begun = Instant::now();
        let mut work = self.work.borrow_mut();
        let (context, control) = &mut *work;
        let names: HashMap<UserExternalName, OwnedName> = context
            .func
            .params
            .user_named_funcs()
            .values()
            .filter_map(|name| Some((name.clone(), self.module.named(name)?)))
            .collect();
        let inner = &*self.module.jit.0;
        let request = Request {
            environment: &inner.environment,
            tier: 0,
            name: self.name,
            abi: self.abi,
            data: &[],
            symbols: &[],
            baked: inner.baked,
        };
        let mut compiled = request.compile(context, control, |name| Some(names.get(name)?.as_symbol()))?;
        // As good as any other here. In the next process its anonymous data may be another function's.
        compiled.keep = compiled.keep
            && View::parse(&compiled.bytes, inner.environment.architecture)
                .is_some_and(|view| self.module.names_last(&view, self.key));
        let compile_ns = begun.elapsed().as_nanos() as u64;
        inner.counters.compiled(compile_ns, compiled.keep);
        Ok((compiled, compile_ns))
    }
}

impl JitModule {
    /// Of the function as Cranelift is given it. Names of other functions and data stand for their numbers, which may
    /// differ from process to process.
    pub(super) fn clif_fingerprint(&self, context: &Context) -> Fingerprint {
        let mut bytes = HashedBytes(Vec::with_capacity(4096));
        context.func.stencil.hash(&mut bytes);
        let environment = self.environment();
        let mut digest = environment.clif_digest().part("stencil", &bytes.0);
        for name in context.func.params.user_named_funcs().values() {
            digest = match self.named(name) {
                Some(OwnedName::Function(name, abi)) => digest.part("function", name).part("abi", abi.to_le_bytes()),
                Some(OwnedName::Object(name)) => digest.part("object", name),
                Some(OwnedName::LibCall(_) | OwnedName::Itself(_)) | None => digest.part("unknown", ""),
            };
        }
        environment.tiers[0].fingerprint(&digest.finish())
    }

    pub(super) fn define(
        &mut self,
        id: FuncId,
        key: StoredAs,
        context: &mut Context,
        control: &mut ControlPlane,
    ) -> ModuleResult<()> {
        self.check_definable(id)?;
        let name: Arc<str> = self.declarations.get_function_decl(id).linkage_name(id).into();
        let abi = imports::abi(&context.func.signature);
        let job = Job { module: self, name: &name, key, abi, work: RefCell::new((context, control)) };
        let record = job.get_or_compile().map_err(backend)?;
        self.add(id, record);
        Ok(())
    }

    /// Whether an artifact is of that ABI, and refers to nothing but what is declared, with the declared ABIs.
    pub(super) fn fits(&self, record: &Record, abi: u64, key: StoredAs) -> bool {
        let Some(view) = View::parse(record, self.environment().architecture) else { return false };
        let known = view.symbols.iter().all(|symbol| match symbol.named {
            Named::Function(name) => self.function_named(name).is_some_and(|id| {
                self.known_function(id).is_some_and(|declared| imports::abi(&declared.signature) == symbol.abi)
            }),
            Named::Object(name) => self.object_named(name).is_some(),
            Named::LibCall(name) => self.environment().imports.lib_call(name).is_some(),
            Named::Itself | Named::Own(_) => true,
            Named::Import(_) => false,
        });
        known && view.abi == abi && self.names_last(&view, key)
    }

    /// Whether the names that an artifact refers to mean the same in the next process, as far as its key says. Those of what
    /// is anonymous are made of the number that it has in this module.
    fn names_last(&self, view: &View<'_>, key: StoredAs) -> bool {
        let last = |symbol: &Symbol<'_>| match symbol.named {
            Named::Function(name) | Named::Object(name) => self.declarations.get_name(name).is_some(),
            _ => true,
        };
        matches!(key, StoredAs::Clif(_)) || view.symbols.iter().all(last)
    }

    /// What Cranelift knows by a number: its name, and how it counts for an artifact.
    fn named(&self, name: &UserExternalName) -> Option<OwnedName> {
        match name.namespace {
            0 => {
                let id = FuncId::from_u32(name.index);
                let declared = self.known_function(id)?;
                let abi = imports::abi(&declared.signature);
                Some(OwnedName::Function(declared.linkage_name(id).into_owned(), abi))
            }
            1 => {
                let id = DataId::from_u32(name.index);
                let declared = self.known_object(id)?;
                Some(OwnedName::Object(declared.linkage_name(id).into_owned()))
            }
            _ => None,
        }
    }

    /// What a relocation of bytes that were made elsewhere refers to.
    pub(super) fn bytes_name(&self, reloc: &ModuleReloc, function: &Arc<str>) -> Result<OwnedName, Error> {
        let unknown = || Error::NotListed { function: function.clone(), symbol: reloc.name.to_string().into() };
        match &reloc.name {
            ModuleRelocTarget::User { namespace, index } => {
                self.named(&UserExternalName { namespace: *namespace, index: *index }).ok_or_else(unknown)
            }
            ModuleRelocTarget::LibCall(call) => Ok(OwnedName::LibCall(call.to_string())),
            ModuleRelocTarget::FunctionOffset(_, offset) => Ok(OwnedName::Itself(*offset)),
            ModuleRelocTarget::KnownSymbol(_) => Err(unknown()),
        }
    }
}

/// Collects what a derived `Hash` writes, for a hash that is stable and long enough.
struct HashedBytes(Vec<u8>);

impl Hasher for HashedBytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("only the bytes are asked for")
    }
}
