//! The suballocator, as the model's caller sees it.

use super::{Digest, Random, Subject, compare_all_traces, compare_random_sessions, replay_traces};
use crate::suballoc::Suballoc;

#[derive(Debug, Clone, Copy)]
enum Op {
    Add { region: usize },
    Withdraw { region: usize },
    Alloc { bytes: u64, align: u64 },
    Free { nth: usize },
}

struct Session {
    suballoc: Suballoc,
    regions: Vec<(u64, u64)>,
    /// Which regions the suballocator has.
    given: Vec<bool>,
    /// Spans allocated, oldest first.
    live: Vec<(u64, u64)>,
}

impl Session {
    fn free_spans(&self) -> Vec<u64> {
        self.suballoc.free_spans().flat_map(|(offset, bytes)| [offset, bytes]).collect()
    }

    fn figures(&self) -> [u64; 2] {
        [self.suballoc.free_bytes(), self.suballoc.largest_free_bytes()]
    }
}

impl Subject for Session {
    type Op = Op;
    /// `0 OFFSET`: allocated there; `1`: refused; `2`: done.
    type Answer = Vec<u64>;

    /// `regions OFFSET BYTES ..`.
    fn open(header: &[&str]) -> Self {
        let numbers: Vec<u64> = header[1..].iter().map(|word| word.parse().expect("a number")).collect();
        let regions: Vec<(u64, u64)> = numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        Session { suballoc: Suballoc::new(), given: vec![false; regions.len()], regions, live: Vec::new() }
    }

    fn parse(text: &str) -> Op {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words[0] {
            "add" => Op::Add { region: number(1) as usize },
            "withdraw" => Op::Withdraw { region: number(1) as usize },
            "alloc" => Op::Alloc { bytes: number(1), align: number(2) },
            "free" => Op::Free { nth: number(1) as usize },
            _ => panic!("no such call: {text}"),
        }
    }

    fn possible(&self, op: &Op) -> bool {
        match *op {
            Op::Add { region } => self.given.get(region) == Some(&false),
            Op::Withdraw { region } => self.given.get(region) == Some(&true),
            Op::Alloc { .. } => true,
            Op::Free { nth } => nth < self.live.len(),
        }
    }

    fn apply(&mut self, op: &Op) -> Vec<u64> {
        match *op {
            Op::Add { region } => {
                let (offset, bytes) = self.regions[region];
                self.suballoc.free(offset, bytes);
                self.given[region] = true;
                vec![2]
            }
            Op::Withdraw { region } => {
                let (offset, bytes) = self.regions[region];
                let gone = self.suballoc.withdraw(offset, bytes);
                self.given[region] = !gone;
                vec![if gone { 2 } else { 1 }]
            }
            Op::Alloc { bytes, align } => match self.suballoc.alloc(bytes, align) {
                Some(offset) => {
                    self.live.push((offset, bytes));
                    vec![0, offset]
                }
                None => vec![1],
            },
            Op::Free { nth } => {
                let (offset, bytes) = self.live.remove(nth);
                self.suballoc.free(offset, bytes);
                vec![2]
            }
        }
    }

    fn observe(&self, answer: &Vec<u64>, digest: &mut Digest) {
        digest.fold_all(answer);
        digest.fold_all(&self.free_spans());
        digest.fold_all(&self.figures());
    }

    fn line(&self, answer: &Vec<u64>) -> String {
        let words = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        format!("{} ; free {} ; figures {}", words(answer), words(&self.free_spans()), words(&self.figures()))
    }

    fn draw(&self, random: &mut Random) -> Op {
        let weight = random.draw(100);
        let n = random.draw(640);
        let bytes = random.draw(64);
        let align = 1 << random.draw(6);
        match weight {
            0..50 => Op::Alloc {
                bytes: 1 + bytes % if weight < 40 { 12 } else { 64 },
                align: if weight % 2 == 0 { 1 } else { align },
            },
            50..94 => Op::Free { nth: n as usize % self.live.len().max(1) },
            94..97 => Op::Withdraw { region: n as usize % self.regions.len() },
            _ => Op::Add { region: n as usize % self.regions.len() },
        }
    }

    fn validate(&self) {
        self.suballoc.validate();
    }

    fn finish(mut self) {
        for (offset, bytes) in std::mem::take(&mut self.live) {
            self.suballoc.free(offset, bytes);
        }
        let given = self.regions.iter().zip(&self.given).filter(|(_, given)| **given);
        assert_eq!(self.suballoc.free_bytes(), given.map(|((_, bytes), _)| bytes).sum::<u64>());
        self.suballoc.validate();
    }
}

#[test]
fn printed_traces_are_those_of_the_model() {
    replay_traces::<Session>("suballoc-traces.txt");
}

#[test]
fn every_short_trace_from_every_named_state_is_that_of_the_model() {
    compare_all_traces::<Session>("suballoc-digests.txt", "proofs/build/suballoc_oracle explain");
}

#[test]
fn a_hundred_thousand_random_calls_are_those_of_the_model() {
    compare_random_sessions::<Session>("suballoc-digests.txt", 100_000);
}
