//! The examples of both ways between hapax and cudarc, run whole over the stand-in, and where there is no card.

mod rig;

use cuda_standin::{Counters, Personality};
use std::error::Error;

#[path = "../../../examples/from_cudarc.rs"]
mod from_cudarc;
#[path = "../../../examples/to_cudarc.rs"]
mod to_cudarc;

type Example = fn() -> Result<(), Box<dyn Error>>;

const EXAMPLES: [Example; 2] = [from_cudarc::main, to_cudarc::main];

#[test]
fn both_examples_go_all_the_way_and_leave_nothing() {
    for mode in rig::MODES {
        for example in EXAMPLES {
            let session = rig::begin(mode);
            example().unwrap();
            let Counters { streams, events, contexts, .. } = session.counters();
            assert_eq!((streams, events, contexts), (0, 0, 0), "left behind, in mode {mode}");
        }
    }
}

#[test]
fn without_a_card_they_end_well() {
    let session = rig::begin(rig::MODES[0]);
    session.set_personality(Personality::NoDevice);
    EXAMPLES.iter().for_each(|example| example().unwrap());
}
