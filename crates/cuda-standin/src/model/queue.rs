//! Streams as queues, and running what is in them: at once, late, or when a wait demands it. Knows no rule about who
//! may touch what; that was checked when the work was submitted.

use crate::code::Code;
use crate::model::Model;
use crate::model::clock::{Clock, Epoch};
use crate::model::kernel::{Launch, Memory};
use crate::model::shadow::Cause;
use crate::settings::Mode;
use std::collections::VecDeque;

pub struct Stream {
    pub context: u64,
    pub kind: Kind,
    pub flags: u32,
    pub priority: i32,
    pub queue: VecDeque<Operation>,
    pub done: u64,
    pub last: u64,
    /// What is over before anything submitted from now on begins, as far as the host does not know it.
    pub clock: Clock,
    pub destroyed: bool,
    /// A host function runs, on another thread.
    pub busy: bool,
    /// The capture that takes what is submitted here.
    pub capture: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Legacy,
    PerThread,
    /// Ordered with the legacy stream.
    Blocking,
    NonBlocking,
    /// A branch of a launched graph: not the program's.
    Branch,
}

pub struct Operation {
    pub number: u64,
    pub cause: Cause,
    /// The driver call, by number, in which late work runs.
    pub due: u64,
    pub waits: Vec<Epoch>,
    pub work: Work,
}

pub enum Work {
    Nothing,
    /// Completes the record of an event, if it was not recorded again since.
    Stamp {
        event: u64,
        record: u64,
    },
    Copy {
        to: Place,
        from: Place,
        bytes: u64,
    },
    Fill {
        to: u64,
        pattern: Vec<u8>,
        bytes: u64,
    },
    Kernel(Launch),
    Host(HostCall),
    Free {
        address: u64,
    },
    /// A kernel that was wrong from the start: its context is lost when it runs.
    Fail(Code),
}

pub enum Place {
    /// Device memory, or page-locked memory that no hold is on.
    Memory(u64),
    /// Host memory in use until the host knows that the copy is over.
    Held { address: u64, hold: u64 },
    /// Bytes taken when the copy was submitted.
    Staged(Vec<u8>),
}

/// A host function and what it is called with.
#[derive(Clone, Debug)]
pub struct HostCall {
    pub function: usize,
    pub argument: usize,
    /// For `cuStreamAddCallback`: the handle to call back with.
    pub stream_handle: Option<u64>,
    pub status: Code,
    pub epoch: Epoch,
    pub known: Clock,
}

/// Whether an operation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Over,
    /// A host function is in the way; it runs on another thread.
    HostFunction,
}

impl Stream {
    pub fn new(context: u64, kind: Kind, flags: u32, priority: i32) -> Stream {
        Stream {
            context,
            kind,
            flags,
            priority,
            queue: VecDeque::new(),
            done: 0,
            last: 0,
            clock: Clock::default(),
            destroyed: false,
            busy: false,
            capture: None,
        }
    }

    pub fn is_the_programs(&self) -> bool {
        matches!(self.kind, Kind::Blocking | Kind::NonBlocking) && !self.destroyed
    }

    /// Whether it takes part in the legacy stream's ordering.
    pub fn is_blocking(&self) -> bool {
        matches!(self.kind, Kind::Blocking | Kind::PerThread)
    }
}

impl Model {
    /// Whether an operation is over, of a stream that may be gone.
    pub fn is_over(&self, epoch: Epoch) -> bool {
        self.streams.get(&epoch.stream).is_none_or(|stream| stream.done >= epoch.number)
    }

    /// Runs what must run for `epoch` to be over.
    pub fn run_until(&mut self, epoch: Epoch) -> Progress {
        let mut goals = vec![epoch];
        while let Some(goal) = goals.last().copied() {
            if self.is_over(goal) {
                goals.pop();
                continue;
            }
            let stream = &self.streams[&goal.stream];
            if stream.busy {
                return Progress::HostFunction;
            }
            let Some(front) = stream.queue.front() else { return Progress::Over };
            match front.waits.iter().find(|wait| !self.is_over(**wait)) {
                Some(wait) => goals.push(*wait),
                None => self.run_front(goal.stream),
            }
        }
        Progress::Over
    }

    /// Runs one operation that `epoch` needs, if it needs any: how lazy work answers a query.
    pub fn run_one_towards(&mut self, epoch: Epoch) {
        let mut goal = epoch;
        while let Some(stream) = self.streams.get_mut(&goal.stream).filter(|stream| stream.done < goal.number) {
            let Some(front) = stream.queue.front_mut().filter(|_| !stream.busy) else { return };
            if let Work::Kernel(Launch::Spin { turns }) = &mut front.work {
                if *turns > 0 {
                    *turns -= 1;
                    return;
                }
            }
            let waits = front.waits.clone();
            match waits.into_iter().find(|wait| !self.is_over(*wait)) {
                Some(wait) => goal = wait,
                None => return self.run_front(goal.stream),
            }
        }
    }

    /// Runs late work whose time has come, and in plain mode what a host function held up.
    pub fn run_due(&mut self) {
        if self.settings.mode == Mode::Lazy {
            return;
        }
        let now = self.report.all_calls;
        let plain = self.settings.mode == Mode::Plain;
        let due = |operation: &&Operation| plain || operation.due <= now;
        let goals: Vec<Epoch> = self
            .streams
            .iter()
            .filter_map(|(&stream, queue)| {
                let last = queue.queue.iter().take_while(due).last()?;
                Some(Epoch { stream, number: last.number })
            })
            .collect();
        for goal in goals {
            self.run_until(goal);
        }
    }

    /// The first `count` operations that can run, in order of submission; returns how many ran.
    pub fn run_some(&mut self, count: u64) -> u64 {
        for ran in 0..count {
            let ready = self.streams.iter().filter(|(_, stream)| !stream.busy).filter_map(|(&id, stream)| {
                let front = stream.queue.front()?;
                front.waits.iter().all(|wait| self.is_over(*wait)).then_some((front.number, id))
            });
            let Some((_, stream)) = ready.min() else { return ran };
            self.run_front(stream);
        }
        count
    }

    /// A host function has returned.
    pub fn host_call_over(&mut self, call: &HostCall) {
        if let Some(stream) = self.streams.get_mut(&call.epoch.stream) {
            stream.busy = false;
            self.finish(call.epoch);
        }
        if self.settings.mode == Mode::Plain {
            self.run_due();
        }
    }

    fn run_front(&mut self, id: u64) {
        let stream = self.streams.get_mut(&id).expect("the caller saw its queue");
        let operation = stream.queue.pop_front().expect("the caller saw its front");
        let context = stream.context;
        let lost = self.contexts.get(&context).is_some_and(|context| context.lost.is_some());
        if let Work::Host(mut call) = operation.work {
            call.epoch = Epoch { stream: id, number: operation.number };
            // A callback hears of the loss; a host function is not called any more.
            if lost && call.stream_handle.is_none() {
                return self.finish(call.epoch);
            }
            call.status = self.lost_code(context).unwrap_or(Code::SUCCESS);
            self.streams.get_mut(&id).expect("as above").busy = true;
            self.host_calls.push_back(call);
            return;
        }
        self.now_us += 1;
        // A lost device runs nothing, but what was queued on it is over.
        if !lost {
            if let Err(code) = self.perform(operation.work, &operation.cause) {
                self.lose_context(context, code);
            }
        }
        self.finish(Epoch { stream: id, number: operation.number });
    }

    fn finish(&mut self, epoch: Epoch) {
        let Some(stream) = self.streams.get_mut(&epoch.stream) else { return };
        stream.done = epoch.number;
        if stream.destroyed && stream.queue.is_empty() {
            self.stream_is_gone(epoch.stream);
        }
    }

    fn perform(&mut self, work: Work, cause: &Cause) -> Result<(), Code> {
        match work {
            Work::Nothing | Work::Host(_) => {}
            Work::Stamp { event, record } => self.stamp(event, record),
            Work::Copy { to, from, bytes } => {
                let mut moved = vec![0; bytes as usize];
                self.load(from, &mut moved, cause)?;
                self.store(to, &moved, cause)?;
            }
            Work::Fill { to, pattern, bytes } => {
                let filled: Vec<u8> = pattern.iter().copied().cycle().take(bytes as usize).collect();
                self.store(Place::Memory(to), &filled, cause)?;
            }
            Work::Kernel(launch) => {
                let gone = launch.touches().into_iter().flatten().find(|touch| !self.is_memory(&touch.range));
                if let Some(touch) = gone {
                    let stray = self.describe_stray(&touch.range);
                    self.violation(format!("invalid access: {cause} ran when {stray}"));
                    return Err(Code::ILLEGAL_ADDRESS);
                }
                if let Launch::Spin { turns } = launch {
                    self.now_us += turns;
                }
                launch.run(self)?;
            }
            Work::Fail(code) => return Err(code),
            Work::Free { address } => self.free_now(address, "cuMemFreeAsync"),
        }
        Ok(())
    }

    fn load(&mut self, from: Place, into: &mut [u8], cause: &Cause) -> Result<(), Code> {
        match from {
            Place::Staged(bytes) => into.copy_from_slice(&bytes),
            Place::Memory(address) => {
                self.check_still_there(address, into.len(), cause)?;
                self.read(address, into);
            }
            Place::Held { address, hold } => {
                if !self.host.is_held(hold) || !self.host.read_through(address, into) {
                    let bytes = into.len();
                    self.violation(format!(
                        "host access: {bytes} bytes at {address:#x} were gone when {cause}, which reads them, ran"
                    ));
                    return Err(Code::ILLEGAL_ADDRESS);
                }
            }
        }
        Ok(())
    }

    fn store(&mut self, to: Place, bytes: &[u8], cause: &Cause) -> Result<(), Code> {
        match to {
            Place::Staged(_) => {}
            Place::Memory(address) => {
                self.check_still_there(address, bytes.len(), cause)?;
                self.write(address, bytes);
            }
            Place::Held { address, hold } => {
                if !self.host.is_held(hold) || !self.host.write(address, bytes) {
                    let bytes = bytes.len();
                    self.violation(format!(
                        "host access: {bytes} bytes at {address:#x} were gone when {cause}, which writes them, ran"
                    ));
                    return Err(Code::ILLEGAL_ADDRESS);
                }
                self.host.ran(hold);
            }
        }
        Ok(())
    }

    fn check_still_there(&mut self, address: u64, bytes: usize, cause: &Cause) -> Result<(), Code> {
        let range = address..address + bytes as u64;
        if self.is_memory(&range) {
            return Ok(());
        }
        let stray = self.describe_stray(&range);
        self.violation(format!("invalid access: {cause} ran when {stray}"));
        Err(Code::ILLEGAL_ADDRESS)
    }
}

/// Device addresses and page-locked ones alike: one address space.
impl Memory for Model {
    fn read(&self, address: u64, into: &mut [u8]) {
        if self.space.find(&(address..address + into.len() as u64)).is_some() {
            self.space.read(address, into);
        } else {
            self.host.read(address, into);
        }
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        let range = address..address + bytes.len() as u64;
        if self.space.find(&range).is_some() {
            self.space.write(address, bytes);
        } else {
            self.host.written_by_device(&range);
            self.host.write(address, bytes);
        }
    }
}
