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
use hashbrown::hash_map::EntryRef;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

pub(crate) struct Table {
    stubs: Stubs,
    units: HashMap<Arc<str>, Entry>,
    /// Replaced or removed; code that began in them may still run.
    retired: Vec<Arc<Code>>,
    /// By the first address of their code.
    batches: BTreeMap<u64, Weak<Linked>>,
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

struct Entry {
    stub: usize,
    abi: u64,
    requests: u64,
    /// Of the youngest request that has decided what `current` is.
    decided: Ticket,
    current: Option<Current>,
}

/// The definition that calls lead to.
struct Current {
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
pub(crate) struct Definition {
    pub(crate) abi: u64,
    pub(crate) digest: Fingerprint,
    pub(crate) tier: usize,
    pub(crate) code: Code,
}

impl Table {
    pub(crate) fn new(stubs: Stubs) -> Table {
        let (ticket, cleared) = (Ticket::default(), Ticket::default());
        Table { stubs, units: HashMap::new(), retired: Vec::new(), batches: BTreeMap::new(), ticket, cleared }
    }

    /// One that is younger than all before.
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.ticket.0 += 1;
        self.ticket
    }

    /// Room for so many more units.
    pub(crate) fn reserve(&mut self, units: usize) {
        self.units.reserve(units);
    }

    /// Counts a request for the unit, if it is one, and says what there is of exactly this digest.
    pub(crate) fn request(&mut self, name: &str, digest: &Fingerprint, purpose: Purpose) -> Known {
        let counted = u64::from(purpose.is_request());
        let Some(entry) = self.units.get_mut(name) else {
            return Known { requests: counted, current: None, other: None };
        };
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
        Some(self.units.get(name)?.current.as_ref()?.code.clone())
    }

    /// Where a symbol leads that `function` refers to.
    pub(crate) fn resolve(
        &mut self,
        imports: &Imports,
        function: &Arc<str>,
        symbol: &Symbol<'_>,
    ) -> Result<Target, Error> {
        let not_listed = |name: &str| Error::NotListed { function: function.clone(), symbol: name.into() };
        match symbol.named {
            Named::Import(name) => {
                let import = imports.function(name).ok_or_else(|| not_listed(name))?;
                if import.abi != symbol.abi {
                    return Err(differs(function, name, symbol.abi, import.abi, Some(import.signature.to_string())));
                }
                Ok(import.target)
            }
            Named::Function(name) => {
                let entry = self.entry(name, symbol.abi)?;
                let (stub, abi) = (entry.stub, entry.abi);
                if abi != symbol.abi {
                    return Err(differs(function, name, symbol.abi, abi, None));
                }
                Ok(Target::inside(self.stubs.address(stub)))
            }
            Named::Object(name) => imports.object(name).ok_or_else(|| not_listed(name)),
            Named::LibCall(name) => imports.lib_call(name).ok_or_else(|| not_listed(name)),
            // The linker resolves them by itself.
            Named::Itself | Named::Own(_) => Err(not_listed("itself")),
        }
    }

    /// Refuses a definition whose signature is not the one that others call the unit with.
    pub(crate) fn check_abi(&self, name: &Arc<str>, abi: u64) -> Result<(), Error> {
        match self.units.get(name) {
            Some(entry) if entry.abi != abi => Err(differs(name, name, abi, entry.abi, None)),
            _ => Ok(()),
        }
    }

    /// Makes the code the definition that calls of the unit lead to, and retires the one before. What was decided by a
    /// younger request stays, and so does, beside what is compiled ahead, whatever was asked for; then the code is its
    /// requester's alone. If another thread has defined the same meanwhile, that stays and is returned.
    pub(crate) fn define(
        &mut self,
        name: &Arc<str>,
        definition: Definition,
        purpose: Purpose,
    ) -> Result<Arc<Code>, Error> {
        let Definition { abi, digest, tier, code } = definition;
        let (ticket, cleared) = (purpose.ticket(), self.cleared);
        let entry = self.entry(name, abi)?;
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
        if entry.abi != abi {
            return Err(differs(name, name, abi, entry.abi, None));
        }
        entry.decided = entry.decided.max(ticket);
        let stub = entry.stub;
        let code = Arc::new(code);
        let before = entry.current.replace(Current { digest, tier, code: code.clone() });
        self.retired.extend(before.map(|before| before.code));
        self.stubs.lead(stub, code.placed().code.start);
        Ok(code)
    }

    /// Remembers a batch, so that its addresses can be looked up.
    pub(crate) fn add_batch(&mut self, linked: &Arc<Linked>) {
        let text = linked.text();
        // What was freed where the batch lies now would be found instead of it.
        let freed: Vec<u64> = self.batches.range(text.clone()).map(|(start, _)| *start).collect();
        for start in freed {
            self.batches.remove(&start);
        }
        self.batches.insert(text.start, Arc::downgrade(linked));
    }

    /// Retires the unit's code. Calls of it lead nowhere from now on, and requests that are under way do not bring it back.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let ticket = self.ticket();
        let Some(entry) = self.units.get_mut(name) else { return false };
        entry.decided = ticket;
        let Some(before) = entry.current.take() else { return false };
        self.stubs.lead_nowhere(entry.stub);
        self.retired.push(before.code);
        true
    }

    /// Retires the code of all units, as `remove` does.
    pub(crate) fn remove_all(&mut self) {
        self.cleared = self.ticket();
        for entry in self.units.values_mut() {
            if let Some(before) = entry.current.take() {
                self.stubs.lead_nowhere(entry.stub);
                self.retired.push(before.code);
            }
        }
    }

    /// What was replaced or removed; whoever drops it vouches that it does not run.
    pub(crate) fn take_retired(&mut self) -> Vec<Arc<Code>> {
        std::mem::take(&mut self.retired)
    }

    /// Units that others refer to and that have no code, by name.
    pub(crate) fn undefined(&self) -> Vec<String> {
        let without = self.units.iter().filter(|(_, entry)| entry.current.is_none());
        let mut names: Vec<String> = without.map(|(name, _)| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn locate(&self, address: u64) -> Option<Location> {
        let (_, batch) = self.batches.range(..=address).next_back()?;
        locate(&*batch.upgrade()?, address)
    }

    /// Bytes of code, and of the memory that it and its data take, retired ones included.
    pub(crate) fn bytes(&mut self) -> (u64, u64) {
        self.batches.retain(|_, batch| batch.strong_count() > 0);
        let live = self.batches.values().filter_map(Weak::upgrade);
        live.fold((0, 0), |(code, pages), batch| {
            let own: u64 = batch.functions().iter().map(|function| function.code.end - function.code.start).sum();
            (code + own, pages + batch.page_bytes())
        })
    }

    pub(crate) fn retired(&self) -> usize {
        self.retired.len()
    }

    fn entry(&mut self, name: &str, abi: u64) -> Result<&mut Entry, Error> {
        match self.units.entry_ref(name) {
            EntryRef::Occupied(entry) => Ok(entry.into_mut()),
            EntryRef::Vacant(entry) => {
                let stub = self.stubs.add().map_err(no_pages)?;
                Ok(entry.insert(Entry { stub, abi, requests: 0, decided: Ticket::default(), current: None }))
            }
        }
    }
}

fn differs(function: &Arc<str>, symbol: &str, used: u64, is: u64, is_text: Option<String>) -> Error {
    Error::Signature {
        function: function.clone(),
        symbol: symbol.into(),
        used: format!("a signature with hash {used:016x}"),
        is: is_text.unwrap_or_else(|| format!("one with hash {is:016x}")),
    }
}
