//! A value that is replaced under a lock and read without it. Knows nothing of the value.
#![expect(unsafe_code, reason = "reads the current value, which lives as long as its owner")]

use crate::sync::{AtomicPtr, Mutex, Ordering};
use std::sync::Arc;

/// What is replaced is kept until the whole goes, so that nobody who reads it needs notice.
pub(crate) struct Published<T> {
    current: AtomicPtr<T>,
    all: Mutex<Vec<Arc<T>>>,
}

impl<T> Published<T> {
    pub(crate) fn new(first: T) -> Self {
        let first = Arc::new(first);
        Published { current: AtomicPtr::new(Arc::as_ptr(&first).cast_mut()), all: Mutex::new(vec![first]) }
    }

    #[inline]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: the pointer is of one of `all`, none of which goes before `self`; they are shared, and so only read. It was
        // stored after the value was made.
        unsafe { &*self.current.load(Ordering::Acquire) }
    }

    /// One thread at a time. `order` is `Release`, but where a model is to see what happens if it is not.
    pub(crate) fn replace(&self, next: T, order: Ordering) {
        let next = Arc::new(next);
        self.current.store(Arc::as_ptr(&next).cast_mut(), order);
        self.all.lock().push(next);
    }
}
