//! The `Jit`: memory first, then the store, then the compiler. Knows no file format and no instruction.

use crate::artifact::View;
use crate::code::{Code, CodePtr, Location};
use crate::compile::{BakedAddresses, Compiled, Request};
use crate::environment::Environment;
use crate::error::Error;
use crate::imports;
use crate::link::{Batch, Linked};
use crate::stats::{Counters, JitStats};
use crate::table::{Known, Table};
use crate::tier::{Hints, TierPolicy, UnitUse};
use crate::unit::{Lower, Lowering, Lowers, Unit};
use cranelift_codegen::Context;
use cranelift_codegen::isa::TargetIsa;
use cranelift_control::ControlPlane;
use hapax::{CodeError, CodeStore, Fingerprint, Key, Kind, Meta, Record, Refusal, Source};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A just-in-time compiler whose code outlives the process.
///
/// A unit is looked for in memory, then in the store under the fingerprint of its [key](Unit::key) and of everything else
/// that changes the result; only then is it lowered and compiled. Whatever its store does, a `Jit` compiles: faults of
/// the store are misses.
///
/// Clones share everything. All methods may be called from any thread; compiling holds no lock.
///
/// # When is code freed?
///
/// Code is kept while any of these holds, and freed when none does:
///
/// - A [`CodePtr`] to it lives.
/// - It is the current definition of its unit, in a `Jit` of which a clone or any `CodePtr` lives.
/// - It was *retired*, that is replaced by a redefinition, a better tier, [`remove`](Jit::remove) or
///   [`clear`](Jit::clear), and [`free_retired`](Jit::free_retired) has not been called since. Calls of the unit lead to
///   the new code from then on, but a call that began in the old code may still be in it. Nothing here can see that,
///   so freeing is `unsafe`, and the caller vouches for it.
#[derive(Clone)]
pub struct Jit(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) environment: Environment,
    pub(crate) space: Arc<crate::memory::Space>,
    pub(crate) store: Arc<CodeStore>,
    pub(crate) baked: BakedAddresses,
    pub(crate) counters: Counters,
    policy: Box<dyn TierPolicy>,
    hints: Option<Arc<dyn Hints>>,
    table: Mutex<Table>,
    enabled: AtomicBool,
}

/// Enough to fill pages, few enough that what is read is still in the processor's cache when it is copied.
const LINKED_AT_ONCE: usize = 64;

/// Why a unit is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It was asked for, which is a use.
    Request,
    /// It may be. To count that as a use would keep everything hot for good that once was.
    Ahead,
}

/// A unit on its way: where its artifact came from, and what is in it.
struct Ready {
    at: usize,
    name: Arc<str>,
    digest: Fingerprint,
    tier: usize,
    bytes: Record,
    stored: bool,
}

impl Jit {
    pub(crate) fn new(
        environment: Environment,
        space: Arc<crate::memory::Space>,
        store: Arc<CodeStore>,
        baked: BakedAddresses,
        policy: Box<dyn TierPolicy>,
        hints: Option<Arc<dyn Hints>>,
        table: Table,
    ) -> Jit {
        Jit(Arc::new(Inner {
            environment,
            space,
            store,
            baked,
            counters: Counters::default(),
            policy,
            hints,
            table: Mutex::new(table),
            enabled: AtomicBool::new(true),
        }))
    }

    /// The unit's code: from memory, else from the store, else compiled. If the unit's name has other code, this replaces
    /// it, and the old code is retired.
    ///
    /// # Errors
    ///
    /// Whatever `lower` or Cranelift refuses, and [`Error::Unkept`], [`Error::NotListed`], [`Error::Signature`],
    /// [`Error::Full`], [`Error::Memory`]. What was current before still is.
    pub fn compile<U: Unit>(&self, unit: &U, lower: Lower<U>) -> Result<CodePtr, Error> {
        let mut results = self.compile_batch(std::slice::from_ref(unit), lower);
        results.pop().expect("one result for one unit")
    }

    /// As [`compile`](Jit::compile) for each unit, in less time and memory: what is not in memory yet shares pages, which
    /// are made executable together. One result for each unit, in their order.
    pub fn compile_batch<U: Unit>(&self, units: &[U], lower: Lower<U>) -> Vec<Result<CodePtr, Error>> {
        self.compile_all(units, lower, Purpose::Request)
    }

    pub(crate) fn compile_all<U: Unit>(
        &self,
        units: &[U],
        lower: Lower<U>,
        purpose: Purpose,
    ) -> Vec<Result<CodePtr, Error>> {
        units.chunks(LINKED_AT_ONCE).flat_map(|units| self.compile_chunk(units, lower, purpose)).collect()
    }

    fn compile_chunk<U: Unit>(&self, units: &[U], lower: Lower<U>, purpose: Purpose) -> Vec<Result<CodePtr, Error>> {
        let mut results: Vec<Option<Result<CodePtr, Error>>> = Vec::with_capacity(units.len());
        let mut ready = Vec::new();
        for (at, unit) in units.iter().enumerate() {
            results.push(match self.prepare(at, unit, lower, purpose) {
                Ok(Prepared::Loaded(code)) => Some(Ok(CodePtr::new(code, self.0.clone()))),
                Ok(Prepared::Ready(unit)) => {
                    ready.push(unit);
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        for (at, result) in self.load(&ready, units, lower, purpose) {
            results[at] = Some(result);
        }
        results.into_iter().map(|result| result.expect("each unit was loaded or refused")).collect()
    }

    /// The current code of the unit with that name, if there is any.
    pub fn current(&self, name: &str) -> Option<CodePtr> {
        let code = self.table().code(name)?;
        Some(CodePtr::new(code, self.0.clone()))
    }

    /// Retires the code of a unit; calls of it abort the process from now on, until it is compiled again. False if it
    /// had none.
    pub fn remove(&self, name: &str) -> bool {
        self.table().remove(name)
    }

    /// Frees what was retired and nothing else keeps; returns how many definitions that were.
    ///
    /// # Safety
    ///
    /// No thread is in retired code, or will return into it: each call of compiled code that began before the code was
    /// retired has ended, unless a [`CodePtr`] keeps the code that it is in. A moment at which no thread is in any
    /// compiled code will do, such as between two requests.
    #[expect(unsafe_code, reason = "declares what only its caller can know")]
    pub unsafe fn free_retired(&self) -> usize {
        // Dropped after the lock: unmapping takes a while.
        let retired = self.table().take_retired();
        retired.len()
    }

    /// Units that compiled code refers to and that are not compiled. Calling one ends the process with a message.
    pub fn undefined(&self) -> Vec<String> {
        self.table().undefined()
    }

    /// What lies at an address of compiled code: for the handler of a trap's signal, after it has left the signal (this
    /// takes a lock).
    pub fn locate(&self, address: usize) -> Option<Location> {
        self.table().locate(address as u64)
    }

    /// What the first tier compiles for.
    pub fn isa(&self) -> &dyn TargetIsa {
        &*self.0.environment.tiers[0].isa
    }

    /// Whether the store is asked and written. A `Jit` begins enabled.
    pub fn is_enabled(&self) -> bool {
        self.0.enabled.load(Ordering::Relaxed)
    }

    /// Switches the store on or off. What is in memory stays, and is used.
    pub fn set_enabled(&self, enabled: bool) {
        self.0.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Removes everything from the store, and retires the code of all units.
    ///
    /// # Errors
    ///
    /// What the store says; the code in memory is retired all the same.
    pub fn clear(&self) -> Result<(), Refusal> {
        self.table().remove_all();
        self.0.store.clear()
    }

    /// Counts since the `Jit` was built, and bytes now.
    pub fn stats(&self) -> JitStats {
        let mut table = self.table();
        let (code_bytes, page_bytes) = table.bytes();
        let retired = table.retired() as u64;
        drop(table);
        self.0.counters.snapshot(code_bytes, page_bytes, retired)
    }

    /// What hints say that it is worth to have the unit before it is asked for; 0 without hints.
    pub(crate) fn worth<U: Unit>(&self, unit: &U) -> f64 {
        let Some(hints) = &self.0.hints else { return 0.0 };
        hints.worth(&unit.key(self.0.environment.unit_digest()).finish())
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().expect("no code panics under this lock")
    }

    fn prepare<U: Unit>(&self, at: usize, unit: &U, lower: Lower<U>, purpose: Purpose) -> Result<Prepared, Error> {
        let inner = &*self.0;
        if Lowers::is_lowering() {
            return Err(Error::Nested { function: unit.name().into() });
        }
        let digest = unit.key(inner.environment.unit_digest()).finish();
        let known = self.table().request(unit.name(), &digest, purpose == Purpose::Request);
        let tier = self.choose_tier(unit.name(), &digest, &known);
        if let Some((_, code)) = known.current.filter(|(current, _)| *current >= tier) {
            if purpose == Purpose::Request {
                inner.counters.memory_hit();
                self.hint_hit(&digest);
            }
            return Ok(Prepared::Loaded(code));
        }
        let name: Arc<str> = unit.name().into();
        if !self.is_enabled() {
            return self.compile_now(at, name, unit, lower, digest, tier).map(Prepared::Ready);
        }
        if let Some(ready) = self.better_stored(at, &name, digest, tier) {
            return Ok(Prepared::Ready(ready));
        }
        let job = Job { inner, name: &name, unit, lower, digest, tier };
        let ready = |bytes, stored| Ready { at, name: name.clone(), digest, tier, bytes, stored };
        match inner.store.get_or_compile(&job, Job::compile) {
            Ok(found) => {
                let stored = found.source != Source::Compiled;
                if !stored {
                    inner.counters.put(found.refusal.is_none());
                }
                Ok(Prepared::Ready(ready(found.record, stored)))
            }
            Err(CodeError::Compile(NotStored::Unkept(bytes))) => Ok(Prepared::Ready(ready(bytes, false))),
            Err(CodeError::Compile(NotStored::Error(error))) => Err(error),
            Err(other) => Err(Error::Store { function: name.clone(), message: other.to_string() }),
        }
    }

    fn choose_tier(&self, name: &str, digest: &Fingerprint, known: &Known) -> usize {
        let inner = &*self.0;
        let tiers = inner.environment.tiers.len();
        if tiers == 1 {
            return 0;
        }
        let earlier_uses = inner.hints.as_ref().map_or(0, |hints| hints.uses(digest));
        let current = known.current.as_ref().map(|(tier, _)| *tier);
        let unit = UnitUse { name, digest: *digest, requests: known.requests, earlier_uses, current, tiers };
        inner.policy.tier(&unit).min(tiers - 1)
    }

    /// What the store has in tiers above this one, the best first.
    fn better_stored(&self, at: usize, name: &Arc<str>, digest: Fingerprint, tier: usize) -> Option<Ready> {
        let inner = &*self.0;
        for tier in (tier + 1..inner.environment.tiers.len()).rev() {
            let fingerprint = inner.environment.tiers[tier].fingerprint(&digest);
            if let Ok(bytes) = inner.store.get(&Key::new(Kind::CODE, fingerprint)) {
                return Some(Ready { at, name: name.clone(), digest, tier, bytes, stored: true });
            }
        }
        None
    }

    /// Compiles without asking the store.
    fn compile_now<U: Unit>(
        &self,
        at: usize,
        name: Arc<str>,
        unit: &U,
        lower: Lower<U>,
        digest: Fingerprint,
        tier: usize,
    ) -> Result<Ready, Error> {
        let job = Job { inner: &self.0, name: &name, unit, lower, digest, tier };
        let (compiled, compile_ns) = job.run()?;
        let meta = meta(&name, compile_ns);
        if compiled.keep && self.is_enabled() {
            self.0.put(self.0.environment.tiers[tier].fingerprint(&digest), &meta, &compiled.bytes);
        }
        Ok(Ready { at, bytes: Record::from_vec(compiled.bytes, meta), name, digest, tier, stored: false })
    }

    /// Links and publishes all together; if that fails, each alone, so that one cannot spoil the others.
    fn load<U: Unit>(
        &self,
        ready: &[Ready],
        units: &[U],
        lower: Lower<U>,
        purpose: Purpose,
    ) -> Vec<(usize, Result<CodePtr, Error>)> {
        let all: Vec<&Ready> = ready.iter().collect();
        if let Ok(codes) = self.link(&all, purpose) {
            let codes = codes.into_iter().map(|code| Ok(CodePtr::new(code, self.0.clone())));
            return ready.iter().map(|ready| ready.at).zip(codes).collect();
        }
        ready.iter().map(|one| (one.at, self.load_alone(one, &units[one.at], lower, purpose))).collect()
    }

    fn load_alone<U: Unit>(
        &self,
        ready: &Ready,
        unit: &U,
        lower: Lower<U>,
        purpose: Purpose,
    ) -> Result<CodePtr, Error> {
        let code = match self.link(&[ready], purpose) {
            Ok(mut codes) => codes.pop(),
            // What the store gave was no artifact that fits here, whatever its checksum said.
            Err(_) if ready.stored => {
                self.0.counters.unusable();
                let again = self.compile_now(ready.at, ready.name.clone(), unit, lower, ready.digest, ready.tier)?;
                self.link(&[&again], purpose)?.pop()
            }
            Err(error) => return Err(error),
        };
        Ok(CodePtr::new(code.expect("one for one"), self.0.clone()))
    }

    fn link(&self, ready: &[&Ready], purpose: Purpose) -> Result<Vec<Arc<Code>>, Error> {
        let inner = &*self.0;
        let environment = &inner.environment;
        let mut batch = Batch::with_capacity(ready.len());
        let mut abis = Vec::with_capacity(ready.len());
        let mut table = self.table();
        for one in ready {
            let view = View::parse(&one.bytes, environment.architecture).ok_or_else(|| Error::Unkept {
                function: one.name.clone(),
                reason: "its artifact is not of this format".to_owned(),
            })?;
            table.check_abi(&one.name, view.abi)?;
            abis.push(view.abi);
            batch.function(one.name.clone(), view, |symbol| table.resolve(&environment.imports, &one.name, symbol))?;
        }
        drop(table);
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let common_entry = &environment.common_entry;
        let linked: Arc<Linked> = Arc::new(batch.link(&inner.space, common_entry)?);
        let mut table = self.table();
        table.add_batch(&linked);
        let mut codes = Vec::with_capacity(ready.len());
        for (number, (one, abi)) in ready.iter().zip(abis).enumerate() {
            let code = Code { linked: linked.clone(), number };
            codes.push(table.define(&one.name, abi, one.digest, one.tier, code)?);
        }
        drop(table);
        for one in ready.iter().filter(|one| one.stored) {
            inner.counters.store_hit(one.bytes.meta().compile_ns);
            if purpose == Purpose::Request {
                self.hint_hit(&one.digest);
            }
        }
        Ok(codes)
    }

    fn hint_hit(&self, digest: &Fingerprint) {
        if let Some(hints) = &self.0.hints {
            hints.hit(digest);
        }
    }
}

enum Prepared {
    Loaded(Arc<Code>),
    Ready(Ready),
}

/// A unit that is compiled if the store does not have it.
struct Job<'a, U> {
    inner: &'a Inner,
    name: &'a Arc<str>,
    unit: &'a U,
    lower: Lower<U>,
    digest: Fingerprint,
    tier: usize,
}

/// Why a job's result is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStored {
    #[error("{0}")]
    Error(Error),
    #[error("it can run in this process alone")]
    Unkept(Record),
}

impl<U: Unit> hapax::Unit for Job<'_, U> {
    fn fingerprint(&self) -> Fingerprint {
        self.inner.environment.tiers[self.tier].fingerprint(&self.digest)
    }

    fn label(&self) -> String {
        self.name.to_string()
    }
}

impl<U: Unit> Job<'_, U> {
    fn compile(&self) -> Result<Vec<u8>, NotStored> {
        let (compiled, compile_ns) = self.run().map_err(NotStored::Error)?;
        if compiled.keep {
            return Ok(compiled.bytes);
        }
        Err(NotStored::Unkept(Record::from_vec(compiled.bytes, meta(self.name, compile_ns))))
    }

    fn run(&self) -> Result<(Compiled, u64), Error> {
        let begun = Instant::now();
        let compiled = self.inner.lower_and_compile(self.name, self.unit, self.lower, self.tier)?;
        let compile_ns = begun.elapsed().as_nanos() as u64;
        self.inner.counters.compiled(compile_ns, compiled.keep);
        if let Some(hints) = &self.inner.hints {
            hints.compiled(&self.digest, compile_ns, compiled.bytes.len() as u64);
        }
        Ok((compiled, compile_ns))
    }
}

impl Inner {
    /// A store that refuses is slow, not broken: the code is as good as before.
    pub(crate) fn put(&self, fingerprint: Fingerprint, meta: &Meta, bytes: &[u8]) {
        let refused = self.store.put(&Key::new(Kind::CODE, fingerprint), meta, bytes);
        self.counters.put(refused.is_ok());
    }

    fn lower_and_compile<U: Unit>(
        &self,
        name: &Arc<str>,
        unit: &U,
        lower: Lower<U>,
        tier: usize,
    ) -> Result<Compiled, Error> {
        let isa = &*self.environment.tiers[tier].isa;
        let mut context = Context::new();
        context.func.signature.call_conv = isa.default_call_conv();
        let mut lowering = Lowering::new(&self.environment, tier, name.clone());
        let lowered = {
            let _inside = Lowers::begin();
            lower(unit, &mut lowering, &mut context.func)
        };
        lowered.map_err(|error| match error.downcast::<Error>() {
            Ok(own) => *own,
            Err(source) => Error::Lower { function: name.clone(), source: source.into() },
        })?;
        let (symbols, data) = lowering.collected();
        let abi = imports::abi(&context.func.signature);
        let environment = &self.environment;
        let request = Request { environment, tier, name, abi, data, symbols: &symbols, baked: self.baked };
        request.compile(&mut context, &mut ControlPlane::default(), |name| {
            symbols.get(name.index as usize).filter(|_| name.namespace == 0).copied()
        })
    }
}

/// What is stored beside an artifact.
pub(crate) fn meta(name: &str, compile_ns: u64) -> Meta {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Meta { label: name.to_owned(), compile_ns, written_unix_s: now.map_or(0, |now| now.as_secs()) }
}
