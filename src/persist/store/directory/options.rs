//! What a user chooses about a directory, and what follows from it.

use crate::persist::store::directory::root::{self, Distrust, Surroundings};
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_BUDGET_BYTES: u64 = 1 << 30;
const SEGMENT_BYTES_AT_MOST: u64 = 16 << 20;
const SEGMENT_BYTES_AT_LEAST: u64 = 4 << 10;
const INLINE_BYTES_AT_MOST: u64 = 256 << 10;
/// A budget is this many segments, so that evicting one takes little.
const SEGMENTS: u64 = 32;

/// How to open a [`DirectoryStore`](crate::DirectoryStore) or a [`DirectoryJournal`](crate::DirectoryJournal).
#[derive(Debug, Clone)]
#[must_use = "these are options; open something with them"]
pub struct DirectoryOptions {
    pub(super) name: String,
    pub(super) dir: Option<PathBuf>,
    /// The directory itself, and nothing below it.
    pub(super) pack: Option<PathBuf>,
    pub(super) budget_bytes: u64,
    pub(super) read_only: bool,
    pub(super) sync_each_put: bool,
    pub(super) allow_network: bool,
    pub(super) look_every: Duration,
    pub(super) segment_bytes: Option<u64>,
    pub(super) surroundings: Option<Surroundings>,
}

impl DirectoryOptions {
    /// For the embedder of this name: 1 to 64 letters, digits, `-`, `_` and `.`, the first of them no `.`. Embedders of different names
    /// share nothing. The budget is 1 GiB unless told otherwise.
    ///
    /// The directory is `$HAPAX_CACHE_DIR`, which must be absolute, else `$XDG_CACHE_HOME/hapax`, else `$HOME/.cache/hapax`; in it, everything
    /// is below `NAME-UID`, which is private to the user.
    pub fn new(name: impl Into<String>) -> DirectoryOptions {
        DirectoryOptions {
            name: name.into(),
            dir: None,
            pack: None,
            budget_bytes: DEFAULT_BUDGET_BYTES,
            read_only: false,
            sync_each_put: false,
            allow_network: false,
            look_every: Duration::from_millis(100),
            segment_bytes: None,
            surroundings: None,
        }
    }

    /// For a pack: entries that are files of exactly this directory, as a part of an image, to be read below a store of
    /// one's own ([`LayeredStore`](crate::LayeredStore)). Opened with [`read_only`](DirectoryOptions::read_only) it may
    /// belong to root. To make one, open it without and put.
    pub fn pack(directory: impl AsRef<Path>) -> DirectoryOptions {
        DirectoryOptions { pack: Some(directory.as_ref().to_owned()), ..DirectoryOptions::new("pack") }
    }

    /// In this directory, whatever the environment says. An absolute path.
    pub fn dir(self, dir: impl AsRef<Path>) -> DirectoryOptions {
        DirectoryOptions { dir: Some(dir.as_ref().to_owned()), ..self }
    }

    /// At most so many bytes on disk, for all processes together, and beyond them one open segment for each live process: a
    /// 32nd of the budget, at most 16 MiB. An entry takes about 200 bytes beside its payload and its label.
    pub fn budget_bytes(self, budget_bytes: u64) -> DirectoryOptions {
        DirectoryOptions { budget_bytes, ..self }
    }

    /// Only reads: nothing is made, written or removed, and every put is refused.
    pub fn read_only(self, read_only: bool) -> DirectoryOptions {
        DirectoryOptions { read_only, ..self }
    }

    /// Makes each put survive the loss of power, which takes a disk's time. Otherwise `sync` does.
    pub fn sync_each_put(self, sync_each_put: bool) -> DirectoryOptions {
        DirectoryOptions { sync_each_put, ..self }
    }

    /// Opens on a network file system too, for processes of one machine at a time. There, locks may not be seen by other
    /// machines, so two of them can lose each other's entries; wrong bytes are not returned there either.
    pub fn allow_network(self, allow_network: bool) -> DirectoryOptions {
        DirectoryOptions { allow_network, ..self }
    }

    /// How often, at most, a miss looks for what other processes have put: every 100 ms unless told otherwise. A hit looks,
    /// and writes down what is used here, a hundredth as often.
    pub fn look_every(self, look_every: Duration) -> DirectoryOptions {
        DirectoryOptions { look_every, ..self }
    }

    /// Another length of segments than follows from the budget, for tests.
    #[cfg(feature = "testing")]
    pub fn segment_bytes(self, segment_bytes: u64) -> DirectoryOptions {
        DirectoryOptions { segment_bytes: Some(segment_bytes), ..self }
    }

    /// Played surroundings, for tests.
    #[cfg(feature = "testing")]
    pub fn surroundings(self, surroundings: Surroundings) -> DirectoryOptions {
        DirectoryOptions { surroundings: Some(surroundings), ..self }
    }

    /// Where everything is: `NAME-UID` and the format's version, below the directory; a pack is its directory. Looks at the environment and opens
    /// nothing, so it need not exist.
    ///
    /// # Errors
    /// [`Distrust::NoHome`], [`Distrust::BadName`], and [`Distrust::CannotOpen`] for a relative path.
    pub fn path(&self) -> Result<PathBuf, Distrust> {
        root::path(self, &self.surroundings.clone().unwrap_or_else(Surroundings::real))
    }

    pub(super) fn settings(&self) -> Settings {
        let share = (self.budget_bytes / SEGMENTS).clamp(SEGMENT_BYTES_AT_LEAST, SEGMENT_BYTES_AT_MOST);
        let segment_bytes = self.segment_bytes.unwrap_or(share);
        Settings {
            budget_bytes: self.budget_bytes,
            segment_bytes,
            inline_bytes: INLINE_BYTES_AT_MOST.min(segment_bytes / 4),
            read_only: self.read_only,
            sync_each_put: self.sync_each_put,
            look_every_ns: u64::try_from(self.look_every.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// What the store works with.
pub(super) struct Settings {
    pub(super) budget_bytes: u64,
    /// A segment is sealed before it grows above this.
    pub(super) segment_bytes: u64,
    /// Longer records are files of their own.
    pub(super) inline_bytes: u64,
    pub(super) read_only: bool,
    pub(super) sync_each_put: bool,
    pub(super) look_every_ns: u64,
}
