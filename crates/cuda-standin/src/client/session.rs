//! One test at a time, from a fresh device to a clean one. Knows no driver call.

use crate::client::install::InstallError;
use crate::client::{Control, Counters};
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The stand-in for the length of one test: reset when it begins, checked when it ends.
///
/// Tests of one process take turns. Dropping a session panics, unless the test panics already, if there was a
/// violation that the test did not take, if memory is left, or if a planned fault was not met.
///
/// ```no_run
/// let device = cuda_standin::Session::begin().unwrap();
/// device.set_mode(cuda_standin::Mode::Lazy);
/// // ... use CUDA ...
/// ```
#[must_use = "dropping it ends the session and checks it"]
pub struct Session {
    control: Control,
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Session {
    /// Installs the stand-in if it is not this process's driver yet, waits for the test before, and resets.
    ///
    /// # Errors
    /// As [`Control::install`].
    pub fn begin() -> Result<Session, InstallError> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let control = Control::install()?;
        control.reset();
        Ok(Session { control, _turn: turn })
    }

    /// What would be wrong if the session ended now: violations, live bytes, faults not met.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.control.violations();
        let Counters { live_bytes, live_blocks, page_locked_bytes, faults, .. } = self.control.counters();
        if live_bytes > 0 {
            complaints.push(format!("{live_bytes} device bytes in {live_blocks} blocks are live"));
        }
        if page_locked_bytes > 0 {
            complaints.push(format!("{page_locked_bytes} page-locked bytes are live"));
        }
        if faults > 0 {
            complaints.push(format!("{faults} planned faults were not met"));
        }
        complaints
    }
}

impl Deref for Session {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let complaints = self.complaints();
        self.control.reset();
        if !complaints.is_empty() && !std::thread::panicking() {
            panic!("the CUDA stand-in complains:\n- {}", complaints.join("\n- "));
        }
    }
}
