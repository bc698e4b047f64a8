//! Why an artifact cannot be had, with what tells which one.

use crate::persist::envelope::Key;
use crate::persist::store::{Miss, Record};

/// Why there is no artifact.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError<E> {
    /// The compiler's own error.
    #[error("{0}")]
    Compile(E),
    /// The store should have had it, and did not.
    #[error("{:?} (fingerprint {:?}) should have been compiled in advance: {}", .0.label, .0.key.fingerprint, .0.miss)]
    MustHit(Box<Missing>),
    /// Compiled again it came out different: the fingerprint leaves something out, or the compiler's result depends on
    /// more than its input.
    #[error(
        "{:?} (fingerprint {:?}) compiles to {} bytes now and is stored as {} others: add what changed to the fingerprint",
        .0.label, .0.key.fingerprint, .0.compiled.len(), .0.stored.len()
    )]
    Differs(Box<Difference>),
}

/// What a store in [`CodeMode::MustHit`](crate::CodeMode::MustHit) did not have.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Missing {
    /// What was looked for.
    pub key: Key,
    /// The unit's name.
    pub label: String,
    /// Why it was not found.
    pub miss: Miss,
}

/// What came out different when it was [verified](crate::CodeStore::verify_every).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Difference {
    /// What was compiled.
    pub key: Key,
    /// The unit's name.
    pub label: String,
    /// What the store has.
    pub stored: Record,
    /// What compiling gave.
    pub compiled: Record,
}
