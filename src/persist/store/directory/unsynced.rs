//! What was written and is not known to survive the loss of power. Knows names, nothing of what is in the files.

use crate::persist::store::Refusal;
use crate::persist::store::disk::Disk;
use std::collections::HashSet;
use std::io;

/// Files with bytes that are not synced, by name: handles would pile up where nobody ever syncs.
#[derive(Default)]
pub(super) struct Unsynced {
    files: HashSet<String>,
    names: bool,
    failed: Option<Refusal>,
}

impl Unsynced {
    pub(super) fn file(&mut self, name: String) {
        self.files.insert(name);
    }

    /// A file was made, renamed or removed.
    pub(super) fn names(&mut self) {
        self.names = true;
    }

    /// Everything was removed.
    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.names = true;
    }

    /// Whether a sync has failed, after which none succeeds.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Makes all of it survive the loss of power.
    ///
    /// # Errors
    /// If a file could not be opened, the next call tries again. If a file or the directory could not be synced, every
    /// later call fails, too: pages whose write-back failed count as clean afterwards, so a success proves nothing.
    pub(super) fn sync(&mut self, disk: &dyn Disk) -> Result<(), Refusal> {
        if let Some(refusal) = &self.failed {
            return Err(refusal.clone());
        }
        let mut unopened = None;
        for name in std::mem::take(&mut self.files) {
            match disk.open(&name) {
                Ok(file) => file.sync().map_err(|error| self.fail(&error))?,
                // Evicted meanwhile, or cleared.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.files.insert(name);
                    unopened = Some(error);
                }
            }
        }
        if let Some(error) = unopened {
            return Err(Refusal::from_io("open what is to be synced", &error));
        }
        if self.names {
            disk.sync().map_err(|error| self.fail(&error))?;
            self.names = false;
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) -> Refusal {
        let refusal = Refusal::from_io("sync", error);
        self.failed = Some(refusal.clone());
        refusal
    }
}
