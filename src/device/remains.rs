//! What a handle's drop leaves behind when it is the last share of a heap, or of a heap's buffers. Such a drop must
//! not call the driver, so the memory stays here until something that may comes by: the making, settling,
//! trimming or closing of any heap.

use crate::sync::global;

/// Memory that is nobody's any more, but still on the books of its heap.
pub(crate) trait Remains: Send {
    /// Gives back what no stream uses. Waits for nothing. Whether that was all.
    fn give_back(&self) -> bool;
}

global! {
    LEFT: Vec<Box<dyn Remains>> = Vec::new()
}

/// Makes no driver call.
pub(crate) fn leave(remains: Box<dyn Remains>) {
    LEFT.lock().push(remains);
}

/// Gives back what streams have let go of since.
pub(crate) fn clear() {
    let left = std::mem::take(&mut *LEFT.lock());
    // Outside of the lock: these are driver calls.
    let (gone, kept): (Vec<_>, Vec<_>) = left.into_iter().partition(|remains| remains.give_back());
    LEFT.lock().extend(kept);
    drop(gone);
}
