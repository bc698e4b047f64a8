//! Policies that the cache does not have, simulated for comparison. Entries keep the bytes that they came in with, and
//! what is larger than the budget is not let in.

use crate::replay::{Request, Tally};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// First in, first out.
pub fn fifo(requests: &[Request], budget_bytes: u64) -> Tally {
    let (mut resident, mut queue) = (HashMap::new(), VecDeque::new());
    let (mut used, mut tally) = (0, Tally::default());
    for request in requests {
        let missed = !resident.contains_key(&request.key);
        tally.count(request, missed);
        if !missed || request.bytes > budget_bytes {
            continue;
        }
        while used + request.bytes > budget_bytes {
            let victim = queue.pop_front().expect("what is used is queued");
            used -= resident.remove(&victim).expect("what is queued is resident");
        }
        used += request.bytes;
        resident.insert(request.key, request.bytes);
        queue.push_back(request.key);
    }
    tally
}

/// SIEVE: a hand goes from the oldest to the newest, spares once what was used since it came by, and evicts the rest
/// (Zhang, Yang, Yue, Vigfusson and Rashmi, NSDI 2024).
pub fn sieve(requests: &[Request], budget_bytes: u64) -> Tally {
    struct Entry {
        bytes: u64,
        used: bool,
        arrival: u64,
    }
    let mut resident: HashMap<u64, Entry> = HashMap::new();
    let mut arrivals: BTreeSet<(u64, u64)> = BTreeSet::new();
    let (mut hand, mut used, mut tally) = ((0, 0), 0, Tally::default());
    for (arrival, request) in (0..).zip(requests) {
        let entry = resident.get_mut(&request.key);
        tally.count(request, entry.is_none());
        if let Some(entry) = entry {
            entry.used = true;
            continue;
        }
        if request.bytes > budget_bytes {
            continue;
        }
        while used + request.bytes > budget_bytes {
            let at = arrivals.range(hand..).next().or(arrivals.first()).copied().expect("what is used has arrived");
            hand = (at.0, at.1 + 1);
            let entry = resident.get_mut(&at.1).expect("what has arrived is resident");
            if std::mem::take(&mut entry.used) {
                continue;
            }
            used -= entry.bytes;
            arrivals.remove(&(entry.arrival, at.1));
            resident.remove(&at.1);
        }
        used += request.bytes;
        resident.insert(request.key, Entry { bytes: request.bytes, used: false, arrival });
        arrivals.insert((arrival, request.key));
    }
    tally
}

/// GDSF with cost: GreedyDual by size and frequency, *H = L + uses * cost / bytes*, uses never forgotten while resident
/// (Cherkasova, HP Laboratories 1998).
pub fn gdsf(requests: &[Request], budget_bytes: u64) -> Tally {
    struct Entry {
        bytes: u64,
        uses: f64,
        place: (u64, u64),
    }
    let mut resident: HashMap<u64, Entry> = HashMap::new();
    let mut order: BTreeSet<(u64, u64, u64)> = BTreeSet::new();
    let (mut clock, mut used, mut tally) = (0.0, 0, Tally::default());
    for (time, request) in (0..).zip(requests) {
        // Positive floats compare as their bits do.
        let place = |clock: f64, uses: f64, bytes: u64| {
            let worth = clock + uses * request.cost_ns.max(1) as f64 / bytes as f64;
            (worth.to_bits(), time)
        };
        let entry = resident.get_mut(&request.key);
        tally.count(request, entry.is_none());
        if let Some(entry) = entry {
            order.remove(&(entry.place.0, entry.place.1, request.key));
            entry.uses += 1.0;
            entry.place = place(clock, entry.uses, entry.bytes);
            order.insert((entry.place.0, entry.place.1, request.key));
            continue;
        }
        if request.bytes > budget_bytes {
            continue;
        }
        while used + request.bytes > budget_bytes {
            let (worth, _, victim) = order.pop_first().expect("what is used is in order");
            clock = f64::from_bits(worth);
            used -= resident.remove(&victim).expect("what is in order is resident").bytes;
        }
        used += request.bytes;
        let place = place(clock, 1.0, request.bytes);
        resident.insert(request.key, Entry { bytes: request.bytes, uses: 1.0, place });
        order.insert((place.0, place.1, request.key));
    }
    tally
}
