//! How a `Jit` is put together.

use crate::compile::BakedAddresses;
use crate::environment::{Environment, check_platform};
use crate::error::Error;
use crate::imports::ImportList;
use crate::jit::Jit;
use crate::memory::Space;
use crate::stubs::Stubs;
use crate::table::Table;
use crate::tier::{Hints, HotAfter, TierPolicy};
use cranelift_codegen::ir::{LibCall, Signature};
use cranelift_codegen::isa::OwnedTargetIsa;
use hapax::{CodeStore, MemoryStore};
use std::sync::Arc;
use target_lexicon::Architecture;

/// Addresses that are reserved unless the embedder says otherwise. A branch on aarch64 reaches 128 MiB either way, one on
/// x86-64 2 GiB.
const CODE_SPACE_BYTES: usize = if cfg!(target_arch = "aarch64") { 128 << 20 } else { 1 << 30 };

/// Builds a [`Jit`].
pub struct JitBuilder {
    isas: Vec<OwnedTargetIsa>,
    build_id: Vec<u8>,
    imports: ImportList,
    store: Option<Arc<CodeStore>>,
    policy: Box<dyn TierPolicy>,
    hints: Option<Arc<dyn Hints>>,
    baked: BakedAddresses,
    code_space_bytes: usize,
}

impl Jit {
    /// Starts building a `Jit` that compiles for that ISA. For a process of its own kind, it comes from
    /// `cranelift_native::builder()`.
    pub fn builder(isa: OwnedTargetIsa) -> JitBuilder {
        JitBuilder {
            isas: vec![isa],
            build_id: Vec::new(),
            imports: ImportList::with_lib_calls(),
            store: None,
            policy: Box::new(HotAfter::default()),
            hints: None,
            baked: BakedAddresses::default(),
            code_space_bytes: CODE_SPACE_BYTES,
        }
    }
}

impl JitBuilder {
    /// What changes whenever the front end translates the same input differently: its version, better the hash of its
    /// build. It is part of every fingerprint. Without one, a new version of the front end would run what the old one made, so a
    /// `Jit` with a [store](JitBuilder::store) is not built without.
    pub fn build_id(mut self, id: impl AsRef<[u8]>) -> JitBuilder {
        self.build_id = id.as_ref().to_vec();
        self
    }

    /// Where artifacts live; asks for a [build id](JitBuilder::build_id). Without one they live in memory, 64 MiB of them, and end with the process.
    pub fn store(mut self, store: Arc<CodeStore>) -> JitBuilder {
        self.store = Some(store);
        self
    }

    /// Puts a function of the host on the allow-list, under a name. Compiled code can refer to nothing of the host that is
    /// not on it, and only with this signature; a change of the signature changes every fingerprint.
    ///
    /// The address must be that of a function with this signature: compiled code will call it.
    pub fn import(mut self, name: &str, signature: Signature, address: *const u8) -> JitBuilder {
        self.imports.function(name, signature, address);
        self
    }

    /// Puts a data object of the host on the allow-list. It must stay where it is as long as code lives.
    pub fn import_data(mut self, name: &str, address: *const u8) -> JitBuilder {
        self.imports.object(name, address);
        self
    }

    /// Gives a helper that Cranelift calls by itself. Those for rounding, fused multiplication and `memcpy`, `memmove`,
    /// `memset`, `memcmp` are given already.
    pub fn lib_call(mut self, call: LibCall, address: *const u8) -> JitBuilder {
        self.imports.lib_call(call, address);
        self
    }

    /// Adds a code generator that makes better code than those before it, for units that the
    /// [policy](JitBuilder::tier_policy) finds worth it.
    pub fn tier(mut self, isa: OwnedTargetIsa) -> JitBuilder {
        self.isas.push(isa);
        self
    }

    /// Which units get which tier; [`HotAfter::default`] without this.
    pub fn tier_policy(mut self, policy: impl TierPolicy + 'static) -> JitBuilder {
        self.policy = Box::new(policy);
        self
    }

    /// What earlier processes knew about the units, and what they are told of this one's.
    ///
    /// A [`HintStore`](hapax::HintStore) writes what it was told every ten seconds of use and when its last clone goes, of which the
    /// `Jit` has one. A `Jit` in a `static` never goes, and `std::process::exit` drops nothing: keep a clone of the hints
    /// and [flush](hapax::HintStore::flush) it before such a process ends; so, too, [`CodeStore::gc`].
    pub fn hints(mut self, hints: Arc<dyn Hints>) -> JitBuilder {
        self.hints = Some(hints);
        self
    }

    /// What to do with functions that hold addresses of this process; they are refused without this.
    pub fn baked_addresses(mut self, baked: BakedAddresses) -> JitBuilder {
        self.baked = baked;
        self
    }

    /// How many bytes of addresses to reserve for code and its data: 1 GiB, on aarch64 128 MiB, without this. Memory is
    /// taken as it is used. More than these makes some targets too far away.
    pub fn code_space_bytes(mut self, bytes: usize) -> JitBuilder {
        self.code_space_bytes = bytes;
        self
    }

    /// The `Jit`.
    ///
    /// # Errors
    ///
    /// [`Error::Platform`] if code for the ISA cannot run in this process or the tiers are for different targets;
    /// [`Error::NoBuildId`] if there is a store and no build id, or an empty one; [`Error::Memory`] if the addresses cannot be reserved.
    pub fn build(self) -> Result<Jit, Error> {
        if self.store.is_some() && self.build_id.is_empty() {
            return Err(Error::NoBuildId);
        }
        for isa in &self.isas {
            check_platform(&**isa)?;
            if isa.triple() != self.isas[0].triple() {
                let why = "all tiers must be for the same target";
                return Err(Error::Platform { triple: isa.triple().to_string(), why });
            }
        }
        let architecture: Architecture = self.isas[0].triple().architecture;
        let space = Space::reserve(self.code_space_bytes).map_err(|error| Error::Memory(Arc::new(error)))?;
        let imports = self.imports.into_imports(&space, architecture)?;
        let nowhere = calls_nothing as extern "C" fn() as *const u8;
        let table = Table::new(Stubs::new(space.clone(), architecture, nowhere.expose_provenance() as u64));
        let environment = Environment::new(self.isas, imports, &self.build_id);
        let store = self.store.unwrap_or_else(|| Arc::new(CodeStore::over(Arc::new(MemoryStore::new(64 << 20)))));
        Ok(Jit::new(environment, space, store, self.baked, self.policy, self.hints, table))
    }
}

/// More are not named to who called one of them.
const NAMED_AT_MOST: usize = 8;

/// Where calls of units without code lead. Which of them was called is not known here.
extern "C" fn calls_nothing() {
    let mut names = Jit::undefined_anywhere();
    let more = names.len().saturating_sub(NAMED_AT_MOST);
    names.truncate(NAMED_AT_MOST);
    eprintln!(
        "compiled code called a unit that is not compiled, or not with the signature of the call; such units are {names:?}{}; \
         ask `Jit::undefined` before a call",
        if more > 0 { format!(" and {more} more") } else { String::new() },
    );
    std::process::abort();
}
