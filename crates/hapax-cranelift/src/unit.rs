//! What a front end gives: a unit with its key, and the function that lowers it on a miss. Knows no store and no memory.

use crate::artifact::{DataObject, Named, Relocation, Symbol};
use crate::environment::Environment;
use crate::error::Error;
use crate::reloc::Kind;
use cranelift_codegen::ir::immediates::Imm64;
use cranelift_codegen::ir::{
    ExtFuncData, ExternalName, FuncRef, Function, GlobalValue, GlobalValueData, Signature, UserExternalName,
};
use cranelift_codegen::isa::TargetIsa;
use hapax::FingerprintBuilder;
use std::cell::Cell;
use std::sync::Arc;

/// Something that becomes one function: a front end's own representation of it, with whatever context it needs.
///
/// ```
/// use hapax::FingerprintBuilder;
/// use hapax_cranelift::Unit;
///
/// struct Method<'a> {
///     name: &'a str,
///     bytecode: &'a [u8],
///     /// Shared by all methods of a class; lowering looks offsets up in it.
///     layout: &'a [u32],
/// }
///
/// impl Unit for Method<'_> {
///     fn name(&self) -> &str {
///         self.name
///     }
///
///     fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
///         let layout: Vec<u8> = self.layout.iter().flat_map(|offset| offset.to_le_bytes()).collect();
///         key.part("bytecode", self.bytecode).part("layout", layout)
///     }
/// }
/// ```
pub trait Unit {
    /// What other units call it by. It is no part of the key: the same body under another name is the same code.
    fn name(&self) -> &str;

    /// Adds **everything that `lower` reads** of the unit: its body, and every fact about its surroundings that the code
    /// depends on. This is all that a warm start computes, so it should be cheap: bytes that the front end has anyway,
    /// digests of shared tables that were computed once. What is left out can make two different functions share code.
    fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder;
}

impl<U: Unit + ?Sized> Unit for &U {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
        (**self).key(key)
    }
}

/// What `lower` may fail with: any error.
pub type LowerError = Box<dyn std::error::Error + Send + Sync>;

/// Builds a unit's function in Cranelift's representation; called on a miss only.
///
/// It is a plain `fn`, so it captures nothing, and all it is given of the front end is the unit: what it reads is in the
/// unit, and so can be in the unit's [key](Unit::key). Statics that change are the one thing left to keep out of it.
///
/// The function's signature is for `lower` to set; it is the platform's calling convention without parameters before.
pub type Lower<U> = fn(&U, &mut Lowering<'_>, &mut Function) -> Result<(), LowerError>;

/// What a function that is being built can refer to. Every reference is by name, so that it means the same in the next
/// process.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, MemFlagsData, Signature, TrapCode, condcodes::IntCC, types::I64};
/// use cranelift_codegen::settings::{self, Flags};
/// use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
/// use hapax::FingerprintBuilder;
/// use hapax_cranelift::{Data, Jit, LowerError, Lowering, Unit};
///
/// /// Looks its argument up among the numbers, traps if there are not so many, and gives what it finds to `then`.
/// struct Table<'a> {
///     name: &'a str,
///     numbers: &'a [i64],
///     then: Then<'a>,
/// }
///
/// #[derive(Clone, Copy)]
/// enum Then<'a> {
///     Host(&'a str),
///     Unit(&'a str),
/// }
///
/// impl Unit for Table<'_> {
///     fn name(&self) -> &str {
///         self.name
///     }
///
///     fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
///         let (kind, then) = match self.then {
///             Then::Host(name) => ("host", name),
///             Then::Unit(name) => ("unit", name),
///         };
///         let numbers: Vec<u8> = self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
///         key.part("numbers", numbers).part(kind, then)
///     }
/// }
///
/// fn lower(table: &Table, lowering: &mut Lowering, function: &mut Function) -> Result<(), LowerError> {
///     let mut signature = lowering.make_signature();
///     signature.params.push(AbiParam::new(I64));
///     signature.returns.push(AbiParam::new(I64));
///     function.signature = signature.clone();
///     let mut context = FunctionBuilderContext::new();
///     let mut builder = FunctionBuilder::new(function, &mut context);
///     let block = builder.create_block();
///     builder.append_block_params_for_function_params(block);
///     builder.switch_to_block(block);
///     builder.seal_block(block);
///     let index = builder.block_params(block)[0];
///
///     let outside = builder.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, index, table.numbers.len() as i64);
///     builder.ins().trapnz(outside, TrapCode::unwrap_user(1)); // `Jit::locate` tells the code
///
///     let bytes: Vec<u8> = table.numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
///     let numbers = lowering.data(Data::bytes(bytes), builder.func)?;
///     let start = builder.ins().symbol_value(I64, numbers); // the address of the data
///     let offset = builder.ins().ishl_imm_u(index, 3);
///     let at = builder.ins().iadd(start, offset);
///     let number = builder.ins().load(I64, MemFlagsData::trusted(), at, 0);
///
///     let then = match table.then {
///         Then::Host(name) => lowering.import(name, builder.func)?,
///         Then::Unit(name) => lowering.function(name, &signature, builder.func),
///     };
///     let call = builder.ins().call(then, &[number]);
///     let result = builder.inst_results(call)[0];
///     builder.ins().return_(&[result]);
///     builder.finalize(lowering.isa().frontend_config());
///     Ok(())
/// }
///
/// extern "C" fn negate(number: i64) -> i64 {
///     -number
/// }
///
/// let isa = cranelift_native::builder()?.finish(Flags::new(settings::builder()))?;
/// let mut signature = Signature::new(isa.default_call_conv());
/// signature.params.push(AbiParam::new(I64));
/// signature.returns.push(AbiParam::new(I64));
/// let jit = Jit::builder(isa).build_id("example 1").import("negate", signature, negate as *const u8).build()?;
/// let first = jit.compile(&Table { name: "first", numbers: &[2, 1, 0], then: Then::Unit("second") }, lower)?;
/// assert_eq!(jit.undefined(), ["second"]); // to call it now would end the process
/// jit.compile(&Table { name: "second", numbers: &[10, 20, 30], then: Then::Host("negate") }, lower)?;
/// assert!(jit.undefined().is_empty());
/// // SAFETY: `lower` gives every unit this signature, `first` outlives the calls, and what they call is compiled and checks its index.
/// let first = unsafe { first.as_fn::<extern "C" fn(i64) -> i64>() };
/// assert_eq!((first(0), first(2)), (-30, -10));
/// # Ok(())
/// # }
/// ```
pub struct Lowering<'a> {
    environment: &'a Environment,
    tier: usize,
    name: Arc<str>,
    symbols: Vec<OwnedSymbol>,
    data: Vec<DataObject>,
}

#[derive(Debug, Clone, PartialEq)]
enum OwnedSymbol {
    Import { name: Arc<str>, abi: u64 },
    Function { name: Arc<str>, signature: Signature },
    Object { name: Arc<str> },
    Itself,
    Own(u16),
}

/// Data that belongs to a function: constants, tables of functions, or writable state. [`Lowering`] has an example.
#[derive(Debug, Clone, Default)]
pub struct Data {
    object: DataObject,
    addresses: Vec<(u32, Address)>,
}

#[derive(Debug, Clone)]
enum Address {
    Import(Arc<str>),
    Function(Arc<str>, Signature),
}

impl Data {
    /// These bytes, aligned to 8 and read-only.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Data {
        let bytes = bytes.into();
        let object = DataObject { align_log2: 3, size: bytes.len() as u64, bytes, ..DataObject::default() };
        Data { object, addresses: Vec::new() }
    }

    /// Zeros; they take no room in the store.
    pub fn zeroed(size: u64) -> Data {
        Data { object: DataObject { align_log2: 3, size, ..DataObject::default() }, addresses: Vec::new() }
    }

    /// Aligns it to 1, 2, 4, .. or 4096 bytes.
    ///
    /// # Panics
    ///
    /// If `align` is something else.
    pub fn align(mut self, align: u64) -> Data {
        assert!(align.is_power_of_two() && align <= 4096, "alignments are 1, 2, 4, .. 4096");
        self.object.align_log2 = align.trailing_zeros() as u8;
        self
    }

    /// The function may change it. It lives as long as this definition of the unit does, and is lost with it.
    pub fn writable(mut self) -> Data {
        self.object.writable = true;
        self
    }

    /// The 8 bytes at `offset` hold the address of another unit, which stays the same when that is redefined.
    pub fn function_address(mut self, offset: u32, name: &str, signature: &Signature) -> Data {
        self.addresses.push((offset, Address::Function(name.into(), signature.clone())));
        self
    }

    /// The 8 bytes at `offset` hold the address of a function of the host.
    pub fn import_address(mut self, offset: u32, name: &str) -> Data {
        self.addresses.push((offset, Address::Import(name.into())));
        self
    }
}

impl<'a> Lowering<'a> {
    pub(crate) fn new(environment: &'a Environment, tier: usize, name: Arc<str>) -> Lowering<'a> {
        Lowering { environment, tier, name, symbols: Vec::new(), data: Vec::new() }
    }

    /// What the function is compiled for.
    pub fn isa(&self) -> &dyn TargetIsa {
        &*self.environment.tiers[self.tier].isa
    }

    /// A signature of the platform's calling convention, without parameters and returns.
    pub fn make_signature(&self) -> Signature {
        Signature::new(self.isa().default_call_conv())
    }

    /// A function of the host, with the signature that the allow-list gives it.
    ///
    /// # Errors
    ///
    /// [`Error::NotListed`].
    pub fn import(&mut self, name: &str, function: &mut Function) -> Result<FuncRef, Error> {
        let import = self.environment.imports.function(name).ok_or_else(|| self.not_listed(name))?;
        let (abi, signature) = (import.abi, import.signature.clone());
        let symbol = self.symbol(OwnedSymbol::Import { name: name.into(), abi });
        Ok(declare(function, symbol, signature))
    }

    /// Another unit, compiled or not. Calls to it follow its redefinitions, at the price of one jump. Its address is the
    /// same before and after it is compiled and redefined.
    pub fn function(&mut self, name: &str, signature: &Signature, function: &mut Function) -> FuncRef {
        let symbol = self.symbol(OwnedSymbol::Function { name: name.into(), signature: signature.clone() });
        declare(function, symbol, signature.clone())
    }

    /// The function itself, as it is now: a recursion that has begun stays in the definition that it began in. Set the
    /// function's signature first.
    pub fn itself(&mut self, function: &mut Function) -> FuncRef {
        let symbol = self.symbol(OwnedSymbol::Itself);
        let signature = function.signature.clone();
        declare(function, symbol, signature)
    }

    /// A data object of the host.
    ///
    /// # Errors
    ///
    /// [`Error::NotListed`].
    pub fn import_data(&mut self, name: &str, function: &mut Function) -> Result<GlobalValue, Error> {
        if self.environment.imports.object(name).is_none() {
            return Err(self.not_listed(name));
        }
        let symbol = self.symbol(OwnedSymbol::Object { name: name.into() });
        // It may be anywhere in the address space.
        Ok(declare_data(function, symbol, false))
    }

    /// Gives the function data of its own, which lives as long as this definition of the unit does. What keeps its address
    /// longer, such as a string in a heap, has to copy it, or to keep the [`CodePtr`](crate::CodePtr).
    ///
    /// # Errors
    ///
    /// [`Error::NotListed`] for an address of the host's, [`Error::Unkept`] for an address that lies outside the bytes, or
    /// for more than 65,000 objects.
    pub fn data(&mut self, data: Data, function: &mut Function) -> Result<GlobalValue, Error> {
        let Data { mut object, addresses } = data;
        for (offset, address) in addresses {
            let symbol = match address {
                Address::Import(name) => {
                    let import = self.environment.imports.function(&name).ok_or_else(|| self.not_listed(&name))?;
                    OwnedSymbol::Import { name, abi: import.abi }
                }
                Address::Function(name, signature) => OwnedSymbol::Function { name, signature },
            };
            if !Kind::Abs8.fits(offset, object.bytes.len()) {
                return Err(
                    self.unkept(format!("an address at {offset} lies outside its {} bytes", object.bytes.len()))
                );
            }
            let symbol = self.symbol(symbol);
            let symbol = u16::try_from(symbol).map_err(|_| self.unkept("it has too many symbols".to_owned()))?;
            object.relocations.push(Relocation { offset, kind: Kind::Abs8, symbol, addend: 0 });
        }
        let number = u16::try_from(self.data.len()).map_err(|_| self.unkept("it has too much data".to_owned()))?;
        self.data.push(object);
        let symbol = self.symbol(OwnedSymbol::Own(number));
        Ok(declare_data(function, symbol, true))
    }

    /// What `lower` has collected, for the compiler.
    pub(crate) fn collected(&self) -> (Vec<Symbol<'_>>, &[DataObject]) {
        let symbols = self.symbols.iter().map(|symbol| match symbol {
            OwnedSymbol::Import { name, abi } => Symbol { named: Named::Import(name), abi: *abi },
            OwnedSymbol::Function { name, signature } => {
                Symbol { named: Named::Function(name), abi: self.environment.imports.abi(signature) }
            }
            OwnedSymbol::Object { name } => Symbol { named: Named::Object(name), abi: 0 },
            OwnedSymbol::Itself => Symbol { named: Named::Itself, abi: 0 },
            OwnedSymbol::Own(number) => Symbol { named: Named::Own(*number), abi: 0 },
        });
        (symbols.collect(), &self.data)
    }

    fn symbol(&mut self, symbol: OwnedSymbol) -> u32 {
        let found = self.symbols.iter().position(|known| *known == symbol).unwrap_or(self.symbols.len());
        if found == self.symbols.len() {
            self.symbols.push(symbol);
        }
        found as u32
    }

    fn not_listed(&self, symbol: &str) -> Error {
        Error::NotListed { function: self.name.clone(), symbol: symbol.into() }
    }

    fn unkept(&self, reason: String) -> Error {
        Error::Unkept { function: self.name.clone(), reason }
    }
}

/// The name of the symbol at that place in the list.
fn external_name(function: &mut Function, symbol: u32) -> ExternalName {
    ExternalName::user(function.declare_imported_user_function(UserExternalName { namespace: 0, index: symbol }))
}

fn declare(function: &mut Function, symbol: u32, signature: Signature) -> FuncRef {
    let name = external_name(function, symbol);
    let signature = function.import_signature(signature);
    // Colocated: whatever it is, a stub for it is within reach.
    function.import_function(ExtFuncData { name, signature, colocated: true, patchable: false })
}

fn declare_data(function: &mut Function, symbol: u32, colocated: bool) -> GlobalValue {
    let name = external_name(function, symbol);
    function.create_global_value(GlobalValueData::Symbol { name, offset: Imm64::new(0), colocated, tls: false })
}

thread_local! {
    static LOWERING: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as inside `lower`, until it is dropped.
pub(crate) struct Lowers(());

impl Lowers {
    pub(crate) fn begin() -> Lowers {
        LOWERING.set(true);
        Lowers(())
    }

    pub(crate) fn is_lowering() -> bool {
        LOWERING.get()
    }
}

impl Drop for Lowers {
    fn drop(&mut self) {
        LOWERING.set(false);
    }
}
