//! Vector clocks: what of each stream's work is over before something else begins. Knows no memory and no queue.

use std::collections::BTreeMap;

/// One operation of one stream. Numbers grow over all streams, so a later operation has the greater number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub stream: u64,
    pub number: u64,
}

/// For each stream the last operation known to be over; a stream not named is not known at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock(BTreeMap<u64, u64>);

impl Clock {
    pub fn knows(&self, epoch: Epoch) -> bool {
        self.0.get(&epoch.stream).is_some_and(|last| *last >= epoch.number)
    }

    pub fn learn(&mut self, epoch: Epoch) {
        let last = self.0.entry(epoch.stream).or_default();
        *last = (*last).max(epoch.number);
    }

    pub fn join(&mut self, other: &Clock) {
        for (&stream, &number) in &other.0 {
            self.learn(Epoch { stream, number });
        }
    }

    /// Forgets what `base` knows anyway, so that clocks stay as short as the work in flight.
    pub fn without(&mut self, base: &Clock) {
        self.0.retain(|stream, number| !base.knows(Epoch { stream: *stream, number: *number }));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowing_an_operation_is_knowing_all_earlier_ones_of_its_stream() {
        let mut clock = Clock::default();
        clock.learn(Epoch { stream: 1, number: 5 });
        clock.learn(Epoch { stream: 1, number: 3 });
        assert!(clock.knows(Epoch { stream: 1, number: 4 }));
        assert!(!clock.knows(Epoch { stream: 1, number: 6 }));
        assert!(!clock.knows(Epoch { stream: 2, number: 1 }));
    }

    #[test]
    fn a_joined_clock_knows_what_either_knew() {
        let (mut a, mut b) = (Clock::default(), Clock::default());
        a.learn(Epoch { stream: 1, number: 5 });
        b.learn(Epoch { stream: 2, number: 7 });
        a.join(&b);
        assert!(a.knows(Epoch { stream: 1, number: 5 }) && a.knows(Epoch { stream: 2, number: 7 }));
        a.without(&b);
        assert_eq!(a.len(), 1);
    }
}
