//! A CUDA driver for tests, without a GPU.
//!
//! The package builds a shared library that exports the driver API, and this crate, with which a test loads it and
//! watches it. Device memory lies where the host cannot touch it; work runs at once, late, or only when something
//! waits for it; and every access that no stream, event or host wait orders is reported, whatever the schedule.
//!
//! ```no_run
//! use cuda_standin::{Code, Mode, Session};
//!
//! let device = Session::begin()?; // this process's libcuda.so is the stand-in from here on
//! device.set_mode(Mode::Lazy); // nothing runs before something waits for it
//! device.fail("cuMemAlloc_v2", 2, Code::OUT_OF_MEMORY); // the second allocation fails
//! // ... run the code under test, through cudarc or any other binding ...
//! assert_eq!(device.calls("cuMemAlloc_v2"), 2);
//! drop(device); // panics if anything was reported, or if memory is left
//! # Ok::<(), cuda_standin::InstallError>(())
//! ```
//!
//! README.md has the settings, the calls, what is caught and what is not modelled.
#![cfg(target_os = "linux")]

mod api;
mod client;
mod code;
mod control;
mod model;
mod os;
mod settings;

/// The examples of README.md, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use crate::client::allocator::WatchedAllocator;
pub use crate::client::install::{Driver, InstallError, driver};
pub use crate::client::session::Session;
pub use crate::client::{Control, Counters};
pub use crate::code::Code;
pub use crate::settings::{Mode, Pageable, Personality};
