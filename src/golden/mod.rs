//! The tie to the proofs: the real cache core and the real suballocator against the program that Coq extracts from its model
//! (`proofs/`). Knows no semantics: what must come out stands in `tests/golden`, which `make -C proofs golden` writes.
//!
//! Three comparisons, for each subject:
//! - *traces*: printed call by call, so that a difference can be read;
//! - *digests*: every trace of a few calls from each named starting state, one digest for each pair of first calls;
//! - *random*: long sessions, whose draws both sides make alike, one digest for each thousand steps.
//!
//! When a digest differs, the message says how to print both sides of it, line by line.

mod cache;
mod relaxed;
mod suballoc;

use std::fmt::Write;
use std::path::Path;

/// Something that both sides run: the Rust under test, and the books that its caller keeps.
trait Subject: Sized {
    type Op;
    /// What a call returned, in the words of the golden files.
    type Answer;

    /// From what follows the name of a starting state.
    fn open(header: &[&str]) -> Self;
    fn parse(text: &str) -> Self::Op;
    /// Whether a caller can make the call at all.
    fn possible(&self, op: &Self::Op) -> bool;
    fn apply(&mut self, op: &Self::Op) -> Self::Answer;
    fn observe(&self, answer: &Self::Answer, digest: &mut Digest);
    fn line(&self, answer: &Self::Answer) -> String;
    fn draw(&self, random: &mut Random) -> Self::Op;
    /// Every invariant that the subject can check by itself.
    fn validate(&self);
    /// The session ends: nothing may be lost.
    fn finish(self);

    /// Compares a printed line. A subject may allow what its documentation leaves open.
    fn agrees(&self, seen: &str, expected: &str) -> bool {
        seen == expected
    }
}

/// Folds numbers below 2^62 into 62 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest(u64);

impl Digest {
    const NOTHING: Self = Digest(0x0BF2_9CE4_8422_2325);
    const MASK: u64 = (1 << 62) - 1;

    fn fold(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x100_0000_01B3) & Self::MASK;
        self.0 = mixed ^ mixed >> 31;
    }

    fn fold_all(&mut self, numbers: &[u64]) {
        self.fold(numbers.len() as u64);
        numbers.iter().for_each(|&number| self.fold(number));
    }
}

/// A linear congruential generator of 48 bits; draws are from its upper 31.
struct Random(u64);

impl Random {
    fn draw(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(25_214_903_917).wrapping_add(11) & ((1 << 48) - 1);
        (self.0 >> 17) % bound
    }
}

/// The words of a golden file, line by line. Without the repository around it, as in a packaged crate, there is none.
fn golden(name: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("tests/golden").join(name);
    if !root.join("tests").is_dir() {
        println!("skipped: this is no checkout of the repository, so there is no {}", path.display());
        return None;
    }
    Some(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn replay_traces<S: Subject>(name: &str) {
    let Some(text) = golden(name) else { return };
    let mut session: Option<S> = None;
    let mut calls = 0;
    for (number, line) in text.lines().enumerate() {
        let Some((call, _)) = line.split_once(" -> ") else {
            if let Some(ended) = session.take() {
                ended.finish();
            }
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[0], "state", "{name}:{}", number + 1);
            session = Some(S::open(&words[2..]));
            continue;
        };
        let session = session.as_mut().expect("a state comes first");
        let op = S::parse(call);
        assert!(session.possible(&op), "{name}:{}: {call} cannot be called", number + 1);
        let answer = session.apply(&op);
        session.validate();
        let seen = format!("{call} -> {}", session.line(&answer));
        assert!(
            session.agrees(&seen, line),
            "{name}:{}: the model and the code differ\n model {line}\n code  {seen}",
            number + 1
        );
        calls += 1;
    }
    session.expect("a golden file holds sessions").finish();
    println!("{calls} calls");
}

/// A starting state, and what every trace from it chooses among.
struct Start<'t, S: Subject> {
    name: &'t str,
    header: Vec<&'t str>,
    setup: Vec<S::Op>,
    choices: Vec<(&'t str, S::Op)>,
}

impl<S: Subject> Start<'_, S> {
    fn after(&self, path: &[usize]) -> S {
        let mut session = S::open(&self.header);
        for op in &self.setup {
            session.apply(op);
        }
        for &choice in path {
            session.apply(&self.choices[choice].1);
        }
        session
    }

    /// Visits every trace that begins with `path`, itself first, up to `depth` calls.
    fn traces(&self, path: &mut Vec<usize>, depth: usize, visit: &mut impl FnMut(&[usize], &S, &S::Answer)) {
        let (&last, before) = path.split_last().expect("a trace has a call");
        let mut session = self.after(before);
        let op = &self.choices[last].1;
        if !session.possible(op) {
            return;
        }
        let answer = session.apply(op);
        visit(path, &session, &answer);
        if path.len() < depth {
            let possible: Vec<usize> =
                (0..self.choices.len()).filter(|&choice| session.possible(&self.choices[choice].1)).collect();
            for choice in possible {
                path.push(choice);
                self.traces(path, depth, visit);
                path.pop();
            }
        }
    }

    /// What the code does below a pair of first calls, for `diff`.
    fn print(&self, first: usize, second: usize, depth: usize) -> String {
        let mut lines = String::new();
        self.traces(&mut vec![first], 1, &mut |_, session, answer| {
            writeln!(lines, "{} -> {}", self.choices[first].0, session.line(answer)).expect("a string takes all");
        });
        self.traces(&mut vec![first, second], depth, &mut |path, session, answer| {
            let level = if path.len() > 2 { format!("{} ", path.len()) } else { String::new() };
            let call = self.choices[path[path.len() - 1]].0;
            writeln!(lines, "{level}{call} -> {}", session.line(answer)).expect("a string takes all");
        });
        lines
    }
}

/// All traces of `DEPTH` calls from every named starting state; an unoptimised build, where that takes minutes, stops one call
/// earlier, at the digest that the file holds for it.
const DEPTH: usize = if cfg!(debug_assertions) { 4 } else { 5 };

fn compare_all_traces<S: Subject>(name: &str, explain: &str) {
    let Some(text) = golden(name) else { return };
    let mut start: Option<Start<'_, S>> = None;
    let (mut states, mut traces) = (0, 0u64);
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').expect("a line has words");
        match kind {
            "state" => {
                let mut words = rest.split(' ');
                let name = words.next().expect("a state has a name");
                start = Some(Start { name, header: words.collect(), setup: Vec::new(), choices: Vec::new() });
                states += 1;
            }
            "setup" => start.as_mut().expect("a state comes first").setup.push(S::parse(rest)),
            "choice" => start.as_mut().expect("a state comes first").choices.push((rest, S::parse(rest))),
            "digest" => {
                let start = start.as_ref().expect("a state comes first");
                traces += compare_digest(start, rest, explain);
            }
            _ => break, // the random sessions
        }
    }
    assert!(states >= 8, "{states} starting states");
    println!("{traces} traces of {DEPTH} calls from {states} states");
}

/// `FIRST SECOND DIGEST-OF-4 DIGEST-OF-5 TRACES-OF-5`.
fn compare_digest<S: Subject>(start: &Start<'_, S>, line: &str, explain: &str) -> u64 {
    let words: Vec<&str> = line.split(' ').collect();
    let [first, second]: [usize; 2] = [words[0].parse().expect("a number"), words[1].parse().expect("a number")];
    let expected = u64::from_str_radix(words[if DEPTH == 4 { 2 } else { 3 }], 16).expect("a digest");
    let mut digest = Digest::NOTHING;
    let mut traces = 0;
    start.traces(&mut vec![first], 1, &mut |_, session, answer| session.observe(answer, &mut digest));
    start.traces(&mut vec![first, second], DEPTH, &mut |path, session, answer| {
        session.observe(answer, &mut digest);
        traces += u64::from(path.len() == DEPTH);
    });
    if digest != Digest(expected) {
        let seen = std::env::temp_dir().join("hapax-golden-differs.txt");
        std::fs::write(&seen, start.print(first, second, 5)).expect("a place for what was seen");
        panic!(
            "state {}, first calls `{}`, `{}`: the model and the code differ. To see where:\n \
             make -C proofs golden && {explain} {} {first} {second} | diff - {}",
            start.name,
            start.choices[first].0,
            start.choices[second].0,
            start.name,
            seen.display()
        );
    }
    if DEPTH == 5 {
        assert_eq!(traces, words[4].parse::<u64>().expect("a number"), "{line}");
    }
    traces
}

fn compare_random_sessions<S: Subject>(name: &str, at_least: u64) {
    let Some(text) = golden(name) else { return };
    let mut sessions = 0;
    let mut made_in_all = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] != "random" {
            continue;
        }
        let mut random = Random(words[1].parse().expect("a seed"));
        let mut session = S::open(&words[2..]);
        let mut digest = Digest::NOTHING;
        let (mut step, mut made) = (0u64, 0u64);
        while let Some(rest) = lines.peek().and_then(|line| line.strip_prefix("after ")) {
            let words: Vec<&str> = rest.split(' ').collect();
            let upto = words[0].parse::<u64>().expect("a number");
            while step < upto {
                step += 1;
                let op = session.draw(&mut random);
                if session.possible(&op) {
                    made += 1;
                    let answer = session.apply(&op);
                    session.observe(&answer, &mut digest);
                    session.validate();
                }
            }
            let seen = format!("{step} {made} {:x}", digest.0);
            assert_eq!(seen, rest, "{line}: the model and the code differ within the last 1000 steps");
            lines.next();
        }
        session.finish();
        sessions += 1;
        made_in_all += made;
    }
    println!("{made_in_all} calls in {sessions} sessions");
    assert!(made_in_all >= at_least, "{made_in_all} calls");
}
