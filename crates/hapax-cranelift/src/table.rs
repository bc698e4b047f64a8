//! The units of a `Jit`: their stubs, what is current, what is retired. One structure behind one lock; knows no store and
//! compiles nothing.

use crate::artifact::{Named, Symbol};
use crate::code::{Code, Location, locate};
use crate::error::Error;
use crate::imports::Imports;
use crate::link::{Linked, Target, no_pages};
use crate::stubs::Stubs;
use hapax::Fingerprint;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};

pub(crate) struct Table {
    stubs: Stubs,
    /// By name, where in `entries`. None is ever removed.
    units: HashMap<Arc<str>, usize>,
    entries: Vec<Entry>,
    /// Replaced or removed; code that began in them may still run.
    retired: Vec<Arc<Code>>,
    /// By the first address of their code.
    batches: BTreeMap<u64, Loaded>,
    /// The last one that was given out.
    ticket: Ticket,
    /// No older ticket defines anything any more.
    cleared: Ticket,
}

/// When something was asked for: the younger of two requests for a unit decides what it is, whichever is done first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Ticket(u64);

/// Why a unit is compiled, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It was asked for, which is a use.
    Request(Ticket),
    /// It may be. To count that as a use would keep everything hot for good that once was.
    Ahead(Ticket),
}

impl Purpose {
    pub(crate) fn is_request(self) -> bool {
        matches!(self, Purpose::Request(_))
    }

    fn ticket(self) -> Ticket {
        let (Purpose::Request(ticket) | Purpose::Ahead(ticket)) = self;
        ticket
    }
}

/// A batch that may have been freed since.
struct Loaded {
    linked: Weak<Linked>,
    /// Stubs that its code refers to.
    refers: Box<[usize]>,
}

struct Entry {
    /// One stub for each ABI that the name was used with: code that calls it with another one than its definition has
    /// leads nowhere, instead of into it.
    stubs: SmallVec<[(u64, usize); 1]>,
    requests: u64,
    /// Of the youngest request that has decided what `current` is.
    decided: Ticket,
    current: Option<Current>,
}

/// The definition that calls lead to.
struct Current {
    abi: u64,
    stub: usize,
    digest: Fingerprint,
    tier: usize,
    code: Arc<Code>,
}

/// What is known of a unit before it is looked up.
pub(crate) struct Known {
    pub(crate) requests: u64,
    /// Its tier and its code.
    pub(crate) current: Option<(usize, Arc<Code>)>,
    /// What the name has instead, if that is not to be replaced.
    pub(crate) other: Option<Arc<Code>>,
}

/// What becomes the definition of a unit.
pub(crate) struct Definition<'a> {
    pub(crate) name: &'a Arc<str>,
    pub(crate) unit: UnitId,
    pub(crate) abi: u64,
    pub(crate) digest: Fingerprint,
    pub(crate) tier: usize,
}

/// A batch that may run from now on.
pub(crate) struct Published<'a> {
    pub(crate) linked: Arc<Linked>,
    /// Stubs that its code refers to.
    pub(crate) refers: Vec<usize>,
    /// In the order of its functions.
    pub(crate) definitions: Vec<Definition<'a>>,
}

/// A unit that has an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitId(usize);

impl Table {
    pub(crate) fn new(stubs: Stubs) -> Table {
        let (ticket, cleared) = (Ticket::default(), Ticket::default());
        let (units, entries) = (HashMap::new(), Vec::new());
        Table { stubs, units, entries, retired: Vec::new(), batches: BTreeMap::new(), ticket, cleared }
    }

    /// One that is younger than all before.
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.ticket.0 += 1;
        self.ticket
    }

    /// Room for so many more units, which are about to be defined.
    pub(crate) fn reserve(&mut self, units: usize) {
        self.units.reserve(units);
        self.entries.reserve(units);
        self.stubs.reserve(units);
    }

    /// Counts a request for the unit, if it is one, and says what there is of exactly this digest.
    pub(crate) fn request(&mut self, name: &str, digest: &Fingerprint, purpose: Purpose) -> Known {
        let counted = u64::from(purpose.is_request());
        let Some(unit) = self.units.get(name) else {
            return Known { requests: counted, current: None, other: None };
        };
        let entry = &mut self.entries[*unit];
        entry.requests += counted;
        let requests = entry.requests;
        match &entry.current {
            Some(current) if current.digest == *digest => {
                if purpose.is_request() {
                    entry.decided = entry.decided.max(purpose.ticket());
                }
                Known { requests, current: Some((current.tier, current.code.clone())), other: None }
            }
            Some(current) if !purpose.is_request() => {
                Known { requests, current: None, other: Some(current.code.clone()) }
            }
            _ => Known { requests, current: None, other: None },
        }
    }

    /// The current code of the unit.
    pub(crate) fn code(&self, name: &str) -> Option<Arc<Code>> {
        Some(self.entries[*self.units.get(name)?].current.as_ref()?.code.clone())
    }

    /// Where a symbol leads that `function` refers to. If it is a unit, its stub is added to `refers`.
    pub(crate) fn resolve(
        &mut self,
        imports: &Imports,
        function: &Arc<str>,
        symbol: &Symbol<'_>,
        refers: &mut Vec<usize>,
    ) -> Result<Target, Error> {
        let not_listed = |name: &str| Error::NotListed { function: function.clone(), symbol: name.into() };
        match symbol.named {
            Named::Import(name) => {
                let import = imports.function(name).ok_or_else(|| not_listed(name))?;
                if import.abi != symbol.abi {
                    return Err(imports.differs(function, name, symbol.abi, import.abi));
                }
                Ok(import.target)
            }
            Named::Function(name) => {
                let unit = self.unit(name);
                let stub = self.stub(unit, symbol.abi)?;
                let entry = &self.entries[unit];
                if let Some(abi) = entry.other_abi(symbol.abi) {
                    return Err(imports.differs(function, name, symbol.abi, abi));
                }
                refers.push(stub);
                Ok(Target::inside(self.stubs.address(stub)))
            }
            Named::Object(name) => imports.object(name).ok_or_else(|| not_listed(name)),
            Named::LibCall(name) => imports.lib_call(name).ok_or_else(|| Error::no_lib_call(function, name)),
            // The linker resolves them by itself.
            Named::Itself | Named::Own(_) => Err(not_listed("itself")),
        }
    }

    /// The unit that is to be defined with that signature. Refused if it is not that of the current definition, which others
    /// call.
    pub(crate) fn claim(&mut self, imports: &Imports, name: &Arc<str>, abi: u64) -> Result<UnitId, Error> {
        let entries = &mut self.entries;
        let unit = *self.units.entry(name.clone()).or_insert_with(|| add_entry(entries));
        let other = self.entries[unit].other_abi(abi);
        other.map_or(Ok(UnitId(unit)), |other| Err(imports.differs(name, name, abi, other)))
    }

    /// Makes the functions of all these batches the definitions of their units.
    pub(crate) fn publish(
        &mut self,
        imports: &Imports,
        batches: Vec<Published<'_>>,
        purpose: Purpose,
    ) -> Result<Vec<Arc<Code>>, Error> {
        for Definition { name, unit, abi, .. } in batches.iter().flat_map(|batch| &batch.definitions) {
            self.stub(unit.0, *abi)?;
            let entry = &self.entries[unit.0];
            // What refers to a unit of these with another ABI is refused as if it came after it.
            let is_used = |stub: &usize| batches.iter().any(|batch| batch.refers.contains(stub));
            let wrong = entry.stubs.iter().find(|(other, stub)| other != abi && is_used(stub));
            if let Some((other, _)) = wrong {
                return Err(imports.differs(name, name, *other, *abi));
            }
        }
        let mut codes = Vec::with_capacity(batches.iter().map(|batch| batch.definitions.len()).sum());
        for Published { linked, refers, definitions } in batches {
            self.add_batch(&linked, refers);
            for (number, definition) in definitions.into_iter().enumerate() {
                let code = Code { linked: linked.clone(), number };
                codes.push(self.define(imports, definition, code, purpose)?);
            }
        }
        Ok(codes)
    }

    /// Makes the code the definition that calls of the unit lead to, and retires the one before. What was decided by a
    /// younger request stays, and so does, beside what is compiled ahead, whatever was asked for; then the code is its
    /// requester's alone. If another thread has defined the same meanwhile, that stays and is returned.
    fn define(
        &mut self,
        imports: &Imports,
        definition: Definition<'_>,
        code: Code,
        purpose: Purpose,
    ) -> Result<Arc<Code>, Error> {
        let Definition { name, unit: UnitId(unit), abi, digest, tier } = definition;
        let (ticket, cleared) = (purpose.ticket(), self.cleared);
        let stub = self.stub(unit, abi)?;
        let entry = &mut self.entries[unit];
        entry.requests = entry.requests.max(u64::from(purpose.is_request()));
        if let Some(same) = entry.current.as_ref().filter(|same| same.digest == digest) {
            if purpose.is_request() {
                entry.decided = entry.decided.max(ticket);
            }
            if same.tier >= tier {
                return Ok(same.code.clone());
            }
        } else if ticket < entry.decided.max(cleared) || !purpose.is_request() && entry.current.is_some() {
            return Ok(Arc::new(code));
        }
        if let Some(other) = entry.other_abi(abi) {
            return Err(imports.differs(name, name, abi, other));
        }
        entry.decided = entry.decided.max(ticket);
        let code = Arc::new(code);
        let before = entry.current.replace(Current { abi, stub, digest, tier, code: code.clone() });
        self.retired.extend(before.map(|before| before.code));
        self.stubs.lead(stub, code.placed().code.start);
        Ok(code)
    }

    /// Remembers a batch, so that its addresses can be looked up, and the stubs that it refers to.
    pub(crate) fn add_batch(&mut self, linked: &Arc<Linked>, refers: Vec<usize>) {
        let text = linked.text();
        // What was freed where the batch lies now would be found instead of it.
        let freed: Vec<u64> = self.batches.range(text.clone()).map(|(start, _)| *start).collect();
        for start in freed {
            self.batches.remove(&start);
        }
        let loaded = Loaded { linked: Arc::downgrade(linked), refers: refers.into_boxed_slice() };
        self.batches.insert(text.start, loaded);
    }

    /// Retires the unit's code. Calls of it lead nowhere from now on, and requests that are under way do not bring it back.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let ticket = self.ticket();
        let Some(unit) = self.units.get(name) else { return false };
        let entry = &mut self.entries[*unit];
        entry.decided = ticket;
        let Some(before) = entry.current.take() else { return false };
        self.stubs.lead_nowhere(before.stub);
        self.retired.push(before.code);
        true
    }

    /// Retires the code of all units, as `remove` does.
    pub(crate) fn remove_all(&mut self) {
        self.cleared = self.ticket();
        for entry in &mut self.entries {
            if let Some(before) = entry.current.take() {
                self.stubs.lead_nowhere(before.stub);
                self.retired.push(before.code);
            }
        }
    }

    /// What was replaced or removed; whoever drops it vouches that it does not run.
    pub(crate) fn take_retired(&mut self) -> Vec<Arc<Code>> {
        std::mem::take(&mut self.retired)
    }

    /// Units that code in memory refers to and that have no code of that ABI, and what was removed and may still run; by name.
    pub(crate) fn undefined(&self) -> Vec<String> {
        let alive = self.batches.values().filter(|batch| batch.linked.strong_count() > 0);
        let referred: HashSet<usize> = alive.flat_map(|batch| batch.refers.iter().copied()).collect();
        let retired: HashSet<&str> = self.retired.iter().map(|code| &*code.placed().name).collect();
        let leads_nowhere = |(name, unit): &(&Arc<str>, &usize)| {
            let entry = &self.entries[**unit];
            let current = entry.current.as_ref().map(|current| current.stub);
            current.is_none() && retired.contains(&***name)
                || entry.stubs.iter().any(|(_, stub)| Some(*stub) != current && referred.contains(stub))
        };
        let mut names: Vec<String> =
            self.units.iter().filter(leads_nowhere).map(|(name, _)| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn locate(&self, address: u64) -> Option<Location> {
        let (_, batch) = self.batches.range(..=address).next_back()?;
        locate(&*batch.linked.upgrade()?, address)
    }

    /// Bytes of code, and of the memory that it and its data take, retired ones included.
    pub(crate) fn bytes(&mut self) -> (u64, u64) {
        self.batches.retain(|_, batch| batch.linked.strong_count() > 0);
        let live = self.batches.values().filter_map(|batch| batch.linked.upgrade());
        live.fold((0, 0), |(code, pages), batch| {
            let own: u64 = batch.functions().iter().map(|function| function.code.end - function.code.start).sum();
            (code + own, pages + batch.page_bytes())
        })
    }

    pub(crate) fn retired(&self) -> usize {
        self.retired.len()
    }

    /// The unit of that name, which is there from now on.
    fn unit(&mut self, name: &str) -> usize {
        let entries = &mut self.entries;
        *self.units.entry_ref(name).or_insert_with(|| add_entry(entries))
    }

    /// The stub through which code calls a unit with that ABI.
    fn stub(&mut self, unit: usize, abi: u64) -> Result<usize, Error> {
        let stubs = &mut self.entries[unit].stubs;
        if let Some((_, stub)) = stubs.iter().find(|(known, _)| *known == abi) {
            return Ok(*stub);
        }
        let stub = self.stubs.add().map_err(no_pages)?;
        stubs.push((abi, stub));
        Ok(stub)
    }
}

/// The place of a new one.
fn add_entry(entries: &mut Vec<Entry>) -> usize {
    entries.push(Entry { stubs: SmallVec::new(), requests: 0, decided: Ticket::default(), current: None });
    entries.len() - 1
}

impl Entry {
    /// The ABI of the definition, if that is another one.
    fn other_abi(&self, abi: u64) -> Option<u64> {
        self.current.as_ref().map(|current| current.abi).filter(|current| *current != abi)
    }
}
