//! How a hint store is opened.

use crate::persist::store::Journal;
use crate::persist::store::directory::journal::DirectoryJournal;
use crate::persist::store::directory::options::DirectoryOptions;
use crate::persist::store::directory::root::Distrust;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How to open a [`HintStore`](crate::HintStore).
#[derive(Clone)]
pub struct HintOptions {
    place: Place,
    pub(crate) enabled: bool,
    pub(crate) budget_bytes: u64,
    pub(crate) version: Vec<u8>,
    pub(crate) half_life: Duration,
    pub(crate) hot_uses: f64,
    pub(crate) write_behind: Duration,
    pub(crate) keep_other_versions: Duration,
    pub(crate) clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

#[derive(Clone)]
enum Place {
    Directory(DirectoryOptions),
    Journal(Arc<dyn Journal>),
}

impl HintOptions {
    /// Hints that live in the directory, beside a [`CodeStore`](crate::CodeStore) of the same options. The budget of those is not
    /// that of the hints.
    pub fn new(directory: &DirectoryOptions) -> HintOptions {
        HintOptions::at(Place::Directory(directory.clone()))
    }

    /// Hints that live in any journal.
    pub fn in_journal(journal: Arc<dyn Journal>) -> HintOptions {
        HintOptions::at(Place::Journal(journal))
    }

    fn at(place: Place) -> HintOptions {
        HintOptions {
            place,
            enabled: true,
            budget_bytes: 16 << 20,
            version: Vec::new(),
            half_life: Duration::from_secs(7 * 86_400),
            hot_uses: 3.0,
            write_behind: Duration::from_secs(10),
            keep_other_versions: Duration::from_secs(30 * 86_400),
            clock: Arc::new(SystemTime::now),
        }
    }

    /// Elsewhere: in this directory, whatever the environment says. An absolute path. Without effect on a journal that
    /// was given.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        if let Place::Directory(directory) = self.place {
            self.place = Place::Directory(directory.dir(dir));
        }
        self
    }

    /// `false`: the store is off, finds nothing and records nothing. On unless said otherwise.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// The bound: in memory for this version's records, in the journal for all versions' records together. A record is
    /// charged 112 bytes and 10 for each of the last 32 days on which it was used, which is never less than it
    /// takes in the journal. 16 MiB unless said otherwise.
    pub fn budget_bytes(mut self, bytes: u64) -> Self {
        self.budget_bytes = bytes;
        self
    }

    /// What must be the same for hints to be believed: the embedder's schema, say, and its compiler's version. Hints
    /// of other versions are not seen, and are kept for [`keep_other_versions`](Self::keep_other_versions).
    pub fn version(mut self, version: impl AsRef<[u8]>) -> Self {
        self.version = version.as_ref().to_vec();
        self
    }

    /// The time in which a use loses half its weight. Uses are dated by the day. 7 days unless said otherwise.
    pub fn half_life(mut self, half_life: Duration) -> Self {
        self.half_life = half_life;
        self
    }

    /// From how many decayed uses a compilation [is hot](crate::HintStore::is_hot). 3 unless said otherwise.
    pub fn hot_uses(mut self, uses: f64) -> Self {
        self.hot_uses = uses;
        self
    }

    /// How old records may become before the call that records the next one writes them to the journal. 10 seconds unless said
    /// otherwise; zero writes at each call, [`Duration::MAX`] leaves it to [`flush`](crate::HintStore::flush), as from a thread
    /// of your own.
    pub fn write_behind(mut self, age: Duration) -> Self {
        self.write_behind = age;
        self
    }

    /// How long after their last use hints of other versions are kept, within the budget. 30 days unless said otherwise.
    pub fn keep_other_versions(mut self, age: Duration) -> Self {
        self.keep_other_versions = age;
        self
    }

    /// Where times come from: the system's clock unless said otherwise. It must not use the store that asks it.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    pub(crate) fn open_journal(&self) -> Result<Arc<dyn Journal>, Distrust> {
        match &self.place {
            Place::Directory(directory) => Ok(Arc::new(DirectoryJournal::open_strict(directory)?)),
            Place::Journal(journal) => Ok(journal.clone()),
        }
    }
}

impl fmt::Debug for HintOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HintOptions")
            .field("enabled", &self.enabled)
            .field("budget_bytes", &self.budget_bytes)
            .finish_non_exhaustive()
    }
}
