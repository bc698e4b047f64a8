//! Runs a program by compiled code: asks the `Jit` for each function when it is first called, or earlier, where hints say so.
//! Knows no files.

#![expect(unsafe_code, reason = "calls what the JIT has compiled")]

use crate::back::host;
use crate::back::lower::{FunctionUnit, lower, lowered_here};
use crate::back::machine::{Failure, Machine};
use crate::ir::Function;
use crate::ir_bytes;
use crate::program::Program;
use cranelift_codegen::settings::{self, Configurable};
use hapax::{CodeStore, Fingerprint, HintStore};
use hapax_cranelift::{BakedAddresses, CodePtr, Error, Jit, JitStats, Precompile};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Changes when the same representation is lowered differently.
const BUILD: &str = concat!("mica ", env!("CARGO_PKG_VERSION"), " 1");

/// What runs the kernels of a program, if anything does.
pub trait Launcher: Send + Sync {
    /// Runs the kernel for each thread number below `count`, on these words, one for each parameter behind the thread's
    /// number. False if it cannot; then nothing has changed.
    fn launch(&self, program: &Program, kernel: &Function, count: u64, words: &[u64], machine: &mut Machine) -> bool;
}

/// In which order background threads take what the hints name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// What saves the most: uses times compile time.
    HotFirst,
    /// What the last process needed first.
    NeededFirst,
}

/// With what an engine works.
#[derive(Default)]
pub struct Parts {
    /// Where code is kept. Without one it ends with the process.
    pub store: Option<Arc<CodeStore>>,
    /// What earlier processes used.
    pub hints: Option<HintStore>,
    /// Runs kernels.
    pub launcher: Option<Arc<dyn Launcher>>,
}

/// A program and its code.
pub struct Engine {
    program: Arc<Program>,
    jit: Jit,
    parts: Parts,
    functions: Vec<State>,
    /// The functions that ran, in the order in which they were first needed.
    needed: Mutex<Vec<usize>>,
}

#[derive(Default)]
struct State {
    is_needed: AtomicBool,
    is_ready: AtomicBool,
    ir: OnceLock<Fingerprint>,
    /// 0 if this process did not compile it.
    compile_ns: AtomicU64,
    code_bytes: AtomicU64,
}

impl Engine {
    /// An engine for that program.
    ///
    /// # Errors
    /// What the `Jit` says of this platform.
    pub fn new(program: Arc<Program>, parts: Parts) -> Result<Engine, Error> {
        let mut flags = settings::builder();
        // A frame larger than the guard page of the stack must not step over it.
        let probes = [("enable_probestack", "true"), ("probestack_strategy", "inline")];
        for (name, value) in [("opt_level", "speed"), ("enable_verifier", "false")].into_iter().chain(probes) {
            flags.set(name, value).expect("Cranelift has this setting");
        }
        let native = cranelift_native::builder()
            .map_err(|why| Error::Platform { triple: std::env::consts::ARCH.to_owned(), why })?;
        let isa = native.finish(settings::Flags::new(flags)).expect("these settings fit each machine");
        let convention = isa.default_call_conv();
        // A constant of a program may look like an address; then its function is compiled by each process.
        let builder = Jit::builder(isa).build_id(BUILD).baked_addresses(BakedAddresses::RunUnkept);
        let mut builder = host::imports(builder, convention);
        if let Some(store) = &parts.store {
            builder = builder.store(store.clone());
        }
        let functions = program.functions.iter().map(|_| State::default()).collect();
        let needed = Mutex::default();
        Ok(Engine { jit: builder.build()?, program, parts, functions, needed })
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The JIT's figures.
    pub fn stats(&self) -> JitStats {
        self.jit.stats()
    }

    /// Functions that were needed so far.
    pub fn needed(&self) -> usize {
        locked(&self.needed).len()
    }

    /// Runs `main`, on this machine.
    ///
    /// # Errors
    /// The program's failure.
    pub fn run(&self, machine: &mut Machine) -> Result<i64, Failure> {
        let failed = |error: Error| {
            eprintln!("{error}");
            let place = crate::ir::Place { line: 0, column: 1 };
            Failure { fault: crate::back::machine::Fault::NotCompiled, function: "main".to_owned(), place }
        };
        let main = self.ensure("main").map_err(failed)?;
        machine.engine = self;
        let depth = self.program.depth();
        machine.depth = 0;
        machine.depth_limit = depth.calls;
        let machine = SendMut(machine);
        let run = || {
            // The whole wrapper moves here, and not the pointer alone.
            let SendMut(machine) = { machine };
            // SAFETY: `main` takes nothing of the program's own and returns an int; `main` keeps the code. What lowering makes
            // of a checked program reads and writes inside the machine and its own data, and the stack has room for as many
            // frames as it lets begin.
            let code = unsafe { main.as_fn::<extern "C-unwind" fn(*mut Machine) -> i64>() };
            catch_unwind(AssertUnwindSafe(|| code(machine)))
        };
        let outcome = thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(depth.stack_bytes as usize).spawn_scoped(scope, run);
            thread.expect("the system gives a thread").join()
        });
        match outcome.unwrap_or_else(|panic| resume_unwind(panic)) {
            Ok(result) => Ok(result),
            Err(payload) => match payload.downcast::<Failure>() {
                Ok(failure) => Err(*failure),
                Err(panic) => resume_unwind(panic),
            },
        }
    }

    /// The function's code, compiled now if it is not there yet; it is needed now.
    pub fn ensure(&self, name: &str) -> Result<CodePtr, Error> {
        let number = self.program.number(name).expect("the front end has checked the names");
        if !self.functions[number].is_needed.swap(true, Ordering::Relaxed) {
            locked(&self.needed).push(number);
        }
        match self.functions[number].is_ready.load(Ordering::Acquire).then(|| self.jit.current(name)).flatten() {
            Some(code) => Ok(code),
            None => self.compile(number),
        }
    }

    fn compile(&self, number: usize) -> Result<CodePtr, Error> {
        let unit = self.unit(number);
        let (before, begun) = (lowered_here(), Instant::now());
        let code = self.jit.compile(&unit, lower)?;
        let state = &self.functions[number];
        if lowered_here() > before {
            state.compile_ns.store(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
            state.code_bytes.store(code.range().len() as u64, Ordering::Relaxed);
        }
        state.is_ready.store(true, Ordering::Release);
        Ok(code)
    }

    /// Runs a kernel elsewhere, if that can be.
    pub(super) fn launch(&self, kernel: &str, count: u64, words: &[u64], machine: &mut Machine) -> bool {
        let (Some(launcher), Some(kernel)) = (&self.parts.launcher, self.program.function(kernel)) else {
            return false;
        };
        launcher.launch(&self.program, kernel, count, words, machine)
    }

    /// The functions that earlier processes needed, in that order.
    pub fn hinted(&self, order: Order) -> Vec<usize> {
        let Some(hints) = &self.parts.hints else { return Vec::new() };
        let known = 0..self.functions.len();
        let mut known: Vec<_> = known.filter_map(|number| Some((number, hints.rank(self.ir(number))?))).collect();
        match order {
            Order::HotFirst => known.sort_by(|(_, a), (_, b)| b.saving_ns_per_day.total_cmp(&a.saving_ns_per_day)),
            // A use is stamped later than each use before it, so stamps keep the order.
            Order::NeededFirst => known.sort_by_key(|(_, hint)| hint.hint.last_used_unix_ns),
        }
        known.into_iter().map(|(number, _)| number).collect()
    }

    /// Loads these together, in one batch; what is not stored is compiled.
    pub fn preload(&self, numbers: &[usize]) {
        let units = self.units(numbers.iter());
        let codes = self.jit.compile_batch(&units, lower);
        for (number, code) in numbers.iter().zip(codes) {
            // Whoever needs it meets the error.
            if code.is_ok() {
                self.functions[*number].is_ready.store(true, Ordering::Release);
            }
        }
    }

    /// Compiles these on threads of their own, until it is told to [stop](Background::stop).
    pub fn in_background(&self, queue: &[usize], threads: usize) -> Background {
        // Dealt out in turn, so that the order holds over all threads together.
        let threads = threads.min(queue.len());
        let share = |thread| self.units(queue.iter().skip(thread).step_by(threads));
        Background((0..threads).map(|thread| self.jit.precompile(share(thread), lower)).collect())
    }

    fn units<'a>(&self, numbers: impl Iterator<Item = &'a usize>) -> Vec<FunctionUnit> {
        numbers.map(|number| self.unit(*number)).collect()
    }

    fn unit(&self, number: usize) -> FunctionUnit {
        FunctionUnit::new(&self.program, number, *self.ir(number))
    }

    /// The name of a function's representation. Hints know it by that, whatever the JIT makes of it.
    fn ir(&self, number: usize) -> &Fingerprint {
        self.functions[number].ir.get_or_init(|| ir_bytes::name(&self.program.functions[number]))
    }

    /// Records what this process needed and compiled, in that order.
    pub fn record(&self) {
        let Some(hints) = &self.parts.hints else { return };
        for number in locked(&self.needed).iter() {
            let (name, state) = (self.ir(*number), &self.functions[*number]);
            match state.compile_ns.load(Ordering::Relaxed) {
                0 => hints.record_hit(name),
                ns => {
                    let bytes = state.code_bytes.load(Ordering::Relaxed);
                    hints.record_compile(name, bytes, Duration::from_nanos(ns));
                }
            }
        }
    }
}

/// Threads that compile ahead.
#[must_use = "dropping them stops them"]
pub struct Background(Vec<Precompile>);

impl Background {
    /// Lets them end what they are at, and waits for that.
    pub fn stop(self) {
        self.0.iter().for_each(Precompile::stop);
        for thread in self.0 {
            thread.wait();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under these locks")
}

/// The machine's address, for the one thread that runs on it.
struct SendMut(*mut Machine);

// SAFETY: The thread that gives it away waits for the one that gets it.
unsafe impl Send for SendMut {}
