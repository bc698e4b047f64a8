//! Compiled code that outlives the process: compile once, then get it from a store. Knows stores and no files, no device
//! and no compiler: what compiles is the embedder's function.

pub(crate) mod error;
mod flight;

use crate::code::error::{CodeError, Difference, Missing};
use crate::code::flight::{Flights, Turn};
use crate::observe::{self, event, span};
use crate::persist::envelope::{Key, Kind, Meta};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::directory::DirectoryStore;
use crate::persist::store::directory::options::DirectoryOptions;
use crate::persist::store::directory::root::Distrust;
use crate::persist::store::{Collected, Miss, Record, Refusal, Store, StoreStats, StoredEntry};
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What is compiled at once: a function, a module, a kernel.
pub trait Unit {
    /// Names everything that changes what compiling gives. Two units of one fingerprint share an artifact.
    fn fingerprint(&self) -> Fingerprint;

    /// What kind of artifact compiling gives.
    fn kind(&self) -> Kind {
        Kind::CODE
    }

    /// A name for people.
    fn label(&self) -> String {
        String::new()
    }

    /// The fingerprint under which you record hints of it, if that is another than [`fingerprint`](Unit::fingerprint), such as one
    /// that several artifacts of the unit share. It is written beside the artifact, for the command `hapax`.
    fn hinted_as(&self) -> Option<Fingerprint> {
        None
    }
}

/// Keeps compiled artifacts in a [`Store`], and compiles what is missing, once.
///
/// ```
/// use hapax::{CodeStore, DirectoryOptions, Fingerprint, Source, Unit};
///
/// struct Function {
///     ir: String,
/// }
///
/// impl Unit for Function {
///     fn fingerprint(&self) -> Fingerprint {
///         Fingerprint::of("my-compiler 1.2").part("target", "x86_64").part("ir", &self.ir).finish()
///     }
/// }
///
/// fn compile(function: &Function) -> Result<Vec<u8>, std::fmt::Error> {
///     Ok(function.ir.to_uppercase().into_bytes())
/// }
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let options = DirectoryOptions::new("my-compiler").dir(folder).budget_bytes(256 << 20);
/// let function = Function { ir: "ret 42".to_owned() };
/// let first = CodeStore::open(&options).get_or_compile(&function, compile)?;
/// assert_eq!(first.source, Source::Compiled);
///
/// let again = CodeStore::open(&options).get_or_compile(&function, compile)?; // the next process
/// assert_eq!((&*again, again.source), (&b"RET 42"[..], Source::Stored));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CodeStore {
    store: Arc<dyn Store>,
    mode: CodeMode,
    verify_every: u64,
    flights: Flights,
    off: Option<Distrust>,
    counters: Counters,
}

/// What a [`CodeStore`] does about misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CodeMode {
    /// Compiles them and stores the result.
    #[default]
    ReadWrite,
    /// Compiles them and stores nothing.
    ReadOnly,
    /// Refuses them: where everything was compiled in advance, compiling is a mistake.
    MustHit,
}

#[derive(Default)]
struct Counters {
    compiles: AtomicU64,
    compile_ns: AtomicU64,
    shared: AtomicU64,
    saved_ns: AtomicU64,
    hits_to_verify: AtomicU64,
    verified: AtomicU64,
    differing: AtomicU64,
    evictions_told: AtomicU64,
}

/// A [`CodeStore`]'s figures since it was opened, and those of the store behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CodeStats {
    /// Hits, misses, evictions, bytes and the budget.
    pub store: StoreStats,
    /// Units compiled, also to verify.
    pub compiles: u64,
    /// How long that took.
    pub compile_ns: u64,
    /// Calls that waited for another thread's compilation of the same unit and shared its result.
    pub shared: u64,
    /// How long compiling what was found took whoever compiled it.
    pub saved_ns: u64,
    /// Hits that were compiled again and compared.
    pub verified: u64,
    /// Of those, the ones that came out different.
    pub differing: u64,
}

/// An artifact, and where it came from. It derefs to its bytes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Compiled {
    /// The bytes.
    pub record: Record,
    /// Where they came from.
    pub source: Source,
    /// Why they could not be stored, if they should have been. They are as good as others.
    pub refusal: Option<Refusal>,
}

/// Where an artifact came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// From the store.
    Stored,
    /// It was compiled by this call.
    Compiled,
    /// Another thread compiled it while this call waited.
    Shared,
}

impl CodeStore {
    /// Over a directory. A directory that cannot be trusted or opened gives a store that is off: everything is compiled, and
    /// [`off_reason`](CodeStore::off_reason) says why.
    pub fn open(options: &DirectoryOptions) -> CodeStore {
        let store = DirectoryStore::open(options);
        let off = store.off_reason().cloned();
        CodeStore { off, ..CodeStore::over(Arc::new(store)) }
    }

    /// As [`open`](CodeStore::open), but a store that would be off is an error.
    pub fn open_strict(options: &DirectoryOptions) -> Result<CodeStore, Distrust> {
        Ok(CodeStore::over(Arc::new(DirectoryStore::open_strict(options)?)))
    }

    /// Over any store.
    pub fn over(store: Arc<dyn Store>) -> CodeStore {
        CodeStore {
            store,
            mode: CodeMode::ReadWrite,
            verify_every: 0,
            flights: Flights::default(),
            off: None,
            counters: Counters::default(),
        }
    }

    /// What it does about misses.
    pub fn mode(self, mode: CodeMode) -> CodeStore {
        CodeStore { mode, ..self }
    }

    /// Compiles each `every`th hit again and compares; 0, as at first, none. A difference is [`CodeError::Differs`].
    ///
    /// With 1, tests find what a fingerprint forgets, if compiling the same thing twice gives the same bytes:
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use hapax::{CodeError, CodeStore, Fingerprint, MemoryStore, Unit};
    /// use std::{convert::Infallible, sync::Arc};
    ///
    /// struct Function {
    ///     ir: &'static str,
    ///     opt_level: u8,
    /// }
    ///
    /// impl Unit for Function {
    ///     fn fingerprint(&self) -> Fingerprint {
    ///         Fingerprint::of("my-compiler 1.2").part("ir", self.ir).finish() // and the level?
    ///     }
    /// }
    ///
    /// fn compile(function: &Function) -> Result<Vec<u8>, Infallible> {
    ///     Ok(format!("{} -O{}", function.ir, function.opt_level).into_bytes())
    /// }
    ///
    /// let store = CodeStore::over(Arc::new(MemoryStore::new(1 << 20))).verify_every(1);
    /// store.get_or_compile(&Function { ir: "ret 42", opt_level: 0 }, compile)?;
    /// let forgotten = store.get_or_compile(&Function { ir: "ret 42", opt_level: 2 }, compile).unwrap_err();
    /// assert!(matches!(forgotten, CodeError::Differs(_)), "{forgotten}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn verify_every(self, every: u64) -> CodeStore {
        CodeStore { verify_every: every, ..self }
    }

    /// Whether it verifies hits: those of [`get`](CodeStore::get) it cannot, since it is not told how to compile.
    pub fn is_verifying(&self) -> bool {
        self.verify_every > 0
    }

    /// Why it is off, if it is.
    pub fn off_reason(&self) -> Option<&Distrust> {
        self.off.as_ref()
    }

    /// The artifact, if it is stored.
    pub fn get(&self, key: &Key) -> Result<Record, Miss> {
        let found = self.store.get(key).inspect_err(|miss| tell_miss(key, miss))?;
        observe::count("hapax.code.hits", 1);
        self.counters.saved_ns.fetch_add(found.meta().compile_ns, Ordering::Relaxed);
        Ok(found)
    }

    /// As [`get`](CodeStore::get) of each key, in their order, in less time: see [`Store::get_many`].
    pub fn get_many(&self, keys: &[Key]) -> Vec<Result<Record, Miss>> {
        let mut all = vec![Err(Miss::Absent); keys.len()];
        self.get_each(keys, &mut |at, found| all[at] = found);
        all
    }

    fn get_each(&self, keys: &[Key], each: &mut dyn FnMut(usize, Result<Record, Miss>)) {
        let (mut hits, mut saved_ns) = (0, 0);
        self.store.get_each(keys, &mut |at, found| {
            match &found {
                Ok(found) => (hits, saved_ns) = (hits + 1, found.meta().compile_ns.wrapping_add(saved_ns)),
                Err(miss) => tell_miss(&keys[at], miss),
            }
            each(at, found);
        });
        observe::count("hapax.code.hits", hits);
        self.counters.saved_ns.fetch_add(saved_ns, Ordering::Relaxed);
    }

    /// Stores an artifact that was compiled elsewhere.
    pub fn put(&self, key: &Key, meta: &Meta, artifact: &[u8]) -> Result<(), Refusal> {
        let outcome = self.writing().and_then(|store| store.put(key, meta, artifact));
        self.tell_evictions();
        outcome.inspect_err(|refusal| tell_refusal(key, refusal))
    }

    /// The unit's artifact: from the store, or compiled now and stored.
    ///
    /// `compile` is a plain function, so it sees the unit and nothing else: what it depends on is in the unit, and so
    /// within reach of its fingerprint.
    ///
    /// Threads that ask for the same unit at once wait for one of them to compile it. A thread that is compiling never waits:
    /// what it needs meanwhile it compiles itself, so that no chain of units can deadlock. If compiling fails or panics,
    /// the next of those that wait tries.
    ///
    /// # Errors
    /// [`CodeError::Compile`] with the compiler's error; in their modes [`CodeError::MustHit`] and [`CodeError::Differs`].
    /// That something cannot be stored is no error: see [`Compiled::refusal`].
    pub fn get_or_compile<U: Unit, E>(
        &self,
        unit: &U,
        compile: fn(&U) -> Result<Vec<u8>, E>,
    ) -> Result<Compiled, CodeError<E>> {
        let key = Key::new(unit.kind(), unit.fingerprint());
        let mut landed = self.flights.landed();
        match self.get(&key) {
            Ok(record) => self.verify(unit, key, record, compile),
            Err(miss) => self.compile_missing(unit, key, miss, &mut landed, compile),
        }
    }

    /// As [`get_or_compile`](CodeStore::get_or_compile) for each unit, in their order, in less time: all are looked up first,
    /// and what is stored is [read together](Store::get_many). What is missing is then compiled one after the other.
    pub fn get_or_compile_many<U: Unit, E>(
        &self,
        units: &[U],
        compile: fn(&U) -> Result<Vec<u8>, E>,
    ) -> Vec<Result<Compiled, CodeError<E>>> {
        let mut all: Vec<Option<Result<Compiled, CodeError<E>>>> = units.iter().map(|_| None).collect();
        self.get_or_compile_each(units, compile, |at, compiled| all[at] = Some(compiled));
        all.into_iter().map(|compiled| compiled.expect("each unit is given")).collect()
    }

    /// As [`get_or_compile_many`](CodeStore::get_or_compile_many), and gives each to `each` with its number among the units as
    /// soon as it is there: what is stored in the order in which it [is read](Store::get_each), what is missing when it is
    /// compiled. No lock is held meanwhile.
    pub fn get_or_compile_each<U: Unit, E>(
        &self,
        units: &[U],
        compile: fn(&U) -> Result<Vec<u8>, E>,
        mut each: impl FnMut(usize, Result<Compiled, CodeError<E>>),
    ) {
        let keys: Vec<Key> = units.iter().map(|unit| Key::new(unit.kind(), unit.fingerprint())).collect();
        let mut landed = self.flights.landed();
        let mut missing = Vec::new();
        self.get_each(&keys, &mut |at, found| match found {
            Ok(record) => each(at, self.verify(&units[at], keys[at], record, compile)),
            Err(miss) => missing.push((at, miss)),
        });
        missing.sort_unstable_by_key(|(at, _)| *at);
        let mut missed = HashSet::new();
        for (at, miss) in missing {
            let (unit, key) = (&units[at], keys[at]);
            // A unit that was given before has been compiled meanwhile.
            let found = if missed.insert(key) { Err(miss) } else { self.get(&key) };
            let compiled = match found {
                Ok(record) => self.verify(unit, key, record, compile),
                Err(miss) => self.compile_missing(unit, key, miss, &mut landed, compile),
            };
            each(at, compiled);
        }
    }

    /// What follows a lookup that missed. `landed` flights had before it, those of this call counted in.
    fn compile_missing<U: Unit, E>(
        &self,
        unit: &U,
        key: Key,
        mut miss: Miss,
        landed: &mut u64,
        compile: fn(&U) -> Result<Vec<u8>, E>,
    ) -> Result<Compiled, CodeError<E>> {
        loop {
            if self.mode == CodeMode::MustHit {
                return Err(CodeError::MustHit(Box::new(Missing { key, label: unit.label(), miss })));
            }
            match self.flights.take_turn(&key) {
                Turn::Compile(flight) => {
                    // Another thread may have landed between the lookup and our turn: look again, which is a lookup more.
                    if flight.is_some() && self.flights.landed() != *landed {
                        if let Ok(record) = self.get(&key) {
                            return Ok(Compiled { record, source: Source::Stored, refusal: None });
                        }
                    }
                    let record = self.compile(unit, compile)?;
                    let refusal = self.keep(&key, &record);
                    if let Some(flight) = flight {
                        flight.land(record.clone());
                        *landed += 1;
                    }
                    return Ok(Compiled { record, source: Source::Compiled, refusal });
                }
                Turn::Landed(record) => {
                    self.counters.shared.fetch_add(1, Ordering::Relaxed);
                    return Ok(Compiled { record, source: Source::Shared, refusal: None });
                }
                // Whoever compiled it failed: it is somebody else's turn.
                Turn::Again => {}
            }
            // `landed` stays: it is of the lookup of all units, and others of them may have landed since.
            match self.get(&key) {
                Ok(record) => return self.verify(unit, key, record, compile),
                Err(again) => miss = again,
            }
        }
    }

    /// The unit's artifact, compiled now whatever is stored, and stored in its place: for an artifact whose bytes are intact and
    /// that its reader still can make nothing of.
    ///
    /// # Errors
    /// [`CodeError::Compile`] with the compiler's error; [`CodeError::MustHit`] in that mode, which compiles nothing.
    pub fn recompile<U: Unit, E>(
        &self,
        unit: &U,
        compile: fn(&U) -> Result<Vec<u8>, E>,
    ) -> Result<Compiled, CodeError<E>> {
        let key = Key::new(unit.kind(), unit.fingerprint());
        if self.mode == CodeMode::MustHit {
            let missing = Missing { key, label: unit.label(), miss: Miss::Unreadable };
            return Err(CodeError::MustHit(Box::new(missing)));
        }
        let record = self.compile(unit, compile)?;
        Ok(Compiled { refusal: self.keep(&key, &record), record, source: Source::Compiled })
    }

    /// What is stored, the least recently used first.
    pub fn entries(&self) -> Vec<StoredEntry> {
        self.store.entries()
    }

    /// Makes everything stored so far survive the loss of power.
    pub fn sync(&self) -> Result<(), Refusal> {
        self.store.sync()
    }

    /// Removes every entry, and no file that hapax did not write. [`Refusal::ReadOnly`] in the modes that store nothing.
    pub fn clear(&self) -> Result<(), Refusal> {
        self.writing()?.clear()
    }

    /// Removes what crashes left behind, and brings the bytes under the budget. A process whose store is never dropped, since it is in
    /// a `static` or the process ends by [`exit`](std::process::exit), calls it before its end: else each later process reads
    /// up to a segment of the directory to find what is in it. [`Refusal::ReadOnly`] in the modes that
    /// store nothing.
    pub fn gc(&self) -> Result<Collected, Refusal> {
        self.writing()?;
        let collected = self.store.gc();
        self.tell_evictions();
        collected
    }

    /// Counts since it was opened, and bytes now.
    pub fn stats(&self) -> CodeStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        CodeStats {
            store: self.store.stats(),
            compiles: count(&counters.compiles),
            compile_ns: count(&counters.compile_ns),
            shared: count(&counters.shared),
            saved_ns: count(&counters.saved_ns),
            verified: count(&counters.verified),
            differing: count(&counters.differing),
        }
    }

    fn writing(&self) -> Result<&dyn Store, Refusal> {
        if self.mode == CodeMode::ReadWrite { Ok(&*self.store) } else { Err(Refusal::ReadOnly) }
    }

    /// Stores what was compiled, in the mode that stores.
    fn keep(&self, key: &Key, record: &Record) -> Option<Refusal> {
        if self.mode == CodeMode::ReadWrite { self.put(key, record.meta(), record).err() } else { None }
    }

    fn compile<U: Unit, E>(&self, unit: &U, compile: fn(&U) -> Result<Vec<u8>, E>) -> Result<Record, CodeError<E>> {
        span!(DEBUG, "compile", fingerprint = observe::display(unit.fingerprint()));
        let begun = Instant::now();
        let artifact = compile(unit).map_err(CodeError::Compile)?;
        let compile_ns = begun.elapsed().as_nanos() as u64;
        self.counters.compiles.fetch_add(1, Ordering::Relaxed);
        self.counters.compile_ns.fetch_add(compile_ns, Ordering::Relaxed);
        observe::time("hapax.code.compile_seconds", compile_ns);
        // For people only, so a clock that is wrong is no reason to fail.
        let written_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let meta = Meta { label: unit.label(), compile_ns, written_unix_s, hinted_as: unit.hinted_as() };
        Ok(Record::from_vec(artifact, meta))
    }

    fn verify<U: Unit, E>(
        &self,
        unit: &U,
        key: Key,
        stored: Record,
        compile: fn(&U) -> Result<Vec<u8>, E>,
    ) -> Result<Compiled, CodeError<E>> {
        let due = self.verify_every > 0
            && self.counters.hits_to_verify.fetch_add(1, Ordering::Relaxed) % self.verify_every == 0;
        if due {
            let compiled = self.compile(unit, compile)?;
            self.counters.verified.fetch_add(1, Ordering::Relaxed);
            if *compiled != *stored {
                self.counters.differing.fetch_add(1, Ordering::Relaxed);
                event!(
                    WARN,
                    "stored code differs from what compiling gives",
                    fingerprint = observe::display(key.fingerprint)
                );
                observe::count("hapax.code.differences", 1);
                return Err(CodeError::Differs(Box::new(Difference { key, label: unit.label(), stored, compiled })));
            }
        }
        Ok(Compiled { record: stored, source: Source::Stored, refusal: None })
    }
}

impl CodeStore {
    /// The store counts them under its locks; here there are none.
    fn tell_evictions(&self) {
        if !observe::ON {
            return;
        }
        let now = self.store.stats().evictions;
        let before = self.counters.evictions_told.fetch_max(now, Ordering::Relaxed);
        if now > before {
            event!(DEBUG, "evicted code", entries = now - before);
            observe::count("hapax.code.evictions", now - before);
        }
    }
}

fn tell_miss(key: &Key, miss: &Miss) {
    observe::count("hapax.code.misses", 1);
    let fingerprint = observe::display(key.fingerprint);
    match miss {
        Miss::Absent | Miss::Off => event!(DEBUG, "no code", fingerprint = fingerprint, why = observe::display(miss)),
        // Something was stored: the disk, or somebody, is at fault.
        _ => {
            event!(WARN, "stored code cannot be used", fingerprint = fingerprint, why = observe::display(miss));
            observe::count("hapax.code.faults", 1);
        }
    }
}

fn tell_refusal(key: &Key, refusal: &Refusal) {
    event!(
        WARN,
        "code was not stored",
        fingerprint = observe::display(key.fingerprint),
        why = observe::display(refusal)
    );
    observe::count("hapax.code.refusals", 1);
}

impl fmt::Debug for CodeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeStore").field("mode", &self.mode).field("off", &self.off).finish_non_exhaustive()
    }
}

impl Deref for Compiled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.record
    }
}
