//! Taking work in: is its memory there, what is it ordered after, and who touched the same bytes without being
//! ordered? Knows no driver call by name; the answers do not depend on when work runs.

use crate::code::Code;
use crate::model::Model;
use crate::model::clock::{Clock, Epoch};
use crate::model::kernel::{Launch, Touch};
use crate::model::queue::{HostCall, Kind, Operation, Place, Work};
use crate::model::shadow::{Access, Cause};
use crate::settings::{Mode, Pageable};
use std::ops::Range;

/// Work as a call asks for it, before it is known when and where it runs.
#[derive(Clone, Debug)]
pub enum Request {
    Nothing,
    Stamp { event: u64, record: u64 },
    Copy(Copy),
    Fill { to: u64, pattern: Vec<u8>, bytes: u64 },
    Kernel { launch: Launch, module: u64 },
    Host { function: usize, argument: usize, stream_handle: Option<u64> },
    Allocated { address: u64, bytes: u64 },
    Free { address: u64, bytes: u64 },
}

#[derive(Clone, Debug)]
pub struct Copy {
    pub to: End,
    pub from: End,
    pub bytes: u64,
    /// The call returns before the copy is over: pageable memory is used late, if the settings say so.
    pub asynchronous: bool,
}

/// One side of a copy, and what the call takes it to be.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Device(u64),
    Host(u64),
    Any(u64),
}

/// What an operation has to wait for besides its own stream, and all that is over by then, itself included.
pub type Need = (Epoch, Clock);

impl End {
    pub fn address(self) -> u64 {
        match self {
            End::Device(address) | End::Host(address) | End::Any(address) => address,
        }
    }
}

impl Model {
    /// Puts work into a stream and returns its operation, or `None` if a capture took it.
    pub fn submit(
        &mut self,
        stream: u64,
        cause: Cause,
        request: Request,
        needs: Vec<Need>,
    ) -> Result<Option<Epoch>, Code> {
        let target = self.streams.get(&stream).filter(|stream| !stream.destroyed).ok_or(Code::INVALID_HANDLE)?;
        if let Some(capture) = target.capture {
            self.capture_work(capture, stream, cause, request)?;
            return Ok(None);
        }
        self.refuse_implicit_capture(stream, cause.call)?;
        self.enqueue(stream, cause, request, needs).map(Some)
    }

    /// As [`Model::submit`], to a stream that is known to take it.
    pub fn enqueue(&mut self, stream: u64, cause: Cause, request: Request, needs: Vec<Need>) -> Result<Epoch, Code> {
        let touches = touches(&request).ok_or(Code::INVALID_VALUE)?;
        let stray = self.find_stray(stream, &cause, &request, &touches);
        if stray && !matches!(request, Request::Kernel { .. }) {
            return Err(Code::INVALID_VALUE);
        }
        let waits = self.order(stream, needs);
        let epoch = Epoch { stream, number: self.new_operation() };
        let work = if stray { Work::Fail(Code::ILLEGAL_ADDRESS) } else { self.touch(&cause, request, touches, epoch)? };
        let due = self.due(&work);
        let queue = self.streams.get_mut(&stream).expect("checked by the caller");
        queue.last = epoch.number;
        queue.queue.push_back(Operation { number: epoch.number, cause, due, waits, work });
        if self.settings.mode == Mode::Plain {
            self.run_until(epoch);
        }
        Ok(epoch)
    }

    /// All that is over once what a stream holds now is over.
    pub fn clock_of(&self, stream: u64) -> Clock {
        let Some(queue) = self.streams.get(&stream) else { return Clock::default() };
        let mut clock = queue.clock.clone();
        if queue.last > 0 {
            clock.learn(Epoch { stream, number: queue.last });
        }
        clock
    }

    /// How a stream is called in reports.
    pub fn stream_name(&self, stream: u64) -> String {
        match self.streams.get(&stream).map(|stream| stream.kind) {
            Some(Kind::Legacy) => "the legacy stream".to_owned(),
            Some(Kind::PerThread) => "a per-thread stream".to_owned(),
            Some(Kind::Branch) => format!("branch {stream:#x} of a graph"),
            Some(Kind::Blocking | Kind::NonBlocking) => format!("stream {stream:#x}"),
            None => format!("stream {stream:#x} (gone)"),
        }
    }

    /// Forgets who touched memory that is gone or new.
    pub fn forget_accesses(&mut self, range: Range<u64>) {
        self.shadow.forget(range);
    }

    /// Whatever touched `range` and is not known to be over, but for the allocation itself.
    pub fn unfinished(&self, range: &Range<u64>) -> Vec<String> {
        let known = &self.host_clock;
        let found = self.shadow.unknown(range.clone(), |epoch| known.knows(epoch));
        let found = found.into_iter().filter(|found| !is_allocation(found.old.cause.call));
        found.map(|found| format!("{} on {}", found.old.cause, self.stream_name(found.old.epoch.stream))).collect()
    }

    /// Orders the stream's next operation and returns what it must wait for.
    fn order(&mut self, stream: u64, mut needs: Vec<Need>) -> Vec<Epoch> {
        needs.extend(self.implicit_needs(stream));
        let queue = self.streams.get_mut(&stream).expect("checked by the caller");
        for (_, clock) in &needs {
            queue.clock.join(clock);
        }
        queue.clock.without(&self.host_clock);
        needs.retain(|(epoch, _)| !self.is_over(*epoch));
        needs.into_iter().map(|(epoch, _)| epoch).collect()
    }

    /// The legacy stream and the blocking streams of its context wait for each other.
    fn implicit_needs(&self, stream: u64) -> Vec<Need> {
        let own = &self.streams[&stream];
        let ordered = |kind| match own.kind {
            Kind::Legacy => matches!(kind, Kind::Blocking | Kind::PerThread),
            Kind::Blocking | Kind::PerThread => kind == Kind::Legacy,
            Kind::NonBlocking | Kind::Branch => false,
        };
        let peers = self.streams.iter().filter(|(_, peer)| peer.context == own.context && ordered(peer.kind));
        let peers = peers.filter(|(_, peer)| peer.last > 0);
        peers.map(|(&id, peer)| (Epoch { stream: id, number: peer.last }, self.clock_of(id))).collect()
    }

    fn due(&self, work: &Work) -> u64 {
        let delay = match self.settings.mode {
            Mode::Late(calls) => u64::from(calls),
            Mode::Plain | Mode::Lazy => 0,
        };
        let turns = match work {
            Work::Kernel(Launch::Spin { turns }) => *turns,
            _ => 0,
        };
        self.report.all_calls.saturating_add(delay).saturating_add(turns)
    }

    /// Reports memory that is not there, or no longer.
    fn find_stray(&mut self, stream: u64, cause: &Cause, request: &Request, touches: &[Touch]) -> bool {
        let mut found = false;
        let device = self.contexts.get(&self.streams[&stream].context).map_or(0, |context| context.device);
        for Touch { range, writes } in touches.iter().filter(|touch| !touch.range.is_empty()) {
            let host = matches!(request, Request::Copy(copy) if copy.is_host_side(range.start));
            let verb = if *writes { "writes" } else { "reads" };
            let stray = match self.space.find(range) {
                Some((_, block)) if host => {
                    format!("{} as host memory, which is device block #{}", at(range), block.ordinal)
                }
                Some((_, block)) if block.freeing && !matches!(request, Request::Free { .. }) => {
                    format!("{}, which was given to cuMemFreeAsync before", self.describe(range))
                }
                // Copies go between devices, other work does not.
                Some((_, block)) if block.device != device && !matches!(request, Request::Copy(_)) => {
                    format!("{}, which is on device {}", self.describe(range), block.device)
                }
                Some(_) => continue,
                None if host || self.is_memory(range) => continue,
                None if matches!(request, Request::Copy(copy) if copy.may_be_host(range.start)) => continue,
                None => self.describe_stray(range),
            };
            let stream = self.stream_name(stream);
            self.violation(format!("invalid access: {cause} on {stream} {verb} {stray}"));
            found = true;
        }
        found
    }

    /// Notes what the operation touches, reports what it is not ordered after, and takes hold of host memory.
    fn touch(&mut self, cause: &Cause, request: Request, touches: Vec<Touch>, epoch: Epoch) -> Result<Work, Code> {
        let access = Access { epoch, cause: cause.clone() };
        let staged = self.staged(&request)?;
        for Touch { range, writes } in touches {
            let is_staged = staged.is_some() && !writes;
            if !is_staged {
                self.check_order(&access, range, writes);
            }
        }
        Ok(match request {
            Request::Nothing | Request::Allocated { .. } => Work::Nothing,
            Request::Stamp { event, record } => Work::Stamp { event, record },
            Request::Fill { to, pattern, bytes } => {
                self.hold_host_memory(&[Touch { range: to..to + bytes, writes: true }], epoch, cause);
                Work::Fill { to, pattern, bytes }
            }
            Request::Free { address, .. } => {
                if let Some(block) = self.space.block_mut(address) {
                    block.freeing = true;
                }
                Work::Free { address }
            }
            Request::Kernel { launch, module } => {
                if let Some(module) = self.modules.get_mut(&module) {
                    module.launched(epoch, cause, &self.host_clock);
                }
                self.hold_host_memory(&launch.touches().unwrap_or_default(), epoch, cause);
                Work::Kernel(launch)
            }
            Request::Host { function, argument, stream_handle } => {
                let known = self.clock_of(epoch.stream);
                Work::Host(HostCall { function, argument, stream_handle, status: Code::SUCCESS, epoch, known })
            }
            Request::Copy(copy) => {
                let from = match staged {
                    Some(bytes) => Place::Staged(bytes),
                    None => self.place(copy.from, copy.bytes, epoch, cause, false),
                };
                let to = self.place(copy.to, copy.bytes, epoch, cause, true);
                Work::Copy { to, from, bytes: copy.bytes }
            }
        })
    }

    /// Page-locked memory that the device works on by address is in use like a copy's source or target.
    fn hold_host_memory(&mut self, touches: &[Touch], epoch: Epoch, cause: &Cause) {
        for Touch { range, writes } in touches {
            if !range.is_empty() && self.host.find(range).is_some() {
                self.host.hold(range.clone(), epoch, cause.clone(), *writes, false);
            }
        }
    }

    fn check_order(&mut self, new: &Access, range: Range<u64>, writes: bool) {
        let clock = &self.streams[&new.epoch.stream].clock;
        let known = &self.host_clock;
        let conflicts = self
            .shadow
            .access(range, new, writes, |old| old.stream == new.epoch.stream || clock.knows(old) || known.knows(old));
        for conflict in conflicts {
            let (verb, old_verb) =
                (if writes { "writes" } else { "reads" }, if conflict.old_wrote { "wrote" } else { "read" });
            let (new_stream, old_stream) =
                (self.stream_name(new.epoch.stream), self.stream_name(conflict.old.epoch.stream));
            self.violation(format!(
                "race: {} on {new_stream} {verb} {}, not ordered after {} on {old_stream}, which {old_verb} it",
                new.cause,
                self.describe(&conflict.range),
                conflict.old.cause,
            ));
        }
    }

    /// The bytes of a pageable source that the call takes with it.
    fn staged(&mut self, request: &Request) -> Result<Option<Vec<u8>>, Code> {
        let Request::Copy(copy) = request else { return Ok(None) };
        let late = copy.asynchronous && self.settings.pageable == Pageable::Late;
        let range = copy.from.address()..copy.from.address() + copy.bytes;
        if late || self.is_memory(&range) || self.host.overlaps_locked(&range) {
            return Ok(None);
        }
        self.host_access(&range, false);
        let mut bytes = vec![0; copy.bytes as usize];
        if !self.host.read_through(range.start, &mut bytes) {
            self.violation(format!("invalid access: a copy reads {}, which is no memory", at(&range)));
            return Err(Code::INVALID_VALUE);
        }
        Ok(Some(bytes))
    }

    fn place(&mut self, end: End, bytes: u64, epoch: Epoch, cause: &Cause, device_writes: bool) -> Place {
        let range = end.address()..end.address() + bytes;
        if self.space.find(&range).is_some() || bytes == 0 {
            return Place::Memory(range.start);
        }
        let poison = self.settings.mode != Mode::Plain;
        let hold = self.host.hold(range.clone(), epoch, cause.clone(), device_writes, poison);
        Place::Held { address: range.start, hold }
    }
}

impl Copy {
    fn is_host_side(&self, address: u64) -> bool {
        [self.to, self.from].iter().any(|end| matches!(end, End::Host(at) if *at == address))
    }

    fn may_be_host(&self, address: u64) -> bool {
        [self.to, self.from].iter().any(|end| matches!(end, End::Any(at) if *at == address))
    }
}

/// The ranges a request touches; `None` if a length overflows.
fn touches(request: &Request) -> Option<Vec<Touch>> {
    let range = |start: u64, bytes: u64| Some(start..start.checked_add(bytes)?);
    Some(match request {
        Request::Nothing | Request::Stamp { .. } | Request::Host { .. } => vec![],
        Request::Copy(copy) => vec![
            Touch { range: range(copy.from.address(), copy.bytes)?, writes: false },
            Touch { range: range(copy.to.address(), copy.bytes)?, writes: true },
        ],
        Request::Fill { to, bytes, .. } => vec![Touch { range: range(*to, *bytes)?, writes: true }],
        Request::Kernel { launch, .. } => launch.touches()?,
        Request::Allocated { address, bytes } | Request::Free { address, bytes } => {
            vec![Touch { range: range(*address, *bytes)?, writes: true }]
        }
    })
}

fn is_allocation(call: &str) -> bool {
    matches!(call, "cuMemAllocAsync" | "cuMemAllocFromPoolAsync")
}

/// A range, in a report.
pub fn at(range: &Range<u64>) -> String {
    format!("{} bytes at {:#x}", range.end - range.start, range.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::queue::Stream;
    use crate::settings::Settings;

    const CAUSE: Cause = Cause { call: "cuMemsetD8Async", kernel: None };

    /// A clock that kept what the host knows would grow with every stream there ever was.
    #[test]
    fn clocks_are_as_long_as_the_work_in_flight() {
        // What guards see is noted for the process; the tests of guards take it.
        let mut model = Model::new(Settings { guard: false, ..Settings::default() });
        let context = model.create_context(0, false, 0).unwrap();
        let mut before: Option<Need> = None;
        for turn in 0..100 {
            let stream = model.new_handle();
            model.streams.insert(stream, Stream::new(context, Kind::NonBlocking, 0, 0));
            let needs = before.into_iter().collect();
            let epoch = model.submit(stream, CAUSE, Request::Nothing, needs).unwrap().unwrap();
            let clock = model.clock_of(stream);
            assert!(clock.len() <= turn % 10 + 2, "turn {turn}: {clock:?}");
            if turn % 10 == 9 {
                model.host_learns_of(epoch, &clock);
            }
            before = Some((epoch, clock));
        }
    }
}
