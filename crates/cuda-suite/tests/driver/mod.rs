//! Which driver a test run is for, and its calls as Rust ones.
//!
//! The calls are cudarc's raw ones: their types come from NVIDIA's headers, so what is tested here does not rest on
//! hapax's own declarations.

pub mod gpu;

use cuda_standin::Driver;

/// What `HAPAX_CUDA` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    StandIn,
    Card,
}

pub fn chosen() -> Chosen {
    match std::env::var("HAPAX_CUDA").as_deref() {
        Err(_) | Ok("stand-in") => Chosen::StandIn,
        Ok("card") => Chosen::Card,
        Ok(other) => panic!("HAPAX_CUDA is `stand-in` or `card`, not {other:?}"),
    }
}

/// Told by the marker that only the stand-in has. A run that asked for a card and has none fails; it never skips.
pub fn assert_is_loaded(wanted: Chosen) {
    match (wanted, cuda_standin::driver()) {
        (Chosen::StandIn, Driver::StandIn(_)) | (Chosen::Card, Driver::Other) => {}
        (Chosen::StandIn, loaded) => panic!("this run is for the stand-in, and libcuda.so is {loaded:?}"),
        (Chosen::Card, Driver::Absent) => panic!("HAPAX_CUDA=card, but this machine has no CUDA driver (libcuda.so.1)"),
        (Chosen::Card, loaded) => panic!("HAPAX_CUDA=card, but libcuda.so is {loaded:?}"),
    }
}

/// A driver call: `call!(cuX(a, b))` for its code, `call!(cuX(-> T, b))` where the first argument takes the result.
macro_rules! call {
    ($name:ident(-> $out:ty $(, $argument:expr)* $(,)?)) => {{
        let mut out = std::mem::MaybeUninit::<$out>::uninit();
        // SAFETY: `out` takes the result; the caller vouches for handles and memory.
        let code = unsafe { cudarc::driver::sys::$name(out.as_mut_ptr() $(, $argument)*) };
        match code as u32 {
            // SAFETY: a call that succeeds has written its result.
            0 => Ok(unsafe { out.assume_init() }),
            code => Err(code),
        }
    }};
    ($name:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: the caller vouches for handles and memory.
        let code = unsafe { cudarc::driver::sys::$name($($argument),*) };
        match code as u32 {
            0 => Ok(()),
            code => Err(code),
        }
    }};
}
#[allow(unused_imports, reason = "each suite uses its part")]
pub(crate) use call;
