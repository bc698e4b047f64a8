//! What went wrong, and how often each call was made. Knows no rule.

use std::collections::BTreeMap;

/// More are counted, not kept.
const KEPT: usize = 1_000;

#[derive(Default)]
pub struct Report {
    violations: Vec<String>,
    calls: BTreeMap<&'static str, u64>,
    pub all_calls: u64,
    pub to_stderr: bool,
    pub abort: bool,
}

impl Report {
    pub fn violation(&mut self, text: String) {
        if self.to_stderr || self.abort {
            eprintln!("cuda-standin: {text}");
        }
        if self.abort {
            std::process::abort();
        }
        match self.violations.len() {
            0..KEPT => self.violations.push(text),
            KEPT => self.violations.push(format!("more than {KEPT} violations: the rest is not kept")),
            _ => {}
        }
    }

    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    pub fn clear(&mut self) {
        self.violations.clear();
    }

    pub fn called(&mut self, call: &'static str) {
        self.all_calls += 1;
        *self.calls.entry(call).or_default() += 1;
    }

    pub fn calls(&self, call: &str) -> u64 {
        self.calls.get(call).copied().unwrap_or_default()
    }
}
