//! What every call goes through: the lock, the count, planned faults, late work, the current context. Knows no
//! particular call.

use crate::code::Code;
use crate::model::Model;
use crate::model::capture::CaptureMode;
use crate::model::clock::{Clock, Epoch};
use crate::model::queue::Progress;
use crate::settings::{Mode, Settings};
use std::cell::Cell;
use std::ffi::c_uint;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// What must be in place for a call to do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    Initialized,
    /// A current context that is not lost.
    Current,
    /// As `Current`; a program that was told that the context is lost knows better than to call.
    ToFree,
}

/// A driver call under way: the model, locked, and whose call it is.
pub struct Call {
    model: Option<MutexGuard<'static, Model>>,
    pub name: &'static str,
    /// The current context; 0 where a call needs none.
    pub context: u64,
    pub thread: u64,
}

const DEEPEST: usize = 32;

#[derive(Clone, Copy)]
struct Stack {
    contexts: [u64; DEEPEST],
    depth: usize,
}

thread_local! {
    static CURRENT: Cell<Stack> = const { Cell::new(Stack { contexts: [0; DEEPEST], depth: 0 }) };
    static THREAD: Cell<u64> = const { Cell::new(0) };
    static CAPTURE_MODE: Cell<u32> = const { Cell::new(0) };
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

static HOST_FUNCTION_OVER: Condvar = Condvar::new();

/// The one device model of this process.
pub fn model() -> MutexGuard<'static, Model> {
    static MODEL: OnceLock<Mutex<Model>> = OnceLock::new();
    let model = MODEL.get_or_init(|| {
        let settings = Settings::from_environment().unwrap_or_else(|problem| {
            eprintln!("cuda-standin: in CUDA_STANDIN: {problem}");
            std::process::abort();
        });
        Mutex::new(Model::new(settings))
    });
    // A panic inside a driver call ends the process, so no state is half changed.
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the body of a driver call.
pub fn enter(name: &'static str, need: Need, body: impl FnOnce(&mut Call) -> Result<(), Code>) -> c_uint {
    let mut call = Call { model: Some(model()), name, context: 0, thread: thread() };
    let result = call.prepare(need).and_then(|()| body(&mut call));
    if let Err(code) = result {
        call.note_told(code);
    }
    let host_functions = !call.host_calls.is_empty();
    drop(call);
    if host_functions {
        crate::api::start_host_functions();
    }
    result.err().unwrap_or(Code::SUCCESS).0
}

/// A number for the calling thread, from 1.
pub fn thread() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    if THREAD.get() == 0 {
        THREAD.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
    }
    THREAD.get()
}

/// A host function has returned: whoever waits for its stream can go on.
pub fn wake_waiters() {
    HOST_FUNCTION_OVER.notify_all();
}

/// Marks the calling thread as one that runs a host function.
pub fn in_host_function(on: bool) {
    IN_HOST_FUNCTION.set(on);
}

/// The calling thread's current context, 0 if none.
pub fn current() -> u64 {
    let stack = CURRENT.get();
    stack.depth.checked_sub(1).map_or(0, |top| stack.contexts[top])
}

pub fn set_current(context: u64) {
    let mut stack = CURRENT.get();
    stack.depth = stack.depth.max(1);
    stack.contexts[stack.depth - 1] = context;
    CURRENT.set(stack);
}

pub fn push_current(context: u64) -> Result<(), Code> {
    let mut stack = CURRENT.get();
    *stack.contexts.get_mut(stack.depth).ok_or(Code::INVALID_VALUE)? = context;
    stack.depth += 1;
    CURRENT.set(stack);
    Ok(())
}

pub fn pop_current() -> Result<u64, Code> {
    let mut stack = CURRENT.get();
    let popped = current();
    stack.depth = stack.depth.checked_sub(1).ok_or(Code::INVALID_CONTEXT)?;
    CURRENT.set(stack);
    Ok(popped)
}

/// The calling thread's stance on captures, and a new one for it.
pub fn exchange_capture_mode(mode: u32) -> Result<u32, Code> {
    CaptureMode::from_raw(mode)?;
    Ok(CAPTURE_MODE.replace(mode))
}

impl Call {
    /// Refuses what a capture forbids while it lasts.
    pub fn refuse_unsafe_in_capture(&mut self) -> Result<(), Code> {
        let mode = CaptureMode::from_raw(CAPTURE_MODE.get())?;
        let (name, thread) = (self.name, self.thread);
        self.refuse_unsafe(name, thread, mode)
    }

    /// The stream behind a handle. Its context must be the current one.
    pub fn stream_of(&mut self, handle: u64) -> Result<u64, Code> {
        let (context, thread) = (self.context, self.thread);
        let Ok(stream) = self.stream(handle, context, thread) else {
            let name = self.name;
            self.violation(format!("invalid handle: {name} on stream {handle:#x}, which does not exist"));
            return Err(Code::INVALID_HANDLE);
        };
        let owner = self.streams[&stream].context;
        if owner != context {
            let name = self.name;
            self.violation(format!(
                "context: {name} on stream {handle:#x} of context {owner:#x} while context {context:#x} is current"
            ));
            return Err(Code::INVALID_CONTEXT);
        }
        Ok(stream)
    }

    /// Waits until `epoch` is over; the host then knows all of `clock` to be.
    pub fn wait(&mut self, epoch: Epoch, clock: &Clock) -> Result<(), Code> {
        self.wait_only(epoch);
        self.host_learns_of(epoch, clock);
        Ok(())
    }

    /// Waits for all that a stream holds now.
    pub fn wait_for_stream(&mut self, stream: u64) -> Result<(), Code> {
        let Some(last) = self.streams.get(&stream).map(|stream| stream.last) else { return Ok(()) };
        let clock = self.clock_of(stream);
        self.wait(Epoch { stream, number: last }, &clock)?;
        self.lost_code(self.streams.get(&stream).map_or(0, |stream| stream.context)).map_or(Ok(()), Err)
    }

    /// Waits for all that a context holds now.
    pub fn wait_for_context(&mut self, context: u64) -> Result<(), Code> {
        let marks: Vec<(Epoch, Clock)> =
            self.context_marks(context).into_iter().map(|mark| (mark, self.clock_of(mark.stream))).collect();
        for (mark, clock) in marks {
            self.wait(mark, &clock)?;
        }
        if let Some(context) = self.contexts.get_mut(&context) {
            let gone = std::mem::take(&mut context.gone);
            self.host_learns(&gone);
        }
        self.lost_code(context).map_or(Ok(()), Err)
    }

    /// Says whether `epoch` is over; lazy work then makes one step, so that a program which polls gets on.
    pub fn query(&mut self, epoch: Epoch, clock: &Clock) -> Result<(), Code> {
        if self.is_over(epoch) {
            self.host_learns_of(epoch, clock);
            return Ok(());
        }
        if self.settings.mode == Mode::Lazy && self.settings.query_runs {
            self.run_one_towards(epoch);
        }
        Err(Code::NOT_READY)
    }

    fn wait_only(&mut self, epoch: Epoch) {
        while self.run_until(epoch) == Progress::HostFunction {
            crate::api::start_host_functions();
            let model = self.model.take().expect("held between calls");
            self.model = Some(HOST_FUNCTION_OVER.wait(model).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn prepare(&mut self, need: Need) -> Result<(), Code> {
        let name = self.name;
        if IN_HOST_FUNCTION.get() {
            self.violation(format!("host function: it called {name}; host functions make no driver calls"));
            return Err(Code::NOT_PERMITTED);
        }
        self.report.called(name);
        if self.settings.trace {
            eprintln!("cuda-standin: {name}");
        }
        self.run_due();
        let hits = self.host.take_hits();
        self.violations(hits);
        if let Some((code, sticky)) = self.faults.check(name) {
            if sticky {
                self.lose_context(current(), code);
                self.context = current();
            }
            return Err(code);
        }
        if need != Need::Nothing && !self.initialized {
            return Err(Code::NOT_INITIALIZED);
        }
        match need {
            Need::Nothing | Need::Initialized => Ok(()),
            Need::Current | Need::ToFree => self.prepare_context(need),
        }
    }

    fn prepare_context(&mut self, need: Need) -> Result<(), Code> {
        let (name, context) = (self.name, current());
        if context == 0 {
            self.violation(format!("context: {name} without a current context"));
            return Err(Code::INVALID_CONTEXT);
        }
        let Some(lost) = self.contexts.get(&context).map(|context| context.lost) else {
            self.violation(format!("context: {name} while the current context, {context:#x}, is destroyed"));
            return Err(Code::CONTEXT_IS_DESTROYED);
        };
        self.context = context;
        let Some(lost) = lost else { return Ok(()) };
        if need == Need::ToFree && lost.told {
            self.violation(format!("dead device: {name} after a call had returned {}", lost.code));
        }
        Err(lost.code)
    }

    /// The program now knows that the context is lost.
    fn note_told(&mut self, code: Code) {
        let context = self.context;
        if let Some(lost) = self.contexts.get_mut(&context).and_then(|context| context.lost.as_mut()) {
            lost.told |= lost.code == code;
        }
    }
}

impl Deref for Call {
    type Target = Model;

    fn deref(&self) -> &Model {
        self.model.as_ref().expect("held between calls")
    }
}

impl DerefMut for Call {
    fn deref_mut(&mut self) -> &mut Model {
        self.model.as_mut().expect("held between calls")
    }
}
