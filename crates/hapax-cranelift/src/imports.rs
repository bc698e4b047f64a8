//! The allow-list: the only addresses of the host that compiled code can get. Knows names, signatures and addresses; the
//! addresses are data here and are never called.

#![expect(unsafe_code, reason = "declares the C library's memory functions, to take their addresses")]

use crate::error::Error;
use crate::link::Target;
use crate::memory::Space;
use crate::stubs::FixedStubs;
use cranelift_codegen::ir::{LibCall, Signature};
use hapax::Fingerprint;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use target_lexicon::Architecture;

/// A hash of everything that caller and callee must agree on: types, extensions, purposes, calling convention.
pub(crate) fn abi(signature: &Signature) -> u64 {
    abi_of_text(&signature.to_string())
}

fn abi_of_text(text: &str) -> u64 {
    let fingerprint = Fingerprint::of("hapax-cranelift signature").part("text", text).finish();
    u64::from_le_bytes(*fingerprint.as_bytes().first_chunk().expect("it has 32 bytes"))
}

/// The signatures that this process has seen, for messages: artifacts hold their hashes alone.
#[derive(Default)]
struct Signatures(Mutex<HashMap<u64, String>>);

impl Signatures {
    fn remember(&self, signature: &Signature) -> u64 {
        let text = signature.to_string();
        let abi = abi_of_text(&text);
        self.0.lock().expect("no code panics under this lock").entry(abi).or_insert(text);
        abi
    }

    fn text(&self, abi: u64) -> String {
        let known = self.0.lock().expect("no code panics under this lock").get(&abi).cloned();
        known.unwrap_or_else(|| format!("a signature of stored code, with hash {abi:016x}"))
    }
}

/// What compiled code may refer to outside of itself, while the list is written.
#[derive(Default)]
pub(crate) struct ImportList {
    functions: BTreeMap<Arc<str>, (Signature, u64)>,
    objects: BTreeMap<Arc<str>, u64>,
    lib_calls: BTreeMap<String, u64>,
}

impl ImportList {
    /// With the helpers that Cranelift calls by itself and that any host has.
    pub(crate) fn with_lib_calls() -> ImportList {
        let mut list = ImportList::default();
        for (call, address) in lib_calls() {
            list.lib_call(call, address);
        }
        list
    }

    pub(crate) fn function(&mut self, name: &str, signature: Signature, address: *const u8) {
        self.functions.insert(name.into(), (signature, address.expose_provenance() as u64));
    }

    pub(crate) fn object(&mut self, name: &str, address: *const u8) {
        self.objects.insert(name.into(), address.expose_provenance() as u64);
    }

    pub(crate) fn lib_call(&mut self, call: LibCall, address: *const u8) {
        self.lib_calls.insert(call.to_string(), address.expose_provenance() as u64);
    }

    /// Ends writing, and makes the functions reachable inside the space.
    pub(crate) fn into_imports(self, space: &Arc<Space>, architecture: Architecture) -> Result<Imports, Error> {
        let function_addresses = self.functions.values().map(|(_, address)| *address);
        let targets: Vec<u64> = function_addresses.chain(self.lib_calls.values().copied()).collect();
        let stubs = FixedStubs::new(space, architecture, &targets).map_err(crate::link::no_pages)?;
        let target = |number: usize| Target::At { address: targets[number], near: stubs.address(number) };
        let signatures = Signatures::default();
        let mut functions = BTreeMap::new();
        for (number, (name, (signature, _))) in self.functions.into_iter().enumerate() {
            let abi = signatures.remember(&signature);
            functions.insert(name, Import { signature, abi, target: target(number) });
        }
        let first = functions.len();
        let lib_calls = self.lib_calls.into_keys().enumerate().map(|(number, name)| (name, target(first + number)));
        let lib_calls = lib_calls.collect();
        let objects = self.objects.into_iter().map(|(name, address)| (name, Target::inside(address))).collect();
        Ok(Imports { functions, objects, lib_calls, signatures, stubs: Arc::new(stubs) })
    }
}

/// A function of the host.
pub(crate) struct Import {
    pub(crate) signature: Signature,
    pub(crate) abi: u64,
    pub(crate) target: Target,
}

/// What compiled code may refer to outside of itself.
pub(crate) struct Imports {
    functions: BTreeMap<Arc<str>, Import>,
    objects: BTreeMap<Arc<str>, Target>,
    lib_calls: BTreeMap<String, Target>,
    signatures: Signatures,
    /// Targets lie in it.
    stubs: Arc<FixedStubs>,
}

impl Imports {
    pub(crate) fn function(&self, name: &str) -> Option<&Import> {
        self.functions.get(name)
    }

    /// What code that calls the host needs as long as it may run.
    pub(crate) fn stubs(&self) -> Arc<FixedStubs> {
        self.stubs.clone()
    }

    /// As [`abi`]; messages can print the signature from now on.
    pub(crate) fn abi(&self, signature: &Signature) -> u64 {
        self.signatures.remember(signature)
    }

    /// That `function` uses a symbol with one ABI, and it has the other.
    pub(crate) fn differs(&self, function: &Arc<str>, symbol: &str, used: u64, is: u64) -> Error {
        let (used, is) = (self.signatures.text(used), self.signatures.text(is));
        Error::Signature { function: function.clone(), symbol: symbol.into(), used, is }
    }

    pub(crate) fn object(&self, name: &str) -> Option<Target> {
        self.objects.get(name).copied()
    }

    /// The list's own copy of the name, if it is there.
    pub(crate) fn lib_call_name(&self, name: &str) -> Option<&str> {
        self.lib_calls.get_key_value(name).map(|(name, _)| &**name)
    }

    pub(crate) fn lib_call(&self, name: &str) -> Option<Target> {
        self.lib_calls.get(name).copied()
    }

    /// Names and ABIs of the whole list; the addresses differ from process to process and are no part of it.
    pub(crate) fn digest(&self) -> Fingerprint {
        let mut digest = Fingerprint::of("hapax-cranelift imports");
        for (name, import) in &self.functions {
            digest = digest.part("function", &**name).part("abi", import.abi.to_le_bytes());
        }
        for name in self.objects.keys() {
            digest = digest.part("object", &**name);
        }
        for name in self.lib_calls.keys() {
            digest = digest.part("libcall", name);
        }
        digest.finish()
    }
}

unsafe extern "C" {
    fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8;
    fn memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32;
}

/// A constant function pointer as an address, checked to have the type that Cranelift calls it with.
macro_rules! host {
    ($function:expr, $type:ty) => {{
        const FUNCTION: $type = $function;
        FUNCTION as *const u8
    }};
}

/// A helper as Cranelift calls it.
type One<T> = extern "C" fn(T) -> T;
type Three<T> = extern "C" fn(T, T, T) -> T;

fn lib_calls() -> [(LibCall, *const u8); 14] {
    [
        (LibCall::CeilF32, host!(ceil_f32, One<f32>)),
        (LibCall::CeilF64, host!(ceil_f64, One<f64>)),
        (LibCall::FloorF32, host!(floor_f32, One<f32>)),
        (LibCall::FloorF64, host!(floor_f64, One<f64>)),
        (LibCall::TruncF32, host!(trunc_f32, One<f32>)),
        (LibCall::TruncF64, host!(trunc_f64, One<f64>)),
        (LibCall::NearestF32, host!(nearest_f32, One<f32>)),
        (LibCall::NearestF64, host!(nearest_f64, One<f64>)),
        (LibCall::FmaF32, host!(fma_f32, Three<f32>)),
        (LibCall::FmaF64, host!(fma_f64, Three<f64>)),
        (LibCall::Memcpy, host!(memcpy, unsafe extern "C" fn(*mut u8, *const u8, usize) -> *mut u8)),
        (LibCall::Memmove, host!(memmove, unsafe extern "C" fn(*mut u8, *const u8, usize) -> *mut u8)),
        (LibCall::Memset, host!(memset, unsafe extern "C" fn(*mut u8, i32, usize) -> *mut u8)),
        (LibCall::Memcmp, host!(memcmp, unsafe extern "C" fn(*const u8, *const u8, usize) -> i32)),
    ]
}

extern "C" fn ceil_f32(x: f32) -> f32 {
    x.ceil()
}
extern "C" fn ceil_f64(x: f64) -> f64 {
    x.ceil()
}
extern "C" fn floor_f32(x: f32) -> f32 {
    x.floor()
}
extern "C" fn floor_f64(x: f64) -> f64 {
    x.floor()
}
extern "C" fn trunc_f32(x: f32) -> f32 {
    x.trunc()
}
extern "C" fn trunc_f64(x: f64) -> f64 {
    x.trunc()
}
extern "C" fn nearest_f32(x: f32) -> f32 {
    x.round_ties_even()
}
extern "C" fn nearest_f64(x: f64) -> f64 {
    x.round_ties_even()
}
extern "C" fn fma_f32(x: f32, y: f32, z: f32) -> f32 {
    x.mul_add(y, z)
}
extern "C" fn fma_f64(x: f64, y: f64, z: f64) -> f64 {
    x.mul_add(y, z)
}
