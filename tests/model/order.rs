//! Who leaves first, as plain as it gets: what an entry's place is compared by, written down when it is used.

use hapax::Policy;

/// The least leaves first; of equals, the one that came to its place first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    priority: u128,
    ratio: u128,
}

pub struct Order {
    policy: Policy,
    /// The greatest priority that was evicted. It never runs back, and has room for every run.
    pub clock: u128,
}

impl Order {
    pub fn new(policy: Policy) -> Self {
        Order { policy, clock: 0 }
    }

    /// The place of an entry that is used now, for the first time or `again`.
    pub fn place(&self, cost_ns: u64, charge_bytes: u64, again: bool) -> Place {
        match self.policy {
            Policy::Camp => {
                let ratio = ratio(cost_ns, charge_bytes);
                let ratio = if again { (2 * ratio).min(1 << 44) } else { ratio };
                Place { priority: self.clock + ratio, ratio }
            }
            _ => Place::default(), // all alike: who came first leaves first
        }
    }

    pub fn evicted(&mut self, place: Place) {
        self.clock = self.clock.max(place.priority);
    }
}

/// Cost per byte in 2^-16 ns, from 1 to 2^44, five significant bits.
fn ratio(cost_ns: u64, bytes: u64) -> u128 {
    let cost = u128::from(cost_ns).min((1 << 47) - 1);
    let exact = (cost * 65_536 / u128::from(bytes).max(1)).clamp(1, 1 << 44);
    let mut unit = 1;
    while exact / unit >= 32 {
        unit *= 2;
    }
    exact / unit * unit
}
