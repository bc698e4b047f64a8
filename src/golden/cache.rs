//! The cache's index, with its core and a policy, as the model's caller sees it.

use super::{Digest, Random, Subject, compare_all_traces, compare_random_sessions, replay_traces};
use crate::cache::flight::Patience;
use crate::cache::index::{Found, Index, Take};
use crate::cache::options::Mode;
use crate::cache::policy::camp::Camp;
use crate::cache::policy::chosen::Chosen;
use crate::cache::policy::{Order, Policy};
use crate::cache::slot::Stored;
use crate::device::stream::StreamSet;
use crate::error::Error;
use std::collections::BTreeMap;

/// A handle, known by its number.
struct Token {
    number: u64,
    bytes: u64,
}

impl Stored for Token {
    type View = u64;

    fn charge_bytes(&self, _: u64) -> u64 {
        self.bytes
    }

    fn view(&self) -> u64 {
        self.number
    }

    fn lend(&mut self, _: StreamSet) -> bool {
        false
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Get { key: u32 },
    Lookup { key: u32 },
    Reserve { key: u32, bytes: u64 },
    Unreserve { key: u32 },
    MoreRoom { key: u32 },
    Commit { key: u32, bytes: u64, cost_ns: u64 },
    Close { key: u32 },
    Insert { key: u32, bytes: u64, cost_ns: u64 },
    Share { nth: usize },
    Release { nth: usize },
    Remove { key: u32 },
    Retire { key: u32 },
    Collect,
    Clear,
    Drain,
    SetBudget { bytes: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    Hit(u64),
    Miss,
    Opened,
    Busy,
    Oversize,
    /// What is said to be held.
    NoRoom(u64),
    NoEntry,
    OverReservation,
    BudgetHeld(u64),
    Leased,
    BeingFilled,
    Absent,
}

pub(super) struct Answer {
    verdict: Verdict,
    /// What left, in order; the value of a refused call.
    left: Vec<u64>,
}

struct Vacancy {
    slot: u32,
    reserved: Option<u64>,
}

/// An order as a session begins with it: that of a cache with such options, unless said otherwise.
pub(super) trait Begins {
    type Order: Order;
    const MODE: Mode = Mode::Exact;
    fn order() -> Self::Order;
}

struct ByUse;
struct ByCost;
/// The model's numbers grow for ever; here they are made small again at almost every eviction.
struct ByCostRebased;

impl Begins for ByUse {
    type Order = Chosen;
    fn order() -> Chosen {
        Policy::Lru.into()
    }
}

impl Begins for ByCost {
    type Order = Chosen;
    fn order() -> Chosen {
        Policy::Camp.into()
    }
}

impl Begins for ByCostRebased {
    type Order = Camp;
    fn order() -> Camp {
        Camp::rebasing_at(1 << 18)
    }
}

pub(super) struct Session<B: Begins> {
    index: Index<u32, Token, B::Order>,
    /// Slot and handle of each lease, oldest first.
    leases: Vec<(u32, u64)>,
    vacancies: BTreeMap<u32, Vacancy>,
    /// The key that each handle was offered for, and whether it is back. Handle `n` is the `n - 1`th.
    offered: Vec<(u32, bool)>,
}

impl Verdict {
    /// Number and name, as `proofs/oracle` has them, and what is compared of what it carries.
    fn parts(self) -> (u64, &'static str, Option<u64>) {
        match self {
            Verdict::Done => (0, "done", None),
            Verdict::Hit(handle) => (1, "hit", Some(handle)),
            Verdict::Miss => (2, "miss", None),
            Verdict::Opened => (3, "opened", None),
            Verdict::Busy => (4, "busy", None),
            Verdict::Oversize => (5, "oversize", None),
            Verdict::NoRoom(_) => (6, "no-room", None), // a bound: see `agrees`
            Verdict::NoEntry => (7, "no-entry", None),
            Verdict::OverReservation => (8, "over-reservation", None),
            Verdict::BudgetHeld(held) => (9, "budget-held", Some(held)),
            Verdict::Leased => (10, "leased", None),
            Verdict::BeingFilled => (11, "being-filled", None),
            Verdict::Absent => (12, "absent", None),
        }
    }
}

impl From<Error> for Verdict {
    fn from(error: Error) -> Self {
        match error {
            Error::Oversize { .. } => Verdict::Oversize,
            Error::NoRoom { need_bytes, held_bytes, budget_bytes } => {
                assert!(need_bytes + held_bytes > budget_bytes, "no room, it says: {error}");
                Verdict::NoRoom(held_bytes)
            }
            Error::NoEntry { .. } => Verdict::NoEntry,
            Error::BudgetHeld { held_bytes, .. } => Verdict::BudgetHeld(held_bytes),
            Error::Leased => Verdict::Leased,
            Error::BeingFilled => Verdict::BeingFilled,
            other => panic!("the index does not say: {other}"),
        }
    }
}

impl<B: Begins> Session<B> {
    fn offer(&mut self, key: u32, bytes: u64) -> Token {
        self.offered.push((key, false));
        Token { number: self.offered.len() as u64, bytes }
    }

    /// Takes handles back, each for the first time and with its own key.
    fn take_back(&mut self, left: impl IntoIterator<Item = (u32, Token)>) -> Vec<u64> {
        let back = |(key, token): (u32, Token)| {
            let (offered_for, back) = &mut self.offered[token.number as usize - 1];
            assert_eq!(*offered_for, key, "handle {} came back under another key", token.number);
            assert!(!std::mem::replace(back, true), "handle {} came back twice", token.number);
            token.number
        };
        left.into_iter().map(back).collect()
    }

    fn done(&mut self, left: impl IntoIterator<Item = (u32, Token)>) -> Answer {
        Answer { verdict: Verdict::Done, left: self.take_back(left) }
    }

    fn hit(&mut self, slot: u32, handle: u64) -> Answer {
        self.leases.push((slot, handle));
        Answer { verdict: Verdict::Hit(handle), left: Vec::new() }
    }

    fn vacancy(&mut self, key: u32) -> &mut Vacancy {
        self.vacancies.get_mut(&key).expect("a possible call")
    }

    /// Resident rows as the golden files have them: key, charge, cost, whether leased.
    fn rows(&self) -> Vec<[u64; 4]> {
        let row = |row: crate::cache::core::Row<u32>| {
            [u64::from(row.key), row.charge_bytes, row.cost_ns, u64::from(row.leased)]
        };
        self.index.rows().into_iter().map(row).collect()
    }

    fn figures(&self) -> [u64; 9] {
        let figures = self.index.figures();
        let counted = figures.counters;
        [
            figures.retired.bytes,
            figures.retired.entries as u64,
            figures.reserved.bytes,
            figures.reserved.entries as u64,
            figures.budget_bytes,
            counted.hits,
            counted.misses,
            counted.evictions,
            counted.rejections,
        ]
    }
}

impl<B: Begins> Subject for Session<B> {
    type Op = Op;
    type Answer = Answer;

    /// `budget BYTES most ENTRIES`.
    fn open(header: &[&str]) -> Self {
        let [_, budget, _, most] = header else { panic!("not a header: {header:?}") };
        let (bytes, entries) = (budget.parse().expect("bytes"), most.parse().expect("entries"));
        let index = Index::in_mode(B::MODE, B::order(), bytes, entries, 1);
        Session { index, leases: Vec::new(), vacancies: BTreeMap::new(), offered: Vec::new() }
    }

    fn parse(text: &str) -> Op {
        let mut words = text.split(' ');
        let name = words.next().expect("a call has a name");
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
        match name {
            "get" => Op::Get { key: number() as u32 },
            "lookup" => Op::Lookup { key: number() as u32 },
            "reserve" => Op::Reserve { key: number() as u32, bytes: number() },
            "unreserve" => Op::Unreserve { key: number() as u32 },
            "more-room" => Op::MoreRoom { key: number() as u32 },
            "commit" => Op::Commit { key: number() as u32, bytes: number(), cost_ns: number() },
            "close" => Op::Close { key: number() as u32 },
            "insert" => Op::Insert { key: number() as u32, bytes: number(), cost_ns: number() },
            "share" => Op::Share { nth: number() as usize },
            "release" => Op::Release { nth: number() as usize },
            "remove" => Op::Remove { key: number() as u32 },
            "retire" => Op::Retire { key: number() as u32 },
            "collect" => Op::Collect,
            "clear" => Op::Clear,
            "drain" => Op::Drain,
            "set-budget" => Op::SetBudget { bytes: number() },
            _ => panic!("no such call: {text}"),
        }
    }

    /// The public types allow no more: a commit needs a reservation, a release a lease.
    fn possible(&self, op: &Op) -> bool {
        let reserved = |key: &u32| self.vacancies.get(key).map(|vacancy| vacancy.reserved.is_some());
        match op {
            Op::Share { nth } | Op::Release { nth } => *nth < self.leases.len(),
            Op::Reserve { key, .. } => reserved(key) == Some(false),
            Op::Unreserve { key } | Op::MoreRoom { key } | Op::Commit { key, .. } => reserved(key) == Some(true),
            Op::Close { key } => reserved(key).is_some(),
            _ => true,
        }
    }

    fn apply(&mut self, op: &Op) -> Answer {
        let plain = |verdict| Answer { verdict, left: Vec::new() };
        match *op {
            Op::Get { key } => match self.index.get(&key, StreamSet::EMPTY) {
                Some(hit) => {
                    let (slot, handle) = (hit.slot, hit.view);
                    self.hit(slot, handle)
                }
                None => plain(Verdict::Miss),
            },
            Op::Lookup { key } => match self.index.lookup(&key, StreamSet::EMPTY, Patience::Never) {
                Ok(Found::Hit(hit)) => {
                    let (slot, handle) = (hit.slot, hit.view);
                    self.hit(slot, handle)
                }
                Ok(Found::Miss(slot)) => {
                    self.vacancies.insert(key, Vacancy { slot, reserved: None });
                    plain(Verdict::Opened)
                }
                Ok(Found::Busy) => plain(Verdict::Busy),
                Err(error) => panic!("nothing waits: {error}"),
            },
            Op::Reserve { key, bytes } => match self.index.reserve(bytes) {
                Ok(left) => {
                    self.vacancy(key).reserved = Some(bytes);
                    self.done(left)
                }
                Err(error) => plain(error.into()),
            },
            Op::Unreserve { key } => {
                let bytes = self.vacancy(key).reserved.take().expect("a possible call");
                self.index.unreserve(bytes);
                plain(Verdict::Done)
            }
            Op::MoreRoom { key } => {
                let bytes = self.vacancy(key).reserved.expect("a possible call");
                let left = self.index.evict_bytes(bytes);
                self.done(left)
            }
            Op::Commit { key, bytes, cost_ns } => {
                let token = self.offer(key, bytes);
                let (slot, reserved) = (self.vacancy(key).slot, self.vacancy(key).reserved.expect("a possible call"));
                // As `Reservation::commit` does, which stands above the index.
                if bytes > reserved {
                    self.index.reject();
                    return Answer { verdict: Verdict::OverReservation, left: self.take_back([(key, token)]) };
                }
                self.vacancies.remove(&key);
                let handle = self.index.commit(slot, token, reserved, cost_ns, StreamSet::EMPTY).view;
                self.hit(slot, handle)
            }
            Op::Close { key } => {
                let Vacancy { slot, reserved } = self.vacancies.remove(&key).expect("a possible call");
                if let Some(bytes) = reserved {
                    self.index.unreserve(bytes);
                }
                self.index.close(slot);
                plain(Verdict::Done)
            }
            Op::Insert { key, bytes, cost_ns } => {
                let mut token = Some(self.offer(key, bytes));
                match self.index.insert(key, bytes, cost_ns, || token.take().expect("taken once")) {
                    Ok(left) => self.done(left),
                    Err((key, error)) => {
                        let token = token.expect("a refused value is not taken");
                        Answer { verdict: error.into(), left: self.take_back([(key, token)]) }
                    }
                }
            }
            Op::Share { nth } => {
                self.index.share(self.leases[nth].0);
                self.leases.push(self.leases[nth]);
                plain(Verdict::Done)
            }
            Op::Release { nth } => {
                self.index.release(self.leases.remove(nth).0);
                plain(Verdict::Done)
            }
            Op::Remove { key } => match self.index.remove(&key) {
                Take::Absent => plain(Verdict::Absent),
                Take::Leased => plain(Verdict::Leased),
                Take::Taken(key, token) => self.done([(key, token)]),
            },
            Op::Retire { key } => {
                let left = self.index.retire(&key);
                self.done(left)
            }
            Op::Collect => {
                let left = self.index.collect();
                self.done(left)
            }
            Op::Clear => {
                let left = self.index.clear();
                self.done(left)
            }
            Op::Drain => {
                let left = self.index.drain();
                self.done(left)
            }
            Op::SetBudget { bytes } => match self.index.set_budget_bytes(bytes) {
                Ok(left) => self.done(left),
                Err(error) => plain(error.into()),
            },
        }
    }

    fn observe(&self, answer: &Answer, digest: &mut Digest) {
        let (code, _, carried) = answer.verdict.parts();
        digest.fold(code);
        digest.fold_all(carried.as_slice());
        digest.fold_all(&answer.left);
        let rows = self.rows();
        digest.fold(rows.len() as u64);
        rows.iter().flatten().chain(&self.figures()).for_each(|&number| digest.fold(number));
    }

    fn line(&self, answer: &Answer) -> String {
        let (_, name, carried) = answer.verdict.parts();
        let verdict = carried.map_or(name.to_owned(), |carried| format!("{name} {carried}"));
        let rows: Vec<String> =
            self.rows().iter().map(|[key, bytes, cost, leased]| format!("{key}:{bytes}:{cost}:{leased}")).collect();
        let bound = match answer.verdict {
            Verdict::NoRoom(held) => format!(" ; held {held}"),
            _ => String::new(),
        };
        let (left, order, figures) = (words(&answer.left), rows.join(" "), words(&self.figures()));
        format!("{verdict} ; out {left} ; order {order} ; figures {figures}{bound}")
    }

    /// A refusal may know of enough before it knows of all that is held.
    fn agrees(&self, seen: &str, expected: &str) -> bool {
        match (seen.split_once(" ; held "), expected.split_once(" ; held ")) {
            (Some((seen, known)), Some((expected, held))) => {
                seen == expected && known.parse::<u64>().expect("bytes") <= held.parse().expect("bytes")
            }
            _ => seen == expected,
        }
    }

    fn draw(&self, random: &mut Random) -> Op {
        let weight = random.draw(1000);
        let n = random.draw(640);
        let (kind, most) = (random.draw(16), random.draw(60));
        let bytes = match kind {
            0 => 0,
            1 => most,
            _ => 1 + most % 12,
        };
        let (kind, most) = (random.draw(4), random.draw(200_000));
        let cost_ns = match kind {
            0 => 0,
            1 => most % 100,
            2 => most % 5_000,
            _ => most,
        };
        let nth = n as usize % self.leases.len().max(1);
        let any = (n % 10) as u32;
        let vacant = self.vacancies.keys().nth(n as usize % self.vacancies.len().max(1)).copied().unwrap_or(any);
        match weight {
            0..240 => Op::Insert { key: any, bytes, cost_ns },
            240..330 => Op::Get { key: any },
            330..430 => Op::Lookup { key: any },
            430..520 => Op::Reserve { key: vacant, bytes },
            520..600 => Op::Commit { key: vacant, bytes: bytes % 13, cost_ns },
            600..625 => Op::Close { key: vacant },
            625..635 => Op::Unreserve { key: vacant },
            635..660 => Op::MoreRoom { key: vacant },
            660..860 => Op::Release { nth },
            860..880 => Op::Share { nth },
            880..905 => Op::Remove { key: any },
            905..935 => Op::Retire { key: any },
            935..955 => Op::Collect,
            955..958 => Op::Clear,
            958..960 => Op::Drain,
            _ => Op::SetBudget { bytes: 1 + bytes + n % 50 },
        }
    }

    /// And whether the index says of one entry what it says of all.
    fn validate(&self) {
        self.index.validate();
        for &(slot, handle) in &self.leases {
            let key = self.offered[handle as usize - 1].0;
            assert!(self.index.is_key(slot, &key) && !self.index.is_key(slot, &(key + 1)), "handle {handle}");
            let (bytes, cost_ns) = self.index.weight(slot);
            assert_eq!(bytes, self.index.with_value(slot, |token| token.bytes));
            // Retired, it has no cost, and its key may be another entry's.
            assert!(cost_ns == 0 || self.index.peek(&key) == Some((bytes, cost_ns, true)), "handle {handle}");
        }
        let rows = self.rows();
        for key in 0..10 {
            let row = rows.iter().find(|row| row[0] == u64::from(key));
            let peeked =
                self.index.peek(&key).map(|(bytes, cost, leased)| [u64::from(key), bytes, cost, u64::from(leased)]);
            assert_eq!(peeked.as_ref(), row);
        }
        let leased: u64 = rows.iter().filter(|row| row[3] == 1).map(|row| row[1]).sum();
        let figures = self.index.figures();
        assert_eq!((figures.leased_bytes, figures.resident.entries), (leased, rows.len()));
        assert_eq!(figures.resident.bytes, rows.iter().map(|row| row[1]).sum::<u64>());
        #[cfg(feature = "persist")]
        assert_eq!(
            self.index.room_bytes() + figures.resident.bytes + figures.retired.bytes + figures.reserved.bytes,
            figures.budget_bytes
        );
    }

    /// Ends every lease and vacancy, empties the index, and asks where each handle went.
    fn finish(mut self) {
        for (slot, _) in std::mem::take(&mut self.leases) {
            self.index.release(slot);
        }
        for (_, Vacancy { slot, reserved }) in std::mem::take(&mut self.vacancies) {
            reserved.into_iter().for_each(|bytes| self.index.unreserve(bytes));
            self.index.close(slot);
        }
        let left = self.index.drain();
        self.take_back(left);
        self.index.validate();
        let lost: Vec<usize> = (0..self.offered.len()).filter(|&handle| !self.offered[handle].1).collect();
        assert!(lost.is_empty(), "handles lost: {lost:?}");
    }
}

fn words(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// The comparisons lean on it, so it must not say yes to everything.
#[test]
#[should_panic(expected = "resident")]
fn validation_notices_a_charge_that_changed_under_the_index() {
    let mut session = Session::<ByUse>::open(&["budget", "8", "most", "9"]);
    session.apply(&Op::Insert { key: 0, bytes: 3, cost_ns: 0 });
    session.apply(&Op::Get { key: 0 });
    session.index.change_value(session.leases[0].0, |token| token.bytes += 1);
    session.index.validate();
}

/// The comparisons of one policy with the model's policy of that name.
macro_rules! compared {
    ($begins:ty, $name:literal, $($test:ident),*) => {
        $(compared!(@ $test, $begins, $name);)*
    };
    (@ traces, $begins:ty, $name:literal) => {
        #[test]
        fn printed_traces_are_those_of_the_model() {
            replay_traces::<Session<$begins>>(concat!("cache-", $name, "-traces.txt"));
        }
    };
    (@ all, $begins:ty, $name:literal) => {
        #[test]
        fn every_short_trace_from_every_named_state_is_that_of_the_model() {
            let explain = concat!("proofs/build/cache_oracle explain ", $name);
            compare_all_traces::<Session<$begins>>(concat!("cache-", $name, "-digests.txt"), explain);
        }
    };
    (@ random, $begins:ty, $name:literal) => {
        #[test]
        fn a_hundred_thousand_random_calls_are_those_of_the_model() {
            compare_random_sessions::<Session<$begins>>(concat!("cache-", $name, "-digests.txt"), 100_000);
        }
    };
}

mod lru {
    use super::*;
    compared!(ByUse, "lru", traces, all, random);
}

mod camp {
    use super::*;
    compared!(ByCost, "camp", traces, all, random);
}

mod camp_rebased {
    use super::*;
    compared!(ByCostRebased, "camp", traces, all, random);
}
