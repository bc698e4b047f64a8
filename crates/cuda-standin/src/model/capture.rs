//! Stream capture, and graphs made by it. Knows no graph that was built node by node.

use crate::code::Code;
use crate::model::Model;
use crate::model::clock::{Clock, Epoch};
use crate::model::queue::{Kind, Stream};
use crate::model::shadow::Cause;
use crate::model::submit::{Need, Request};
use std::collections::{BTreeMap, BTreeSet};

pub struct Capture {
    origin: u64,
    mode: CaptureMode,
    thread: u64,
    nodes: Vec<Node>,
    /// Per stream that takes part: the nodes its next node comes after.
    lanes: BTreeMap<u64, Vec<usize>>,
    /// Events recorded meanwhile, and whether a stream of the capture waited for them.
    points: BTreeMap<u64, bool>,
    invalid: bool,
}

#[derive(Clone)]
pub struct Graph {
    origin: u64,
    nodes: Vec<Node>,
}

#[derive(Clone)]
struct Node {
    lane: u64,
    cause: Cause,
    request: Request,
    after: Vec<usize>,
}

/// How far a capture forbids calls that could disturb it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureMode {
    Global,
    ThreadLocal,
    Relaxed,
}

impl CaptureMode {
    pub fn from_raw(mode: u32) -> Result<CaptureMode, Code> {
        Ok(match mode {
            0 => CaptureMode::Global,
            1 => CaptureMode::ThreadLocal,
            2 => CaptureMode::Relaxed,
            _ => return Err(Code::INVALID_VALUE),
        })
    }
}

impl Graph {
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }
}

impl Model {
    pub fn begin_capture(&mut self, stream: u64, mode: CaptureMode, thread: u64) -> Result<(), Code> {
        let target = self.streams.get(&stream).ok_or(Code::INVALID_HANDLE)?;
        if target.kind == Kind::Legacy {
            return Err(Code::STREAM_CAPTURE_UNSUPPORTED);
        }
        if target.capture.is_some() {
            return Err(Code::ILLEGAL_STATE);
        }
        let id = self.new_handle();
        let capture = Capture {
            origin: stream,
            mode,
            thread,
            nodes: Vec::new(),
            lanes: BTreeMap::from([(stream, Vec::new())]),
            points: BTreeMap::new(),
            invalid: false,
        };
        self.captures.insert(id, capture);
        self.streams.get_mut(&stream).expect("just found").capture = Some(id);
        Ok(())
    }

    /// Ends the capture that began on `stream` and returns its graph's handle.
    pub fn end_capture(&mut self, stream: u64, thread: u64) -> Result<u64, Code> {
        let target = self.streams.get(&stream).ok_or(Code::INVALID_HANDLE)?;
        let id = target.capture.ok_or(Code::ILLEGAL_STATE)?;
        let capture = &self.captures[&id];
        if capture.origin != stream {
            return Err(Code::STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != CaptureMode::Relaxed && capture.thread != thread {
            return Err(Code::STREAM_CAPTURE_WRONG_THREAD);
        }
        let capture = self.captures.remove(&id).expect("just found");
        for member in self.streams.values_mut().filter(|stream| stream.capture == Some(id)) {
            member.capture = None;
        }
        if capture.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        for (event, _) in capture.points.iter().filter(|(_, waited)| !**waited) {
            self.violation(format!(
                "capture: event {event:#x} was recorded on a capturing stream and nothing in the capture waited for it: it marks no point in time"
            ));
        }
        let joined = capture.before(stream);
        if let Some(lane) = capture.nodes.iter().enumerate().find(|(node, _)| !joined.contains(node)) {
            let text = format!(
                "capture: {} on stream {:#x} never joins the stream that began the capture",
                lane.1.cause, lane.1.lane
            );
            self.violation(text);
            return Err(Code::STREAM_CAPTURE_UNJOINED);
        }
        let graph = self.new_handle();
        self.graphs.insert(graph, Graph { origin: stream, nodes: capture.nodes });
        Ok(graph)
    }

    /// 0: not capturing, 1: capturing, 2: the capture was invalidated.
    pub fn capture_status(&self, stream: u64) -> (u32, Option<u64>) {
        match self.streams.get(&stream).and_then(|stream| stream.capture) {
            None => (0, None),
            Some(id) => (if self.captures[&id].invalid { 2 } else { 1 }, Some(id)),
        }
    }

    pub fn capture_work(&mut self, id: u64, stream: u64, cause: Cause, request: Request) -> Result<(), Code> {
        let capture = self.active(id)?;
        let node = capture.nodes.len();
        let after = capture.lanes.insert(stream, vec![node]).unwrap_or_default();
        capture.nodes.push(Node { lane: stream, cause, request, after });
        Ok(())
    }

    /// An event is recorded inside a capture.
    pub fn capture_point(&mut self, id: u64, stream: u64, event: u64) -> Result<Vec<usize>, Code> {
        let capture = self.active(id)?;
        capture.points.insert(event, false);
        Ok(capture.lanes.get(&stream).cloned().unwrap_or_default())
    }

    /// A stream waits for an event of a capture, and so becomes part of it.
    pub fn join_capture(&mut self, id: u64, stream: u64, event: u64, nodes: &[usize]) -> Result<(), Code> {
        if !self.captures.contains_key(&id) {
            let name = self.stream_name(stream);
            self.violation(format!(
                "capture: cuStreamWaitEvent on {name} for event {event:#x}, which was recorded on a stream that was capturing and marks no point in time"
            ));
            return Err(Code::CAPTURED_EVENT);
        }
        match self.streams[&stream].capture {
            Some(other) if other != id => {
                self.invalidate(id);
                self.invalidate(other);
                return Err(Code::STREAM_CAPTURE_MERGE);
            }
            Some(_) => {}
            None => self.streams.get_mut(&stream).expect("just found").capture = Some(id),
        }
        let capture = self.active(id)?;
        capture.points.insert(event, true);
        capture.lanes.entry(stream).or_default().extend(nodes);
        Ok(())
    }

    /// For calls that a capturing stream does not take.
    pub fn refuse_while_capturing(&mut self, stream: u64, call: &str) -> Result<(), Code> {
        if self.streams.get(&stream).is_none_or(|stream| stream.capture.is_none()) {
            return Ok(());
        }
        let name = self.stream_name(stream);
        self.violation(format!("capture: {call} on capturing {name}"));
        self.invalidate_capture(stream);
        Err(Code::STREAM_CAPTURE_UNSUPPORTED)
    }

    /// For calls that wait for a whole context.
    pub fn refuse_while_any_captures(&mut self, context: u64, call: &str) -> Result<(), Code> {
        let capturing: Vec<u64> =
            self.streams.iter().filter(|(_, s)| s.context == context).map(|(id, _)| *id).collect();
        capturing.into_iter().try_for_each(|stream| self.refuse_while_capturing(stream, call))
    }

    /// Work on the legacy stream would be ordered with blocking streams that capture.
    pub fn refuse_implicit_capture(&mut self, stream: u64, call: &str) -> Result<(), Code> {
        let Some(peer) = self.implicit_capture(stream) else { return Ok(()) };
        let name = self.stream_name(peer);
        self.violation(format!("capture: {call} on the legacy stream while blocking {name} is capturing"));
        self.invalidate_capture(peer);
        Err(Code::STREAM_CAPTURE_IMPLICIT)
    }

    /// As `refuse_implicit_capture` for questions about captures, which are answered so and harm none.
    pub fn tell_implicit_capture(&self, stream: u64) -> Result<(), Code> {
        self.implicit_capture(stream).map_or(Ok(()), |_| Err(Code::STREAM_CAPTURE_IMPLICIT))
    }

    /// The capturing stream that work on this one would be ordered with.
    fn implicit_capture(&self, stream: u64) -> Option<u64> {
        let own = &self.streams[&stream];
        if own.kind != Kind::Legacy {
            return None;
        }
        let capturing =
            |(_, peer): &(&u64, &Stream)| peer.context == own.context && peer.is_blocking() && peer.capture.is_some();
        self.streams.iter().find(capturing).map(|(id, _)| *id)
    }

    /// Calls that a capture forbids everywhere, or on its own thread.
    pub fn refuse_unsafe(&mut self, call: &str, thread: u64, mode: CaptureMode) -> Result<(), Code> {
        let forbids = |capture: &Capture| match (mode, capture.mode) {
            (CaptureMode::Relaxed, _) | (_, CaptureMode::Relaxed) => false,
            (CaptureMode::Global, CaptureMode::Global) => true,
            _ => capture.thread == thread,
        };
        let Some((&id, capture)) = self.captures.iter().find(|(_, capture)| forbids(capture)) else { return Ok(()) };
        let name = self.stream_name(capture.origin);
        self.violation(format!("capture: {call} while {name} is capturing in a mode that forbids it"));
        self.invalidate(id);
        Err(Code::STREAM_CAPTURE_UNSUPPORTED)
    }

    pub fn invalidate_capture(&mut self, stream: u64) {
        if let Some(id) = self.streams.get(&stream).and_then(|stream| stream.capture) {
            self.invalidate(id);
        }
    }

    pub fn invalidate(&mut self, id: u64) {
        if let Some(capture) = self.captures.get_mut(&id) {
            capture.invalid = true;
        }
    }

    /// Submits a graph's nodes: those of the stream it was captured on into `stream`, others into branches.
    pub fn launch_graph(&mut self, graph: &Graph, stream: u64, call: &'static str) -> Result<(), Code> {
        self.refuse_while_capturing(stream, call)?;
        self.refuse_implicit_capture(stream, call)?;
        let target = self.streams.get(&stream).filter(|stream| !stream.destroyed).ok_or(Code::INVALID_HANDLE)?;
        let context = target.context;
        let start = Epoch { stream, number: target.last };
        let start: Option<Need> = (start.number > 0).then(|| (start, self.clock_of(stream)));
        let mut lanes = BTreeMap::from([(graph.origin, stream)]);
        let mut made: Vec<Need> = Vec::new();
        for node in &graph.nodes {
            let mut needs: Vec<Need> = node.after.iter().map(|before| made[*before].clone()).collect();
            let lane = match lanes.get(&node.lane) {
                Some(lane) => *lane,
                None => {
                    let branch = self.new_handle();
                    self.streams.insert(branch, Stream::new(context, Kind::Branch, 0, 0));
                    lanes.insert(node.lane, branch);
                    needs.extend(start.clone());
                    branch
                }
            };
            let epoch = self.enqueue(lane, node.cause.clone(), node.request.clone(), needs)?;
            made.push((epoch, self.clock_of(lane)));
        }
        let branches: Vec<u64> = lanes.into_values().filter(|lane| *lane != stream).collect();
        let ends: Vec<Need> = branches.iter().map(|lane| self.end_of(*lane)).collect();
        if !ends.is_empty() {
            self.enqueue(stream, Cause { call, kernel: None }, Request::Nothing, ends)?;
        }
        for branch in branches {
            self.destroy_stream(branch);
        }
        Ok(())
    }

    /// A stream takes no more work, and goes once its queue is empty.
    pub fn destroy_stream(&mut self, stream: u64) {
        if let Some(queue) = self.streams.get_mut(&stream) {
            queue.destroyed = true;
            if queue.queue.is_empty() && !queue.busy {
                self.stream_is_gone(stream);
            }
        }
    }

    fn end_of(&self, lane: u64) -> (Epoch, Clock) {
        (Epoch { stream: lane, number: self.streams[&lane].last }, self.clock_of(lane))
    }

    fn active(&mut self, id: u64) -> Result<&mut Capture, Code> {
        let capture = self.captures.get_mut(&id).ok_or(Code::ILLEGAL_STATE)?;
        if capture.invalid { Err(Code::STREAM_CAPTURE_INVALIDATED) } else { Ok(capture) }
    }
}

impl Capture {
    /// All nodes that come before what `stream` would be given next.
    fn before(&self, stream: u64) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open = self.lanes.get(&stream).cloned().unwrap_or_default();
        while let Some(node) = open.pop() {
            if found.insert(node) {
                open.extend(&self.nodes[node].after);
            }
        }
        found
    }
}
