//! What hapax costs on a card, beside the bare driver calls, measured in the same run with rounds alternating. Prints
//! markdown. `HAPAX_CUDA=card` measures; without it the program runs over the stand-in, at a small scale, to show
//! that it works: its figures then mean nothing, and say so.
//!
//! Targets stand beside the figures and fail nothing; a leaked byte does.

mod allocation;
mod copies;
#[path = "../../tests/driver/mod.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod driver;
mod eviction;
mod hits;
mod measure;
mod memory;

use driver::gpu::Gpu;
use driver::{Chosen, assert_is_loaded, call, chosen};
use hapax::{CudaDevice, DeviceRef, Error, Heap};
use measure::{Scale, Table};
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Error>;

/// One card, known to hapax and to the bare driver.
pub struct Rig {
    pub gpu: Gpu,
    pub device: DeviceRef,
    pub scale: Scale,
}

impl Rig {
    /// The orderly end of a heap, after which nothing of it is on the card.
    pub fn close(&self, heap: Heap) -> Result<()> {
        heap.settle()?;
        let ledger = heap.ledger();
        assert_eq!((ledger.live_bytes, ledger.live_blocks, ledger.freeing_bytes), (0, 0, 0), "the ledger at the end");
        heap.close().map_err(Error::from)
    }
}

fn main() -> ExitCode {
    // `cargo test --benches` and `cargo bench` pass flags of the usual harness.
    let session = match chosen() {
        Chosen::StandIn => {
            let session = cuda_standin::Session::begin().expect("the stand-in was built with this program");
            session.set_mode(cuda_standin::Mode::Late(3));
            Some(session)
        }
        Chosen::Card => None,
    };
    assert_is_loaded(chosen());
    let ended = figures();
    drop(session); // panics if anything is left or was unordered
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("figures: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing leaked.
fn figures() -> Result<bool> {
    let card = CudaDevice::open(0).unwrap_or_else(|absent| panic!("{absent}"));
    let info = card.info().clone();
    let version = call!(cuDriverGetVersion(-> i32)).expect("the driver has a version");
    println!(
        "- device: {}, {}, compute capability {}.{}",
        info.name, info.uuid, info.compute_capability.0, info.compute_capability.1
    );
    println!("- memory: {} MiB", info.total_bytes >> 20);
    println!("- driver: CUDA {}.{}{}", version / 1000, version % 1000 / 10, memory::kernel_driver());
    println!();
    let mut rig = Rig { gpu: Gpu::open(), device: DeviceRef::new(card), scale: Scale::small() };
    // Once for nothing: what the driver keeps for itself after a first use belongs to the baseline.
    measure_all(&rig, &mut Table::default())?;
    let before = memory::now(&rig.gpu);
    if chosen() == Chosen::Card {
        rig.scale = Scale::full();
    }
    let mut table = Table::default();
    measure_all(&rig, &mut table)?;
    let after = memory::settled(&rig.gpu, &before);
    println!("{table}");
    println!("Ledger of every heap at its end: 0 bytes live, 0 freeing, 0 blocks; all were closed.");
    let leaked = memory::compare(&before, &after);
    drop(rig);
    Ok(leaked == 0)
}

fn measure_all(rig: &Rig, table: &mut Table) -> Result<()> {
    allocation::measure(rig, table)?;
    copies::measure(rig, table)?;
    hits::measure(rig, table)?;
    eviction::measure(rig, table)
}
