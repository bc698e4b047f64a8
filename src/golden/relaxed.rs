//! Relaxed mode, of which the model says nothing: random calls like those that are compared, here only with every invariant
//! checked after each and no handle lost in the end. Its order is compared with a slow oracle by `tests/model`.

use super::cache::{Begins, Session};
use super::{Random, Subject};
use crate::cache::options::Mode;
use crate::cache::policy::Policy;
use crate::cache::policy::chosen::Chosen;

struct ByUse;
struct ByCost;

impl Begins for ByUse {
    type Order = Chosen;
    const MODE: Mode = Mode::Relaxed;
    fn order() -> Chosen {
        Policy::Lru.into()
    }
}

impl Begins for ByCost {
    type Order = Chosen;
    const MODE: Mode = Mode::Relaxed;
    fn order() -> Chosen {
        Policy::Camp.into()
    }
}

fn random_calls<B: Begins>() {
    for (seed, [budget, most]) in [(1, ["40", "9"]), (2, ["12", "90"]), (3, ["60", "4"])] {
        let mut random = Random(seed);
        let mut session = Session::<B>::open(&["budget", budget, "most", most]);
        for _ in 0..15_000 {
            let op = session.draw(&mut random);
            if session.possible(&op) {
                session.apply(&op);
                session.validate();
            }
        }
        session.finish();
    }
}

#[test]
fn random_calls_by_use_keep_every_invariant_and_lose_no_handle() {
    random_calls::<ByUse>();
}

#[test]
fn random_calls_by_cost_keep_every_invariant_and_lose_no_handle() {
    random_calls::<ByCost>();
}
