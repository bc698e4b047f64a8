//! Calls that are to fail. Knows no call's meaning.

use crate::code::Code;

#[derive(Default)]
pub struct Faults(Vec<Rule>);

struct Rule {
    call: Option<String>,
    /// The call to fail, counted from the one that comes next: 1.
    left: u64,
    code: Code,
    sticky: bool,
}

impl Faults {
    /// Lets the `nth` call from now fail with `code`: of all calls, or of those named `call`.
    pub fn add(&mut self, call: Option<String>, nth: u64, code: Code, sticky: bool) {
        self.0.push(Rule { call, left: nth.max(1), code, sticky });
    }

    /// What the call is to return instead of doing anything, and whether its context is lost with it.
    pub fn check(&mut self, call: &str) -> Option<(Code, bool)> {
        for rule in self.0.iter_mut().filter(|rule| rule.call.as_deref().is_none_or(|name| name == call)) {
            rule.left -= 1;
        }
        let due = self.0.iter().position(|rule| rule.left == 0)?;
        let rule = self.0.remove(due);
        for late in self.0.iter_mut().filter(|rule| rule.left == 0) {
            late.left = 1; // two rules met in one call: the second takes the next
        }
        Some((rule.code, rule.sticky))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_call_fails_and_no_other() {
        let mut faults = Faults::default();
        faults.add(Some("cuMemAlloc_v2".to_owned()), 2, Code::OUT_OF_MEMORY, false);
        faults.add(None, 4, Code::UNKNOWN, true);
        let calls = ["cuMemAlloc_v2", "cuInit", "cuMemAlloc_v2", "cuInit", "cuMemAlloc_v2"];
        let met: Vec<_> = calls.iter().map(|call| faults.check(call)).collect();
        assert_eq!(met, [None, None, Some((Code::OUT_OF_MEMORY, false)), Some((Code::UNKNOWN, true)), None]);
        assert_eq!(faults.len(), 0);
    }
}
