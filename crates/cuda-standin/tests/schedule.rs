//! Random programs, against an oracle that keeps for every operation the set of all that came before it: the first
//! unordered access is reported where the oracle sees it, in every mode; and a program without one leaves the same
//! bytes whatever the schedule.
#![expect(unsafe_code, reason = "makes driver calls")]

mod driver;

use crate::driver::{Event, Gpu, LEGACY, MODES, Stream, call};
use cuda_standin::{Control, Mode, Session};
use std::collections::HashMap;
use std::ops::Range;

const BYTES: usize = 256;
const STREAMS: usize = 4;
const EVENTS: usize = 3;
const STEPS: usize = 40;

#[derive(Clone, Debug)]
enum Step {
    Write { stream: usize, range: Range<usize> },
    Read { stream: usize, range: Range<usize> },
    Move { stream: usize, from: Range<usize>, to: usize },
    Record { event: usize, stream: usize },
    Wait { event: usize, stream: usize },
    SyncStream { stream: usize },
    SyncEvent { event: usize },
    SyncAll,
}

/// What orders the accesses of a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    None,
    WaitForAll,
    /// Each stream waits for the one that worked last, and through it for all others.
    WaitForTheLast,
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn range(&mut self) -> Range<usize> {
        let start = self.below(BYTES - 1);
        start..start + 1 + self.below((BYTES - start).min(64) - 1).min(63)
    }

    fn program(&mut self, care: Care) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut last = 0;
        while steps.len() < STEPS {
            let stream = self.below(STREAMS);
            let before = match care {
                Care::None => 0..0,
                Care::WaitForAll => 0..STREAMS,
                Care::WaitForTheLast => last..last + 1,
            };
            for other in before {
                let event = self.below(EVENTS);
                steps.push(Step::Record { event, stream: other });
                steps.push(Step::Wait { event, stream });
            }
            last = stream;
            steps.push(match self.below(if care == Care::None { 12 } else { 4 }) {
                0 | 1 => Step::Write { stream, range: self.range() },
                2 => Step::Read { stream, range: self.range() },
                3 => {
                    let from = self.range();
                    let to = self.below(BYTES - from.len());
                    Step::Move { stream, from, to }
                }
                4..=6 => Step::Record { event: self.below(EVENTS), stream },
                7 | 8 => Step::Wait { event: self.below(EVENTS), stream },
                9 => Step::SyncStream { stream },
                10 => Step::SyncEvent { event: self.below(EVENTS) },
                _ => Step::SyncAll,
            });
        }
        steps
    }
}

/// What came before, as a set of step numbers.
type Past = u128;

#[derive(Default)]
struct Oracle {
    streams: [Past; STREAMS],
    events: [Past; EVENTS],
    host: Past,
    accesses: Vec<(usize, Range<usize>, bool)>,
}

impl Oracle {
    /// Stream 0 is the legacy stream, 1 a blocking one, the others are on their own.
    fn submit(&mut self, step: usize, stream: usize) -> Past {
        self.streams[stream] |= match stream {
            0 => self.streams[1],
            1 => self.streams[0],
            _ => 0,
        };
        let past = self.streams[stream] | self.host;
        self.streams[stream] = past | 1 << step;
        past
    }

    fn access(&mut self, step: usize, past: Past, range: Range<usize>, writes: bool) -> bool {
        let races = self.accesses.iter().any(|(old, other, wrote)| {
            (*wrote || writes)
                && *old != step
                && past & 1 << old == 0
                && other.start < range.end
                && range.start < other.end
        });
        self.accesses.push((step, range, writes));
        races
    }

    /// Whether this step is not ordered after an earlier one that it conflicts with.
    fn step(&mut self, number: usize, step: &Step) -> bool {
        match step.clone() {
            Step::Write { stream, range } => {
                let past = self.submit(number, stream);
                self.access(number, past, range, true)
            }
            Step::Read { stream, range } => {
                let past = self.submit(number, stream);
                self.access(number, past, range, false)
            }
            Step::Move { stream, from, to } => {
                let past = self.submit(number, stream);
                let bytes = from.len();
                self.access(number, past, from, false) | self.access(number, past, to..to + bytes, true)
            }
            Step::Record { event, stream } => {
                self.submit(number, stream);
                self.events[event] = self.streams[stream];
                false
            }
            Step::Wait { event, stream } => {
                if self.events[event] != 0 {
                    self.submit(number, stream);
                    self.streams[stream] |= self.events[event];
                }
                false
            }
            Step::SyncStream { stream } => {
                self.host |= self.streams[stream] | if stream == 0 { self.streams[1] } else { 0 };
                if stream == 0 {
                    self.streams[0] |= self.streams[1];
                }
                false
            }
            Step::SyncEvent { event } => {
                self.host |= self.events[event];
                false
            }
            Step::SyncAll => {
                self.host |= self.streams.iter().fold(0, |all, stream| all | stream);
                false
            }
        }
    }
}

struct Machine<'g> {
    gpu: &'g Gpu,
    module: cudarc::driver::sys::CUmodule,
    memory: u64,
    streams: [Stream; STREAMS],
    events: [Event; EVENTS],
}

impl Machine<'_> {
    fn new(gpu: &Gpu) -> Machine<'_> {
        let memory = gpu.alloc(BYTES);
        call!(cuMemsetD8_v2(memory, 0, BYTES)).unwrap();
        call!(cuCtxSynchronize()).unwrap();
        let streams = [LEGACY, gpu.blocking_stream(), gpu.stream(), gpu.stream()];
        Machine {
            gpu,
            module: gpu.module(&["read", "copy"]),
            memory,
            streams,
            events: [(); EVENTS].map(|()| gpu.event()),
        }
    }

    fn step(&self, number: usize, step: &Step) {
        let at = |offset: usize| self.memory + offset as u64;
        match step.clone() {
            Step::Write { stream, range } => {
                let (to, bytes) = (at(range.start), range.len());
                call!(cuMemsetD8Async(to, number as u8, bytes, self.streams[stream])).unwrap();
            }
            Step::Read { stream, range } => {
                let arguments = [at(range.start), range.len() as u64];
                self.gpu.launch_of(self.module, "read", &arguments, self.streams[stream]).unwrap();
            }
            Step::Move { stream, from, to } => {
                let arguments = [at(to), at(from.start), from.len() as u64];
                self.gpu.launch_of(self.module, "copy", &arguments, self.streams[stream]).unwrap();
            }
            Step::Record { event, stream } => call!(cuEventRecord(self.events[event], self.streams[stream])).unwrap(),
            Step::Wait { event, stream } => {
                call!(cuStreamWaitEvent(self.streams[stream], self.events[event], 0)).unwrap()
            }
            Step::SyncStream { stream } => self.gpu.sync(self.streams[stream]),
            Step::SyncEvent { event } => call!(cuEventSynchronize(self.events[event])).unwrap(),
            Step::SyncAll => call!(cuCtxSynchronize()).unwrap(),
        }
    }
}

/// Runs a program: where the first report came, and what is in memory at the end.
fn run(mode: Mode, program: &[Step]) -> (Option<usize>, Vec<u8>) {
    let session = Session::begin().unwrap();
    session.set_mode(mode);
    let gpu = Gpu::new(&session);
    let machine = Machine::new(&gpu);
    let mut first = None;
    for (number, step) in program.iter().enumerate() {
        machine.step(number, step);
        if first.is_none() && !session.violations().is_empty() {
            first = Some(number);
        }
    }
    call!(cuCtxSynchronize()).unwrap();
    let left = Control::peek(*session, machine.memory, BYTES).unwrap();
    gpu.free(machine.memory);
    drop(gpu);
    let found = session.take_violations();
    assert!(found.iter().all(|text| text.starts_with("race: ")), "{found:#?}");
    (first, left)
}

#[test]
fn the_first_race_is_reported_where_the_oracle_sees_it_in_every_mode() {
    let mut random = Random(42);
    let mut with_race = 0;
    for number in 0..150 {
        let care = [Care::None, Care::None, Care::WaitForAll, Care::WaitForTheLast][number % 4];
        let program = random.program(care);
        let mut oracle = Oracle::default();
        let expected = (0..program.len()).find(|step| oracle.step(*step, &program[*step]));
        with_race += usize::from(expected.is_some());
        for mode in MODES {
            let (first, _) = run(mode, &program);
            assert_eq!(first, expected, "mode {mode}, program {number}: {program:#?}");
        }
    }
    assert!((30..120).contains(&with_race), "{with_race} programs of 150 race: too few of one kind");
}

#[test]
fn without_a_race_the_schedule_does_not_show() {
    let mut random = Random(7);
    let mut without_race = 0;
    for number in 0..60 {
        let program = random.program(if number % 2 == 0 { Care::WaitForAll } else { Care::WaitForTheLast });
        let mut expected = HashMap::new();
        for mode in MODES {
            let (first, left) = run(mode, &program);
            if first.is_none() {
                expected.entry(left).or_insert_with(Vec::new).push(mode);
            }
        }
        without_race += expected.len();
        assert!(expected.len() <= 1, "program {number} ended differently: {:?}", expected.values());
    }
    assert!(without_race > 30, "only {without_race} programs of 60 have no race");
}
