//! Regular expressions by Thompson's construction: linear in the text, whatever the pattern.
//!
//! Knows `.`, `[a-z]`, `[^a-z]`, `*`, `+`, `?`, `|`, `( )` and `\` before any of them.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError(pub String);

#[derive(Debug)]
enum Step {
    Class { ranges: Vec<(char, char)>, negated: bool },
    Fork(usize, usize),
    Goto(usize),
    Match,
}

#[derive(Debug)]
pub struct Pattern {
    steps: Vec<Step>,
}

impl Pattern {
    pub fn new(source: &str) -> Result<Pattern, PatternError> {
        let mut compiler = Compiler { rest: source.chars().peekable(), steps: Vec::new(), depth: 0 };
        compiler.alternatives()?;
        if compiler.rest.next().is_some() {
            return Err(PatternError("a ) without a (".into()));
        }
        compiler.steps.push(Step::Match);
        Ok(Pattern { steps: compiler.steps })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let mut threads = Threads::new(self.steps.len());
        self.follow(0, &mut threads);
        for c in text.chars() {
            let mut next = Threads::new(self.steps.len());
            for &at in &threads.list {
                if self.accepts(at, c) {
                    self.follow(at + 1, &mut next);
                }
            }
            threads = next;
        }
        threads.list.iter().any(|&at| matches!(self.steps[at], Step::Match))
    }

    /// Adds every step that is reached from `start` without reading a character.
    fn follow(&self, start: usize, threads: &mut Threads) {
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut threads.seen[at], true) {
                continue;
            }
            match self.steps[at] {
                Step::Goto(target) => open.push(target),
                Step::Fork(first, second) => open.extend([second, first]),
                Step::Class { .. } | Step::Match => threads.list.push(at),
            }
        }
    }

    fn accepts(&self, at: usize, c: char) -> bool {
        let Step::Class { ranges, negated } = &self.steps[at] else { return false };
        ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != *negated
    }
}

struct Threads {
    list: Vec<usize>,
    seen: Vec<bool>,
}

impl Threads {
    fn new(steps: usize) -> Threads {
        Threads { list: Vec::new(), seen: vec![false; steps] }
    }
}

struct Compiler<'s> {
    rest: std::iter::Peekable<std::str::Chars<'s>>,
    steps: Vec<Step>,
    depth: usize,
}

const MAX_DEPTH: usize = 200;

impl Compiler<'_> {
    fn alternatives(&mut self) -> Result<(), PatternError> {
        let start = self.steps.len();
        let mut exits = Vec::new();
        self.sequence()?;
        while self.rest.next_if_eq(&'|').is_some() {
            self.insert(start, Step::Fork(0, 0));
            exits.iter_mut().for_each(|exit| *exit += 1);
            exits.push(self.steps.len());
            self.steps.push(Step::Goto(0));
            self.steps[start] = Step::Fork(start + 1, self.steps.len());
            self.sequence()?;
        }
        let end = self.steps.len();
        exits.into_iter().for_each(|exit| self.steps[exit] = Step::Goto(end));
        Ok(())
    }

    fn sequence(&mut self) -> Result<(), PatternError> {
        while let Some(&next) = self.rest.peek() {
            if next == '|' || next == ')' {
                break;
            }
            let start = self.steps.len();
            self.atom()?;
            self.repetition(start);
        }
        Ok(())
    }

    fn repetition(&mut self, start: usize) {
        while let Some(kind) = self.rest.next_if(|c| matches!(c, '*' | '+' | '?')) {
            if kind != '+' {
                self.insert(start, Step::Fork(0, 0));
                let after = self.steps.len() + usize::from(kind == '*');
                self.steps[start] = Step::Fork(start + 1, after);
            }
            match kind {
                '*' => self.steps.push(Step::Goto(start)),
                '+' => self.steps.push(Step::Fork(start, self.steps.len() + 1)),
                _ => {}
            }
        }
    }

    fn atom(&mut self) -> Result<(), PatternError> {
        let first = self.rest.next().expect("the caller saw a character");
        let class = match first {
            '(' => return self.group(),
            '[' => self.class()?,
            '.' => Step::Class { ranges: Vec::new(), negated: true },
            '*' | '+' | '?' => return Err(PatternError(format!("nothing to repeat before {first}"))),
            _ => {
                let literal = if first == '\\' { self.escaped()? } else { first };
                Step::Class { ranges: vec![(literal, literal)], negated: false }
            }
        };
        self.steps.push(class);
        Ok(())
    }

    fn group(&mut self) -> Result<(), PatternError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(PatternError("nested too deeply".into()));
        }
        self.alternatives()?;
        self.depth -= 1;
        self.rest.next_if_eq(&')').map(|_| ()).ok_or_else(|| PatternError("a ( without a )".into()))
    }

    fn class(&mut self) -> Result<Step, PatternError> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        loop {
            let open = || PatternError("a [ without a ]".into());
            let low = match self.rest.next().ok_or_else(open)? {
                ']' => return Ok(Step::Class { ranges, negated }),
                '\\' => self.escaped()?,
                plain => plain,
            };
            let high = match self.rest.next_if_eq(&'-') {
                Some(_) => self.rest.next().ok_or_else(open)?,
                None => low,
            };
            ranges.push((low, high));
        }
    }

    fn escaped(&mut self) -> Result<char, PatternError> {
        self.rest.next().ok_or_else(|| PatternError("nothing after \\".into()))
    }

    /// Makes room before `at`; jumps within what moves, or to its end, move along.
    fn insert(&mut self, at: usize, step: Step) {
        for old in &mut self.steps[at..] {
            match old {
                Step::Goto(target) => *target += 1,
                Step::Fork(first, second) => (*first, *second) = (*first + 1, *second + 1),
                Step::Class { .. } | Step::Match => {}
            }
        }
        self.steps.insert(at, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_means_what_it_should() {
        for (pattern, yes, no) in [
            ("a(b|c|de)*f", "abcdecf", "abdf"),
            ("[a-c]+x?", "abcx", "x"),
            ("[^0-9].", "a1", "1a"),
            ("(a|b(c|d)?)+", "abcbda", "ac"),
            ("\\(\\*", "(*", "("),
            ("x*|y", "y", "xy"),
            ("((a?)*)*b", "aab", "aa"),
            ("a||b", "", "ab"),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            assert!(compiled.matches(yes), "{pattern} should match {yes}");
            assert!(!compiled.matches(no), "{pattern} should not match {no}");
        }
    }

    #[test]
    fn the_pattern_that_ruins_backtracking_is_linear_here() {
        let pattern = Pattern::new(&("a?".repeat(100) + &"a".repeat(100))).unwrap();
        assert!(pattern.matches(&"a".repeat(100)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in ["(", ")", "*a", "[a", "\\", "a|*"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }
}
