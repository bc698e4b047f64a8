//! Artifacts become the code of their units: written as they come, made executable and published together. Knows no store,
//! no format and no instruction.

use crate::artifact::View;
use crate::code::{Code, CodePtr};
use crate::error::Error;
use crate::jit::{Inner, Jit};
use crate::job::{Job, Wanted};
use crate::link::{Batch, Written};
use crate::memory::{Fresh, NoPages, Room, Sections};
use crate::table::{Definition, Published, Purpose, UnitId};
use crate::unit::{Lower, Unit};
use hapax::Record;
use std::sync::Arc;

/// Of artifacts that are written together: they are still in the processor's cache when they are copied, and those that are
/// read next take their place in memory.
const WRITTEN_AT_ONCE_BYTES: usize = 64 << 10;

/// The artifact of a unit that was not in memory.
pub(crate) struct Ready {
    pub(crate) wanted: Wanted,
    pub(crate) bytes: Record,
    pub(crate) stored: bool,
}

/// The units of one call, on their way from artifacts to code.
pub(crate) struct Load<'a, U> {
    jit: &'a Jit,
    units: &'a [U],
    lower: Lower<U>,
    purpose: Purpose,
    pages: &'a mut Pages,
    results: &'a mut [Option<Result<CodePtr, Error>>],
    ready: Vec<Ready>,
    ready_bytes: usize,
    parts: Vec<Part>,
}

/// Units that were written together.
struct Part {
    written: Written,
    /// Stubs that the code refers to.
    refers: Vec<usize>,
    made: Vec<Made>,
}

/// A unit that was written.
struct Made {
    wanted: Wanted,
    unit: UnitId,
    abi: u64,
    /// How long it took to compile once, if it came from the store.
    saved_ns: Option<u64>,
    /// If it did not come from there. Others can be had once more.
    artifact: Option<Record>,
}

impl<'a, U: Unit> Load<'a, U> {
    pub(crate) fn new(
        jit: &'a Jit,
        units: &'a [U],
        lower: Lower<U>,
        purpose: Purpose,
        pages: &'a mut Pages,
        results: &'a mut [Option<Result<CodePtr, Error>>],
    ) -> Load<'a, U> {
        let (ready, parts) = (Vec::new(), Vec::new());
        Load { jit, units, lower, purpose, pages, results, ready, ready_bytes: 0, parts }
    }

    /// The artifact of the unit at that place, or why there is none.
    pub(crate) fn add(&mut self, at: usize, found: Result<Ready, Error>) {
        match found {
            Ok(ready) => {
                self.ready_bytes += ready.bytes.len();
                self.ready.push(ready);
            }
            Err(error) => self.results[at] = Some(Err(error)),
        }
        if self.ready_bytes >= WRITTEN_AT_ONCE_BYTES {
            self.write();
        }
    }

    /// Writes what is ready; if that fails, loads each alone, so that one cannot spoil the others.
    fn write(&mut self) {
        self.ready_bytes = 0;
        let mut ready = std::mem::take(&mut self.ready);
        match self.jit.write(&ready, self.pages) {
            Ok((written, refers, made)) => {
                let made = ready.drain(..).zip(made).map(|(ready, (unit, abi))| Made::of(ready, unit, abi));
                self.parts.push(Part { written, refers, made: made.collect() });
            }
            Err(_) => {
                for one in ready.drain(..) {
                    let at = one.wanted.at;
                    self.results[at] = Some(self.load_alone(one));
                }
            }
        }
        self.ready = ready;
    }

    /// Makes all that was written executable, and publishes it; if that fails, each alone, as before.
    pub(crate) fn finish(mut self) {
        if !self.ready.is_empty() {
            self.write();
        }
        let (parts, all): (Vec<_>, Vec<Vec<Made>>) =
            std::mem::take(&mut self.parts).into_iter().map(|part| ((part.written, part.refers), part.made)).unzip();
        match self.jit.publish(parts, &all, self.purpose) {
            Ok(codes) => {
                for (made, code) in all.iter().flatten().zip(codes) {
                    self.results[made.wanted.at] = Some(Ok(CodePtr::new(code, self.jit.0.clone())));
                }
            }
            Err(_) => {
                for made in all.into_iter().flatten() {
                    let at = made.wanted.at;
                    self.results[at] = Some(self.load_again(made));
                }
            }
        }
    }

    fn load_again(&mut self, made: Made) -> Result<CodePtr, Error> {
        let ready = match made.artifact {
            Some(bytes) => Ready { wanted: made.wanted, bytes, stored: false },
            None => {
                let mut again = None;
                self.jit.get_or_compile(vec![made.wanted], self.units, self.lower, &mut |_, found| again = Some(found));
                again.expect("one for one")?
            }
        };
        self.load_alone(ready)
    }

    fn load_alone(&mut self, ready: Ready) -> Result<CodePtr, Error> {
        let jit = self.jit;
        let link = |ready: Ready, pages: &mut Pages| {
            let (written, refers, made) = jit.write(std::slice::from_ref(&ready), pages)?;
            let made = made.into_iter().zip([ready]).map(|((unit, abi), ready)| Made::of(ready, unit, abi)).collect();
            jit.publish(vec![(written, refers)], &[made], self.purpose)
        };
        let (wanted, stored) = (ready.wanted.clone(), ready.stored);
        let mut codes = match link(ready, self.pages) {
            // What the store gave was no artifact that fits here, whatever its checksum said.
            Err(error) if stored && error.is_of_artifact(jit.0.space.bytes()) => {
                jit.0.counters.unusable();
                let job = Job { inner: &jit.0, unit: &self.units[wanted.at], wanted, lower: self.lower };
                link(jit.compile_now(job)?, self.pages)?
            }
            codes => codes?,
        };
        Ok(CodePtr::new(codes.pop().expect("one for one"), jit.0.clone()))
    }
}

impl Made {
    fn of(ready: Ready, unit: UnitId, abi: u64) -> Made {
        let Ready { wanted, bytes, stored } = ready;
        let saved_ns = stored.then(|| bytes.meta().compile_ns);
        Made { wanted, unit, abi, saved_ns, artifact: (!stored).then_some(bytes) }
    }

    fn definition(&self) -> Definition<'_> {
        let Wanted { name, digest, tier, .. } = &self.wanted;
        Definition { name, unit: self.unit, abi: self.abi, digest: *digest, tier: *tier }
    }
}

/// What was written, the stubs that it refers to, and of each unit the place in the table and the signature.
type Wrote = (Written, Vec<usize>, Vec<(UnitId, u64)>);

impl Jit {
    /// Writes artifacts into pages that cannot be executed yet.
    fn write(&self, ready: &[Ready], pages: &mut Pages) -> Result<Wrote, Error> {
        let inner = &*self.0;
        let environment = &inner.environment;
        let imports = &environment.imports;
        let mut batch = Batch::with_capacity(ready.len());
        let mut made = Vec::with_capacity(ready.len());
        let mut refers = Vec::with_capacity(ready.len());
        let expected = pages.expect(inner, ready);
        let mut table = self.table();
        table.reserve(expected);
        for one in ready {
            let name = &one.wanted.name;
            let view = View::parse(&one.bytes, environment.architecture).ok_or_else(|| Error::Unkept {
                function: name.clone(),
                reason: "its artifact is not of this format".to_owned(),
            })?;
            made.push((table.claim(imports, name, view.abi)?, view.abi));
            batch.function(name.clone(), view, |symbol| table.resolve(imports, name, symbol, &mut refers))?;
        }
        drop(table);
        let written = batch.write(|sections| pages.take(inner, sections), &environment.common_entry)?;
        Ok((written, refers, made))
    }

    fn publish(
        &self,
        parts: Vec<(Written, Vec<usize>)>,
        all: &[Vec<Made>],
        purpose: Purpose,
    ) -> Result<Vec<Arc<Code>>, Error> {
        let inner = &*self.0;
        let (written, refers): (Vec<Written>, Vec<Vec<usize>>) = parts.into_iter().unzip();
        let linked = Written::seal_all(written)?;
        let batches = linked.into_iter().zip(refers).zip(all).map(|((linked, refers), made)| {
            let definitions = made.iter().map(Made::definition).collect();
            Published { linked: Arc::new(linked), refers, definitions }
        });
        let batches = batches.collect();
        let codes = self.table().publish(&inner.environment.imports, batches, purpose)?;
        let stored = || all.iter().flatten().filter_map(|made| Some((made, made.saved_ns?)));
        let saved_ns = stored().fold(0, |sum: u64, (_, saved_ns)| sum.wrapping_add(saved_ns));
        inner.counters.store_hits(stored().count() as u64, saved_ns);
        if inner.hints.is_some() && purpose.is_request() {
            stored().for_each(|(made, _)| self.hint_hit(&made.wanted.digest));
        }
        Ok(codes)
    }
}

/// Where the code of one call goes.
pub(crate) struct Pages {
    /// Units that are still to be written.
    left: usize,
    room: Option<Room>,
}

impl Pages {
    /// For so many units.
    pub(crate) fn new(units: usize) -> Pages {
        Pages { left: units, room: None }
    }

    /// So many of them need none.
    pub(crate) fn passed_by(&mut self, units: usize) {
        self.left = self.left.saturating_sub(units);
    }

    /// Makes room for all code of the call, by what the first of it takes, if these are not all. Returns how many units are
    /// probably still to come, these included.
    fn expect(&mut self, inner: &Inner, ready: &[Ready]) -> usize {
        let left = self.left.max(ready.len());
        self.left = left - ready.len();
        if self.room.is_none() && self.left > 0 {
            let bytes: usize = ready.iter().map(|one| one.bytes.len()).sum();
            self.room = inner.space.room((bytes / ready.len().max(1)).saturating_mul(left));
        }
        left
    }

    fn take(&mut self, inner: &Inner, sections: Sections) -> Result<Fresh, NoPages> {
        if let Some(room) = &mut self.room {
            if let Some(fresh) = room.take(sections) {
                return Ok(fresh);
            }
            // More than was expected: what comes then gets room of its own.
            self.room = None;
        }
        let in_arenas = inner.arenas.lock().expect("no code panics under this lock").take(&inner.space, sections);
        in_arenas.map_or_else(|| inner.space.take(sections), Ok)
    }
}
