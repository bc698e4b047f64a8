//! Events: marks in streams, and what the host and other streams learn from them. Knows no call that waits; those
//! ask where the mark is and wait for it.

use crate::code::Code;
use crate::model::Model;
use crate::model::clock::{Clock, Epoch};
use crate::model::shadow::Cause;
use crate::model::submit::Request;

pub struct Event {
    pub context: u64,
    pub timing: bool,
    records: u64,
    state: State,
}

enum State {
    /// Nothing to wait for.
    Never,
    Recorded {
        epoch: Epoch,
        clock: Clock,
        at_us: Option<u64>,
    },
    /// A point in a capture, not in time: the nodes that are over there.
    Captured {
        capture: u64,
        nodes: Vec<usize>,
    },
}

const TIMING_OFF: u32 = 2;

impl Model {
    pub fn create_event(&mut self, context: u64, flags: u32) -> u64 {
        let handle = self.new_handle();
        let timing = flags & TIMING_OFF == 0;
        self.events.insert(handle, Event { context, timing, records: 0, state: State::Never });
        handle
    }

    pub fn destroy_event(&mut self, event: u64) -> Result<(), Code> {
        self.events.remove(&event).map(drop).ok_or(Code::INVALID_HANDLE)
    }

    /// Marks where the stream is now.
    pub fn record(&mut self, event: u64, stream: u64, call: &'static str) -> Result<(), Code> {
        let of_event = self.events.get(&event).ok_or(Code::INVALID_HANDLE)?.context;
        let target = self.streams.get(&stream).filter(|stream| !stream.destroyed).ok_or(Code::INVALID_HANDLE)?;
        if target.context != of_event {
            self.violation(format!(
                "context: {call} of an event of context {of_event:#x} on a stream of context {:#x}",
                target.context
            ));
            return Err(Code::INVALID_HANDLE);
        }
        if let Some(capture) = target.capture {
            let nodes = self.capture_point(capture, stream, event)?;
            self.events.get_mut(&event).expect("just found").state = State::Captured { capture, nodes };
            return Ok(());
        }
        let record = {
            let event = self.events.get_mut(&event).expect("just found");
            event.records += 1;
            event.records
        };
        // The new state is in place before the operation runs, which in plain mode is inside the submission.
        self.refuse_implicit_capture(stream, call)?;
        let epoch = Epoch { stream, number: self.next_operation() };
        self.events.get_mut(&event).expect("just found").state =
            State::Recorded { epoch, clock: Clock::default(), at_us: None };
        let made = self.enqueue(stream, Cause { call, kernel: None }, Request::Stamp { event, record }, vec![])?;
        debug_assert_eq!(made, epoch);
        let now_known = self.clock_of(stream);
        if let Some(State::Recorded { clock, .. }) = self.events.get_mut(&event).map(|event| &mut event.state) {
            *clock = now_known;
        }
        Ok(())
    }

    /// The device has reached a record.
    pub fn stamp(&mut self, event: u64, record: u64) {
        let now = self.now_us;
        let event = self.events.get_mut(&event).filter(|event| event.records == record);
        if let Some(State::Recorded { at_us, .. }) = event.map(|event| &mut event.state) {
            *at_us = Some(now);
        }
    }

    /// Lets a stream wait for an event.
    pub fn wait_event(&mut self, stream: u64, event: u64, call: &'static str) -> Result<(), Code> {
        let state = &self.events.get(&event).ok_or(Code::INVALID_HANDLE)?.state;
        let target = self.streams.get(&stream).filter(|stream| !stream.destroyed).ok_or(Code::INVALID_HANDLE)?;
        match state {
            State::Captured { capture, nodes } => {
                let (capture, nodes) = (*capture, nodes.clone());
                self.join_capture(capture, stream, event, &nodes)
            }
            _ if target.capture.is_some() => {
                let text = format!(
                    "capture: {call} lets capturing {} wait for an event that is not of its capture",
                    self.stream_name(stream)
                );
                self.violation(text);
                self.invalidate_capture(stream);
                Err(Code::STREAM_CAPTURE_ISOLATION)
            }
            State::Never => Ok(()),
            State::Recorded { epoch, clock, .. } => {
                let need = (*epoch, clock.clone());
                self.submit(stream, Cause { call, kernel: None }, Request::Nothing, vec![need]).map(drop)
            }
        }
    }

    /// Where the host must get to for an event to be over; `None` if it was never recorded.
    pub fn event_mark(&mut self, event: u64, call: &'static str) -> Result<Option<(Epoch, Clock)>, Code> {
        let found = self.events.get(&event).ok_or(Code::INVALID_HANDLE)?;
        if let Some(code) = self.lost_code(found.context) {
            return Err(code);
        }
        match &found.state {
            State::Never => Ok(None),
            State::Recorded { epoch, clock, .. } => Ok(Some((*epoch, clock.clone()))),
            State::Captured { capture, .. } => {
                let capture = *capture;
                self.violation(format!(
                    "capture: {call} of event {event:#x}, which was recorded on a capturing stream and marks no point in time"
                ));
                self.invalidate(capture);
                Err(Code::CAPTURED_EVENT)
            }
        }
    }

    /// Milliseconds of device time between two events.
    pub fn elapsed_ms(&mut self, start: u64, end: u64, call: &'static str) -> Result<f32, Code> {
        let mut times = [0; 2];
        for (time, handle) in times.iter_mut().zip([start, end]) {
            self.event_mark(handle, call)?;
            let event = &self.events[&handle];
            *time = match event.state {
                _ if !event.timing => return Err(Code::INVALID_HANDLE),
                State::Recorded { at_us: Some(at_us), .. } => at_us,
                State::Recorded { .. } => return Err(Code::NOT_READY),
                State::Never | State::Captured { .. } => return Err(Code::INVALID_HANDLE),
            };
        }
        Ok((times[1] as f32 - times[0] as f32) / 1e3)
    }
}
