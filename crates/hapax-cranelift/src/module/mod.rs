//! A `Jit` as a `cranelift_module::Module`: for front ends that exist. Knows no store's format and no instruction.

mod define;
mod link;

use self::define::StoredAs;
use crate::artifact::{Artifact, DataObject, Relocation, View};
use crate::environment::Environment;
use crate::error::Error;
use crate::imports;
use crate::jit::Jit;
use crate::job::meta;
use crate::link::Linked;
use crate::reloc::Kind as PatchKind;
use crate::stubs::FixedStubs;
use crate::unit::Unit;
use cranelift_codegen::Context;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::Signature;
use cranelift_codegen::isa::TargetIsa;
use cranelift_control::ControlPlane;
use cranelift_module::{
    DataDeclaration, DataDescription, DataId, FuncId, FunctionDeclaration, Init, Linkage, Module, ModuleDeclarations,
    ModuleError, ModuleReloc, ModuleRelocTarget, ModuleResult,
};
use hapax::{Fingerprint, Key, Kind, Record};
use std::collections::HashMap;
use std::sync::Arc;

/// What `cranelift_jit::JITModule` is, with code that outlives the process.
///
/// A front end that uses `JITModule` ports in two steps:
///
/// 1. **Swap the type**, and list with [`JitBuilder::import`](crate::JitBuilder::import) what it gave to
///    `JITBuilder::symbol`. [`define_function`](Module::define_function) then looks for the function under a
///    hash of its Cranelift IR, with the names that it refers to. A hit saves code generation.
/// 2. **Ask before building**: [`define_stored`](JitModule::define_stored) defines a function from the front end's own key. A hit
///    saves lowering, too.
///
/// What differs from `JITModule`: symbols are never looked up in the process, only on the allow-list and only with the
/// listed signature; after a hit the `Context` holds no compiled code; errors of loading are
/// [`ModuleError::Backend`] with an [`Error`] inside; thread-local data is an error and no panic.
///
/// As with `JITModule`, pointers stay valid until [`free_memory`](JitModule::free_memory); a module that is just dropped leaves
/// its code where it is for good: the code and the reserved addresses, while the `Jit` with its store and hints ends when its
/// last clone does.
///
/// Of the `Jit`'s tiers a module uses the first, and it tells hints nothing: its functions are compiled once, and are not
/// asked for again.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cranelift_codegen::ir::{AbiParam, InstBuilder, types::I64};
/// use cranelift_codegen::settings::{self, Flags};
/// use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
/// use cranelift_module::{Linkage, Module};
/// use hapax::{CodeStore, MemoryStore};
/// use hapax_cranelift::{Jit, JitModule};
/// use std::sync::Arc;
///
/// /// What a front end does with any `Module`: a function that calls one of the host's.
/// fn compile(module: &mut impl Module) -> Result<cranelift_module::FuncId, Box<dyn std::error::Error>> {
///     let mut context = module.make_context();
///     context.func.signature.params.push(AbiParam::new(I64));
///     context.func.signature.returns.push(AbiParam::new(I64));
///     let double = module.declare_function("double", Linkage::Import, &context.func.signature)?;
///     let mut of_builder = FunctionBuilderContext::new();
///     let mut builder = FunctionBuilder::new(&mut context.func, &mut of_builder);
///     let block = builder.create_block();
///     builder.append_block_params_for_function_params(block);
///     builder.switch_to_block(block);
///     builder.seal_block(block);
///     let double = module.declare_func_in_func(double, builder.func);
///     let argument = builder.block_params(block)[0];
///     let call = builder.ins().call(double, &[argument]);
///     let doubled = builder.inst_results(call)[0];
///     let result = builder.ins().iadd_imm_s(doubled, 1);
///     builder.ins().return_(&[result]);
///     builder.finalize(module.target_config());
///     let id = module.declare_function("odd", Linkage::Export, &context.func.signature)?;
///     module.define_function(id, &mut context)?;
///     Ok(id)
/// }
///
/// extern "C" fn double(number: i64) -> i64 {
///     number * 2
/// }
///
/// let store = Arc::new(CodeStore::over(Arc::new(MemoryStore::new(1 << 20)))); // yours is a directory
/// for process in 1..=2 {
///     let isa = cranelift_native::builder()?.finish(Flags::new(settings::builder()))?;
///     let mut signature = cranelift_codegen::ir::Signature::new(isa.default_call_conv());
///     signature.params.push(AbiParam::new(I64));
///     signature.returns.push(AbiParam::new(I64));
///     let jit = Jit::builder(isa)
///         .build_id("example 1")
///         .store(store.clone())
///         .import("double", signature, double as *const u8) // instead of `JITBuilder::symbol`
///         .build()?;
///     let mut module = JitModule::new(&jit); // instead of `JITModule::new`
///     let odd = compile(&mut module)?;
///     module.finalize_definitions()?;
///     // SAFETY: `odd` was built with this signature, calls what it was declared to call, and the module is not freed.
///     let odd: extern "C" fn(i64) -> i64 = unsafe { std::mem::transmute(module.get_finalized_function(odd)) };
///     assert_eq!(odd(20), 41);
///     assert_eq!((jit.stats().compiles, jit.stats().store_hits), if process == 1 { (1, 0) } else { (0, 1) });
/// }
/// # Ok(())
/// # }
/// ```
pub struct JitModule {
    /// `None` once the memory is freed.
    kept: Option<Kept>,
    jit: Jit,
    declarations: ModuleDeclarations,
    /// How many there are of each, since asking for one too many would panic.
    declared: (u32, u32),
    functions: HashMap<FuncId, Place>,
    objects: HashMap<DataId, Place>,
    pending_functions: Vec<(FuncId, Record)>,
    pending_objects: Vec<(DataId, DataObject, Vec<ModuleRelocTarget>)>,
}

/// What finished code needs. Not the `Jit`: its store and hints end with it, and what hints were told is written then.
struct Kept {
    batches: Vec<Arc<Linked>>,
    /// Through which the code calls the host.
    _stubs: Arc<FixedStubs>,
}

/// Where something that is defined lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// By its number in the batch to come.
    Pending(usize),
    /// By its number in a finished batch.
    Finished { batch: usize, number: usize },
}

impl JitModule {
    /// A module with nothing in it.
    pub fn new(jit: &Jit) -> JitModule {
        JitModule {
            kept: Some(Kept { batches: Vec::new(), _stubs: jit.0.environment.imports.stubs() }),
            jit: jit.clone(),
            declarations: ModuleDeclarations::default(),
            declared: (0, 0),
            functions: HashMap::new(),
            objects: HashMap::new(),
            pending_functions: Vec::new(),
            pending_objects: Vec::new(),
        }
    }

    /// Defines the function from the store, under the key of the front end's unit. False if the store does not have it: then build
    /// it, and give it to [`define_function_as`](JitModule::define_function_as).
    ///
    /// Everything that the function refers to must have been declared before; a function that refers to something else, or
    /// has another signature than `id` was declared with, is not found.
    ///
    /// # Names
    ///
    /// An artifact refers to functions and data by their names, and the unit's key does not say what those mean. So a name
    /// has to mean the same in every process: name a literal by its contents, such as their hash. **A name that is made by
    /// counting** (`str17`) is another function's literal as soon as one is added before it, and nothing here can see that.
    /// Of anonymous functions and data it can be seen: functions that refer to them are compiled in each process.
    ///
    /// # Errors
    ///
    /// As [`Module::define_function`], for functions that cannot be defined or already are.
    pub fn define_stored<U: Unit>(&mut self, id: FuncId, unit: &U) -> ModuleResult<bool> {
        self.check_definable(id)?;
        if !self.jit.is_enabled() {
            return Ok(false);
        }
        let fingerprint = self.unit_fingerprint(unit);
        let Ok(record) = self.jit.0.store.get(&Key::new(Kind::CODE, fingerprint)) else { return Ok(false) };
        let abi = imports::abi(&self.declarations.get_function_decl(id).signature);
        if !self.fits(&record, abi, StoredAs::Unit(fingerprint)) {
            self.jit.0.counters.unusable();
            return Ok(false);
        }
        self.jit.0.counters.store_hits(1, record.meta().compile_ns);
        self.add(id, record);
        Ok(true)
    }

    /// As [`Module::define_function`], and stores the code under the key of the front end's unit: not if it refers to
    /// anonymous functions or data, whose names mean something else in the next process
    /// ([`define_stored`](JitModule::define_stored) says more of names). Then it counts as
    /// [unkept](crate::JitStats::unkept).
    ///
    /// # Errors
    ///
    /// As [`Module::define_function`], and [`ModuleError::IncompatibleSignature`] if the function has another signature than
    /// was declared.
    pub fn define_function_as<U: Unit>(&mut self, id: FuncId, unit: &U, context: &mut Context) -> ModuleResult<()> {
        let declared = self.declarations.get_function_decl(id);
        if imports::abi(&declared.signature) != imports::abi(&context.func.signature) {
            let name = declared.linkage_name(id).into_owned();
            let (declared, given) = (declared.signature.clone(), context.func.signature.clone());
            return Err(ModuleError::IncompatibleSignature(name, declared, given));
        }
        let key = StoredAs::Unit(self.unit_fingerprint(unit));
        self.define(id, key, context, &mut ControlPlane::default())
    }

    /// Links what was defined since the last time, and makes it executable. What is referred to must be defined by now,
    /// or be on the allow-list.
    ///
    /// # Errors
    ///
    /// [`ModuleError::Backend`] with an [`Error`]; then nothing has changed: what was defined waits for the next time. So what
    /// refers to something that is not defined yet is linked once it is; what refers to a symbol that is not on the allow-list
    /// never is, and keeps all that waits with it from being linked: give up the module.
    pub fn finalize_definitions(&mut self) -> ModuleResult<()> {
        if self.pending_functions.is_empty() && self.pending_objects.is_empty() {
            return Ok(());
        }
        let linked = Arc::new(self.link().map_err(backend)?);
        self.jit.table().add_batch(&linked, Vec::new());
        let batches = &mut self.kept.as_mut().expect("only `free_memory` takes it").batches;
        let batch = batches.len();
        batches.push(linked);
        for (number, (id, _)) in self.pending_functions.drain(..).enumerate() {
            self.functions.insert(id, Place::Finished { batch, number });
        }
        for (number, (id, ..)) in self.pending_objects.drain(..).enumerate() {
            self.objects.insert(id, Place::Finished { batch, number });
        }
        Ok(())
    }

    /// The first instruction of a function.
    ///
    /// # Panics
    ///
    /// If it has not been defined and finalized.
    pub fn get_finalized_function(&self, id: FuncId) -> *const u8 {
        let (linked, number) = self.finished(self.functions.get(&id));
        linked.entry(number)
    }

    /// The first byte of a data object, and its length.
    ///
    /// # Panics
    ///
    /// If it has not been defined and finalized.
    pub fn get_finalized_data(&self, id: DataId) -> (*const u8, usize) {
        let (linked, number) = self.finished(self.objects.get(&id));
        let object = &linked.objects()[number];
        (linked.object(number), (object.end - object.start) as usize)
    }

    /// The `Jit` that it compiles with.
    pub fn jit(&self) -> &Jit {
        &self.jit
    }

    /// Frees the memory of all functions and data.
    ///
    /// # Safety
    ///
    /// No function of the module is running or will be called, and nothing reads or writes its data any more.
    #[expect(unsafe_code, reason = "declares what only its caller can know")]
    pub unsafe fn free_memory(mut self) {
        drop(self.kept.take());
    }

    fn finished(&self, place: Option<&Place>) -> (&Linked, usize) {
        let Some(Place::Finished { batch, number }) = place else {
            panic!("it is defined and finalized before it is asked for")
        };
        let kept = self.kept.as_ref().expect("only `free_memory` takes it");
        (&*kept.batches[*batch], *number)
    }

    fn environment(&self) -> &Environment {
        &self.jit.0.environment
    }

    fn known_function(&self, id: FuncId) -> Option<&FunctionDeclaration> {
        (id.as_u32() < self.declared.0).then(|| self.declarations.get_function_decl(id))
    }

    fn known_object(&self, id: DataId) -> Option<&DataDeclaration> {
        (id.as_u32() < self.declared.1).then(|| self.declarations.get_data_decl(id))
    }

    fn with_function(&mut self, id: FuncId) -> FuncId {
        self.declared.0 = self.declared.0.max(id.as_u32() + 1);
        id
    }

    fn with_object(&mut self, id: DataId) -> DataId {
        self.declared.1 = self.declared.1.max(id.as_u32() + 1);
        id
    }

    fn unit_fingerprint<U: Unit>(&self, unit: &U) -> Fingerprint {
        let environment = self.environment();
        environment.tiers[0].fingerprint(&unit.key(environment.unit_digest()).finish())
    }

    fn check_definable(&self, id: FuncId) -> ModuleResult<()> {
        let declared = self.declarations.get_function_decl(id);
        let name = || declared.linkage_name(id).into_owned();
        match declared.linkage.is_definable() {
            false => Err(ModuleError::InvalidImportDefinition(name())),
            true if self.functions.contains_key(&id) => Err(ModuleError::DuplicateDefinition(name())),
            true => Ok(()),
        }
    }

    fn add(&mut self, id: FuncId, record: Record) {
        self.functions.insert(id, Place::Pending(self.pending_functions.len()));
        self.pending_functions.push((id, record));
    }
}

impl Drop for JitModule {
    fn drop(&mut self) {
        // Pointers to its functions may be anywhere.
        std::mem::forget(self.kept.take());
    }
}

impl Module for JitModule {
    fn isa(&self) -> &dyn TargetIsa {
        self.jit.isa()
    }

    fn declarations(&self) -> &ModuleDeclarations {
        &self.declarations
    }

    /// As for any module. An import with another signature than the allow-list's is refused at once.
    fn declare_function(&mut self, name: &str, linkage: Linkage, signature: &Signature) -> ModuleResult<FuncId> {
        if let (Linkage::Import, Some(import)) = (linkage, self.environment().imports.function(name))
            && import.abi != imports::abi(signature)
        {
            let listed = import.signature.clone();
            return Err(ModuleError::IncompatibleSignature(name.to_owned(), listed, signature.clone()));
        }
        let (id, _) = self.declarations.declare_function(name, linkage, signature)?;
        Ok(self.with_function(id))
    }

    fn declare_anonymous_function(&mut self, signature: &Signature) -> ModuleResult<FuncId> {
        let id = self.declarations.declare_anonymous_function(signature)?;
        Ok(self.with_function(id))
    }

    fn declare_data(&mut self, name: &str, linkage: Linkage, writable: bool, tls: bool) -> ModuleResult<DataId> {
        refuse_thread_local(name, tls)?;
        let (id, _) = self.declarations.declare_data(name, linkage, writable, tls)?;
        Ok(self.with_object(id))
    }

    fn declare_anonymous_data(&mut self, writable: bool, tls: bool) -> ModuleResult<DataId> {
        refuse_thread_local("anonymous data", tls)?;
        let id = self.declarations.declare_anonymous_data(writable, tls)?;
        Ok(self.with_object(id))
    }

    fn define_function_with_control_plane(
        &mut self,
        id: FuncId,
        context: &mut Context,
        control: &mut ControlPlane,
    ) -> ModuleResult<()> {
        let key = StoredAs::Clif(self.clif_fingerprint(context));
        self.define(id, key, context, control)
    }

    /// As for any module. The bytes are not stored: whoever has them needs no store.
    fn define_function_bytes(
        &mut self,
        id: FuncId,
        alignment: u64,
        bytes: &[u8],
        relocs: &[ModuleReloc],
    ) -> ModuleResult<()> {
        self.check_definable(id)?;
        let name: Arc<str> = self.declarations.get_function_decl(id).linkage_name(id).into();
        let unkept = |reason: String| backend(Error::Unkept { function: name.clone(), reason });
        let names: Result<Vec<_>, Error> = relocs.iter().map(|reloc| self.bytes_name(reloc, &name)).collect();
        let names = names.map_err(backend)?;
        let mut artifact = Artifact {
            align_log2: alignment.max(u64::from(self.isa().function_alignment().minimum)).trailing_zeros() as u8,
            abi: imports::abi(&self.declarations.get_function_decl(id).signature),
            code: bytes,
            ..Artifact::default()
        };
        for (reloc, name) in relocs.iter().zip(&names) {
            let kind = PatchKind::of(reloc.kind);
            let kind = kind.ok_or_else(|| unkept(format!("its relocation {:?} cannot be loaded", reloc.kind)))?;
            let addend = reloc.addend.wrapping_add(name.offset());
            let symbol =
                artifact.position(name.as_symbol()).ok_or_else(|| unkept("it has too many symbols".to_owned()))?;
            artifact.relocations.push(Relocation { offset: reloc.offset, kind, symbol, addend });
        }
        let bytes = artifact.to_bytes().ok_or_else(|| unkept("its names are too long".to_owned()))?;
        if View::parse(&bytes, self.environment().architecture).is_none() {
            return Err(unkept("a relocation lies outside its bytes, or it is aligned to more than a page".to_owned()));
        }
        self.add(id, Record::from_vec(bytes, meta(&name, 0)));
        Ok(())
    }

    fn define_data(&mut self, id: DataId, data: &DataDescription) -> ModuleResult<()> {
        let declared = self.declarations.get_data_decl(id);
        let name = || declared.linkage_name(id).into_owned();
        if !declared.linkage.is_definable() {
            return Err(ModuleError::InvalidImportDefinition(name()));
        }
        if self.objects.contains_key(&id) {
            return Err(ModuleError::DuplicateDefinition(name()));
        }
        let (size, bytes) = match &data.init {
            Init::Uninitialized => (0, Vec::new()),
            // Addresses are written into it, so the bytes must be there.
            Init::Zeros { size } if !data.function_relocs.is_empty() || !data.data_relocs.is_empty() => {
                (*size, vec![0; *size])
            }
            Init::Zeros { size } => (*size, Vec::new()),
            Init::Bytes { contents } => (contents.len(), contents.to_vec()),
        };
        let unkept = |reason: &str| backend(Error::Unkept { function: name().into(), reason: reason.to_owned() });
        let align = data.align.unwrap_or(8);
        if align > 4096 {
            return Err(unkept("it is aligned to more than a page"));
        }
        let mut object = DataObject {
            align_log2: align.trailing_zeros() as u8,
            writable: declared.writable,
            size: size as u64,
            bytes,
            relocations: Vec::new(),
        };
        let mut targets = Vec::new();
        for reloc in data.all_relocs(Reloc::Abs8) {
            let symbol = u16::try_from(targets.len()).map_err(|_| unkept("it holds more than 65,536 addresses"))?;
            if !PatchKind::Abs8.fits(reloc.offset, object.bytes.len()) {
                return Err(unkept("it holds an address outside its bytes"));
            }
            let relocation = Relocation { offset: reloc.offset, kind: PatchKind::Abs8, symbol, addend: reloc.addend };
            object.relocations.push(relocation);
            targets.push(reloc.name);
        }
        self.objects.insert(id, Place::Pending(self.pending_objects.len()));
        self.pending_objects.push((id, object, targets));
        Ok(())
    }
}

fn refuse_thread_local(name: &str, tls: bool) -> ModuleResult<()> {
    if !tls {
        return Ok(());
    }
    let reason = "thread-local data cannot be loaded; pass a pointer to it as an argument".to_owned();
    Err(backend(Error::Unkept { function: name.into(), reason }))
}

fn backend(error: Error) -> ModuleError {
    ModuleError::Backend(anyhow::Error::new(error))
}
