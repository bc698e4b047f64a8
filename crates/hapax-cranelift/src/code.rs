//! Pointers to code that keep it, and what is known about an address. The only file that hands code out to be called.

#![expect(unsafe_code, reason = "an address becomes a function on its caller's word")]

use crate::jit::Inner;
use crate::link::{Linked, Placed};
use cranelift_codegen::ir::TrapCode;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A function of a batch; the last one to go takes the batch's pages with it.
pub(crate) struct Code {
    pub(crate) linked: Arc<Linked>,
    pub(crate) number: usize,
}

impl Code {
    pub(crate) fn placed(&self) -> &Placed {
        &self.linked.functions()[self.number]
    }
}

/// Code that can be called. While it lives, so does the code that it points to, and everything that the code refers to.
///
/// A redefinition of its unit does not change it: it goes on pointing to the code that it was given for. Clones share the
/// code.
#[derive(Clone)]
pub struct CodePtr {
    code: Arc<Code>,
    /// The stubs, the imports, and whatever else the code reaches.
    _jit: Arc<Inner>,
}

impl CodePtr {
    pub(crate) fn new(code: Arc<Code>, jit: Arc<Inner>) -> CodePtr {
        CodePtr { code, _jit: jit }
    }

    /// The first instruction. To call it is subject to the terms of [`as_fn`](CodePtr::as_fn).
    pub fn as_ptr(&self) -> *const u8 {
        self.code.linked.entry(self.code.number)
    }

    /// The code as a function pointer of type `F`.
    ///
    /// ```
    /// # use hapax_cranelift::CodePtr;
    /// # fn example(code: CodePtr) {
    /// // SAFETY: The unit was lowered with this signature, and `code` outlives the call.
    /// let add = unsafe { code.as_fn::<extern "C" fn(i64, i64) -> i64>() };
    /// assert_eq!(add(40, 2), 42);
    /// # }
    /// ```
    ///
    /// # Safety
    ///
    /// - `F` is a function pointer whose signature and calling convention are those that the unit was lowered with:
    ///   `extern "C"` for the platform's default.
    /// - It is called only while a clone of this `CodePtr` lives.
    /// - Calling it is sound: the front end lowered code that keeps Rust's rules.
    ///
    /// # Panics
    ///
    /// If `F` is not of the size of a pointer.
    pub unsafe fn as_fn<F: Copy>(&self) -> F {
        let entry = self.as_ptr();
        assert_eq!(size_of::<F>(), size_of_val(&entry), "`F` must be a function pointer");
        // SAFETY: The sizes are equal, as just checked. The caller vouches that `F` is a function pointer of the code's
        // signature; the address is that of the first instruction of code that may run.
        unsafe { std::mem::transmute_copy::<*const u8, F>(&entry) }
    }

    /// The name of the unit.
    pub fn name(&self) -> &str {
        &self.code.placed().name
    }

    /// The addresses of its instructions and constants.
    pub fn range(&self) -> Range<usize> {
        let code = &self.code.placed().code;
        code.start as usize..code.end as usize
    }
}

impl fmt::Debug for CodePtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodePtr").field("name", &self.name()).field("entry", &self.as_ptr()).finish()
    }
}

/// What lies at an address of compiled code.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The name of the function.
    pub function: String,
    /// Bytes from its first instruction.
    pub offset: u32,
    /// Why the instruction at that address traps, if it is one that can.
    pub trap: Option<TrapCode>,
}

/// What a batch has at an address.
pub(crate) fn locate(linked: &Linked, address: u64) -> Option<Location> {
    let functions = linked.functions();
    let after = functions.partition_point(|function| function.code.start <= address);
    let function = functions[..after].last().filter(|function| function.code.contains(&address))?;
    let offset = (address - function.code.start) as u32;
    let traps = linked.traps(function);
    let trap = traps.binary_search_by_key(&offset, |(at, _)| *at).ok();
    let trap = trap.map(|found| TrapCode::from_raw(traps[found].1));
    Some(Location { function: function.name.to_string(), offset, trap })
}
