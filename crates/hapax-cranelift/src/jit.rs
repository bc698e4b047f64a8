//! The `Jit`: memory first, then the store, then the compiler. Knows no file format and no instruction.

use crate::arenas::Arenas;
use crate::code::{CodePtr, Location};
use crate::compile::BakedAddresses;
use crate::environment::Environment;
use crate::error::Error;
use crate::job::{Job, NotStored, Wanted};
use crate::load::{Load, Pages, Ready};
use crate::memory::Space;
use crate::stats::{Counters, JitStats};
use crate::table::{Known, Purpose, Table, Ticket};
use crate::tier::{Hints, TierPolicy, UnitUse};
use crate::unit::{Lower, Lowers, Unit};
use cranelift_codegen::isa::TargetIsa;
use hapax::{CodeError, CodeStore, Fingerprint, Key, Kind, Record, Refusal, Source};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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
    pub(crate) space: Arc<Space>,
    pub(crate) store: Arc<CodeStore>,
    pub(crate) baked: BakedAddresses,
    pub(crate) counters: Counters,
    policy: Box<dyn TierPolicy>,
    pub(crate) hints: Option<Arc<dyn Hints>>,
    table: Mutex<Table>,
    pub(crate) arenas: Mutex<Arenas>,
    enabled: AtomicBool,
}

/// Those that live, for a call that ends because nobody is there: it does not say whose code it was.
static ALIVE: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// Enough to share the calls that seal pages, few enough that the first of them does not wait long for the last.
const PUBLISHED_AT_ONCE: usize = 512;

impl Jit {
    pub(crate) fn new(
        environment: Environment,
        space: Arc<Space>,
        store: Arc<CodeStore>,
        baked: BakedAddresses,
        policy: Box<dyn TierPolicy>,
        hints: Option<Arc<dyn Hints>>,
        table: Table,
    ) -> Jit {
        let arenas = Mutex::new(Arenas::new(&space));
        let inner = Arc::new(Inner {
            environment,
            space,
            store,
            baked,
            counters: Counters::default(),
            policy,
            hints,
            table: Mutex::new(table),
            arenas,
            enabled: AtomicBool::new(true),
        });
        let mut alive = ALIVE.lock().unwrap_or_else(PoisonError::into_inner);
        alive.retain(|one| one.strong_count() > 0);
        alive.push(Arc::downgrade(&inner));
        drop(alive);
        Jit(inner)
    }

    /// What [`undefined`](Jit::undefined) says of all that live.
    pub(crate) fn undefined_anywhere() -> Vec<String> {
        let alive = ALIVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut names = Vec::new();
        for inner in alive.iter().filter_map(Weak::upgrade) {
            names.extend(inner.table.lock().unwrap_or_else(PoisonError::into_inner).undefined());
            // The code that called may be in it, and nobody else may keep it any more.
            std::mem::forget(inner);
        }
        names
    }

    /// The unit's code: from memory, else from the store, else compiled. If the unit's name has other code, this replaces
    /// it, and the old code is retired.
    ///
    /// Of requests that run at the same time with different bodies for one name, the one that began last decides what calls
    /// lead to, whichever is done first; so does a [`remove`](Jit::remove) or [`clear`](Jit::clear) that came later. Each
    /// request gets the code that it asked for.
    ///
    /// # Errors
    ///
    /// Whatever `lower` or Cranelift refuses, and [`Error::Unkept`], [`Error::NotListed`], [`Error::Signature`],
    /// [`Error::Full`], [`Error::Memory`]. What was current before still is.
    pub fn compile<U: Unit>(&self, unit: &U, lower: Lower<U>) -> Result<CodePtr, Error> {
        let mut results = self.compile_batch(std::slice::from_ref(unit), lower);
        results.pop().expect("one result for one unit")
    }

    /// As [`compile`](Jit::compile) for each unit, in less time and memory: what is not in memory yet is looked up and read
    /// together, and shares pages, which are made executable together; on Linux 512 KiB or more of them are huge ones, if
    /// the system gives those to who asks. One result for each unit, in their order.
    pub fn compile_batch<U: Unit>(&self, units: &[U], lower: Lower<U>) -> Vec<Result<CodePtr, Error>> {
        let purpose = Purpose::Request(self.ticket());
        self.compile_all(units, lower, purpose)
    }

    /// What tells requests that begin now from those that began before.
    pub(crate) fn ticket(&self) -> Ticket {
        self.table().ticket()
    }

    pub(crate) fn compile_all<U: Unit>(
        &self,
        units: &[U],
        lower: Lower<U>,
        purpose: Purpose,
    ) -> Vec<Result<CodePtr, Error>> {
        let mut pages = Pages::new(units.len());
        let mut results = Vec::with_capacity(units.len());
        for units in units.chunks(PUBLISHED_AT_ONCE) {
            results.extend(self.compile_chunk(units, lower, purpose, &mut pages));
        }
        results
    }

    fn compile_chunk<U: Unit>(
        &self,
        units: &[U],
        lower: Lower<U>,
        purpose: Purpose,
        pages: &mut Pages,
    ) -> Vec<Result<CodePtr, Error>> {
        if Lowers::is_lowering() {
            return units.iter().map(|unit| Err(Error::Nested { function: unit.name().into() })).collect();
        }
        let mut results: Vec<Option<Result<CodePtr, Error>>> = units.iter().map(|_| None).collect();
        let wanted = self.look_in_memory(units, purpose, &mut results);
        pages.passed_by(units.len() - wanted.len());
        let mut load = Load::new(self, units, lower, purpose, pages, &mut results);
        self.get_or_compile(wanted, units, lower, &mut |at, found| load.add(at, found));
        load.finish();
        results.into_iter().map(|result| result.expect("each unit was loaded or refused")).collect()
    }

    /// The current code of the unit with that name, if there is any.
    pub fn current(&self, name: &str) -> Option<CodePtr> {
        let code = self.table().code(name)?;
        Some(CodePtr::new(code, self.0.clone()))
    }

    /// Retires the code of a unit; calls of it abort the process from now on, until it is compiled again. False if it
    /// had none.
    ///
    /// It may be compiled again with another signature. Code that calls it with the one before then goes on leading
    /// nowhere, and [`undefined`](Jit::undefined) names it, until that code is compiled again, too.
    pub fn remove(&self, name: &str) -> bool {
        self.table().remove(name)
    }

    /// Frees what was retired and nothing else keeps; returns how many definitions that were.
    ///
    /// # Safety
    ///
    /// For all retired code that no [`CodePtr`] keeps:
    ///
    /// - No thread is in it, or will return into it: each call of compiled code that began before the code was retired has
    ///   ended. A moment at which no thread is in any compiled code will do, such as between two requests.
    /// - No address that it gave out is used any more: of its [data](crate::Lowering::data), which goes with it, or of
    ///   [itself](crate::Lowering::itself). A string that a function returned a pointer to is such data. Addresses of other
    ///   units are those of their stubs, and stay.
    #[expect(unsafe_code, reason = "declares what only its caller can know")]
    pub unsafe fn free_retired(&self) -> usize {
        // Dropped after the lock: unmapping takes a while.
        let retired = self.table().take_retired();
        retired.len()
    }

    /// Units that code in memory refers to and that are not compiled, or not with the signature that the code calls them
    /// with; and removed ones, until they are freed. Such a call ends the process with a
    /// message that names them all.
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

    /// Removes everything from the store, whoever put it there, and retires the code of all units, as
    /// [`remove`](Jit::remove) does: calls of them abort the process until they are compiled again.
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

    /// Puts what is in memory where it belongs, and gives back the rest.
    fn look_in_memory<U: Unit>(
        &self,
        units: &[U],
        purpose: Purpose,
        results: &mut [Option<Result<CodePtr, Error>>],
    ) -> Vec<Wanted> {
        let inner = &*self.0;
        let digest = |unit: &U| unit.key(inner.environment.unit_digest()).finish();
        let digests: Vec<Fingerprint> = units.iter().map(digest).collect();
        // Before the lock is taken: what is the embedder's may panic.
        let names: Vec<&str> = units.iter().map(Unit::name).collect();
        let known: Vec<Known> = {
            let mut table = self.table();
            names.iter().zip(&digests).map(|(name, digest)| table.request(name, digest, purpose)).collect()
        };
        let mut wanted = Vec::with_capacity(units.len());
        for (at, (known, digest)) in known.into_iter().zip(digests).enumerate() {
            let name = names[at];
            if let Some(other) = known.other {
                results[at] = Some(Ok(CodePtr::new(other, self.0.clone())));
                continue;
            }
            let tier = self.choose_tier(name, &digest, &known);
            match known.current {
                Some((current, code)) if current >= tier => {
                    if purpose.is_request() {
                        inner.counters.memory_hit();
                        self.hint_hit(&digest);
                    }
                    results[at] = Some(Ok(CodePtr::new(code, self.0.clone())));
                }
                _ => wanted.push(Wanted { at, name: name.into(), digest, tier }),
            }
        }
        wanted
    }

    /// From the store, or compiled; each is given with its place among the units as soon as it is there.
    pub(crate) fn get_or_compile<U: Unit>(
        &self,
        wanted: Vec<Wanted>,
        units: &[U],
        lower: Lower<U>,
        each: &mut dyn FnMut(usize, Result<Ready, Error>),
    ) {
        let inner = &*self.0;
        let job = |wanted: Wanted| Job { inner, unit: &units[wanted.at], wanted, lower };
        if !self.is_enabled() {
            return wanted.into_iter().for_each(|wanted| each(wanted.at, self.compile_now(job(wanted))));
        }
        let wanted = self.better_stored(wanted, each);
        let jobs: Vec<Job<'_, U>> = wanted.into_iter().map(job).collect();
        inner.store.get_or_compile_each(&jobs, Job::compile, |number, artifact| {
            let wanted = jobs[number].wanted.clone();
            let at = wanted.at;
            let artifact = match artifact {
                Ok(compiled) => {
                    let stored = compiled.source != Source::Compiled;
                    if !stored {
                        inner.counters.put(compiled.refusal.is_none());
                    }
                    Ok(Ready { wanted, bytes: compiled.record, stored })
                }
                Err(CodeError::Compile(NotStored::Unkept(bytes))) => Ok(Ready { wanted, bytes, stored: false }),
                Err(CodeError::Compile(NotStored::Error(error))) => Err(error),
                Err(other) => Err(Error::Store { function: wanted.name, message: other.to_string() }),
            };
            each(at, artifact);
        });
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

    /// Takes what the store has in tiers above the ones chosen, the best first, and gives back the rest; from a store that verifies
    /// nothing, but gives back which tier to ask it for.
    fn better_stored(&self, mut wanted: Vec<Wanted>, each: &mut dyn FnMut(usize, Result<Ready, Error>)) -> Vec<Wanted> {
        let inner = &*self.0;
        for tier in (1..inner.environment.tiers.len()).rev() {
            let (above, mut rest): (Vec<Wanted>, Vec<Wanted>) = wanted.into_iter().partition(|one| one.tier < tier);
            let key = |one: &Wanted| Key::new(Kind::CODE, inner.environment.tiers[tier].fingerprint(&one.digest));
            let keys: Vec<Key> = above.iter().map(key).collect();
            for (one, artifact) in above.into_iter().zip(inner.store.get_many(&keys)) {
                match artifact {
                    // To be verified it has to be asked for together with how to compile it.
                    Ok(_) if inner.store.is_verifying() => rest.push(Wanted { tier, ..one }),
                    Ok(bytes) => {
                        let ready = Ready { wanted: Wanted { tier, ..one }, bytes, stored: true };
                        each(ready.wanted.at, Ok(ready));
                    }
                    Err(_) => rest.push(one),
                }
            }
            wanted = rest;
        }
        wanted
    }

    /// Compiles without asking the store.
    pub(crate) fn compile_now<U: Unit>(&self, job: Job<'_, U>) -> Result<Ready, Error> {
        let (compiled, compile_ns) = job.run()?;
        let wanted = job.wanted;
        let meta = wanted.meta(compile_ns);
        if compiled.keep && self.is_enabled() {
            self.0.put(self.0.environment.tiers[wanted.tier].fingerprint(&wanted.digest), &meta, &compiled.bytes);
        }
        Ok(Ready { wanted, bytes: Record::from_vec(compiled.bytes, meta), stored: false })
    }

    pub(crate) fn hint_hit(&self, digest: &Fingerprint) {
        if let Some(hints) = &self.0.hints {
            hints.hit(digest);
        }
    }
}
