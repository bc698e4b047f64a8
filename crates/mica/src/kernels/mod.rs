//! Kernels of the language on a card: written as CUDA C++ from the representation, compiled once a machine, resident under a
//! budget, launched where the program says `launch`.

pub mod cuda;
#[cfg(feature = "nvrtc")]
pub mod launcher;

use crate::session::{AnyError, Work};

/// Shows the kernel path, as far as this machine and this build have it.
#[cfg(feature = "nvrtc")]
pub fn show(work: &Work) -> Result<(), AnyError> {
    launcher::show(work)
}

/// Says why there is no kernel path.
#[cfg(not(feature = "nvrtc"))]
pub fn show(_: &Work) -> Result<(), AnyError> {
    crate::report::field("kernels", "run on the processor: this build has no feature `nvrtc`")
}
