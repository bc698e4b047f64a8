//! Pointers that callers pass: where a result goes, text, arrays. Knows no call.
//!
//! Values of these types come only from callers of the exported functions, which are `unsafe`: they promise that a
//! pointer is null or good for what the driver's documentation says is done with it.
#![expect(unsafe_code, reason = "reads and writes through the caller's pointers")]

use crate::code::Code;
use std::ffi::{CStr, c_char, c_void};

/// Where a result goes.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Out<T> {
        *self
    }
}

impl<T> std::marker::Copy for Out<T> {}

impl<T> Out<T> {
    /// Writes a result that the caller must have asked for.
    pub fn put(self, value: T) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, so by the caller's promise a place for a `T`; alignment is not relied on.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Writes a result that the caller may have asked for.
    pub fn put_if_asked(self, value: T) {
        if !self.0.is_null() {
            let _ = self.put(value);
        }
    }

    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The same place for another type: the caller's type depends on another argument.
    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }
}

impl<T: std::marker::Copy> Out<T> {
    /// What is there now, for calls that exchange.
    pub fn get(self) -> Result<T, Code> {
        In(self.0.cast_const()).at(0)
    }
}

impl Out<c_char> {
    /// Writes text and its final zero, cut to `room` bytes.
    pub fn put_text(self, text: &str, room: i32) -> Result<(), Code> {
        let room = usize::try_from(room).ok().filter(|room| *room > 0).ok_or(Code::INVALID_VALUE)?;
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let text = &text.as_bytes()[..text.len().min(room - 1)];
        // SAFETY: text and zero are at most the `room` bytes that the caller says are there.
        let place = unsafe { std::slice::from_raw_parts_mut(self.0.cast::<u8>(), text.len() + 1) };
        place[..text.len()].copy_from_slice(text);
        place[text.len()] = 0;
        Ok(())
    }
}

/// A value, an array or an image that is only read.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> In<T> {
        *self
    }
}

impl<T> std::marker::Copy for In<T> {}

impl<T: std::marker::Copy> In<T> {
    pub fn at(self, index: usize) -> Result<T, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let place = self.0.wrapping_add(index);
        // SAFETY: not null, so by the caller's promise in an array that is long enough.
        Ok(unsafe { place.read_unaligned() })
    }

    pub fn is_null(self) -> bool {
        self.0.is_null()
    }
}

/// Text that ends with a zero.
pub type Text = In<c_char>;

impl Text {
    pub fn read(self) -> Result<String, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, so by the caller's promise text that ends with a zero.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(str::to_owned).map_err(|_| Code::INVALID_VALUE)
    }
}

/// An image whose length only its own bytes tell.
pub type RawImage = In<c_void>;

impl RawImage {
    /// The bytes of an ELF file by its section table, or text up to its zero.
    pub fn read_image(self) -> Result<Vec<u8>, Code> {
        let start = self.0.cast::<u8>();
        if start.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let bytes = |count: usize| {
            // SAFETY: the image is at least `count` bytes long: a first byte always, an ELF header after an ELF
            // magic, and whole sections and section tables once the header has told where they are.
            unsafe { std::slice::from_raw_parts(start, count) }
        };
        if bytes(1)[0] != 0x7f || &bytes(4)[1..] != b"ELF" {
            // SAFETY: an image that is no ELF file is text that ends with a zero.
            return Ok(unsafe { CStr::from_ptr(start.cast()) }.to_bytes().to_vec());
        }
        let header = bytes(64);
        let number = |at: usize, width: usize| header[at..at + width].iter().rev().fold(0, |n, b| n << 8 | *b as usize);
        let (table, entry, count) = (number(40, 8), number(58, 2), number(60, 2));
        let mut end = table + entry * count;
        for section in 0..count {
            let header = &bytes(table + entry * (section + 1))[table + entry * section..];
            let number = |at: usize, w: usize| header[at..at + w].iter().rev().fold(0, |n, b| n << 8 | *b as usize);
            const NO_BYTES: usize = 8;
            if number(4, 4) != NO_BYTES {
                end = end.max(number(24, 8) + number(32, 8));
            }
        }
        Ok(bytes(end).to_vec())
    }
}

/// A kernel's arguments as `cuLaunchKernel` takes them: a pointer for each.
pub type Arguments = In<In<u8>>;

/// A little-endian number of `width` bytes.
pub fn number(from: In<u8>, width: usize) -> Result<u64, Code> {
    (0..width).try_fold(0, |number, at| Ok(number | u64::from(from.at(at)?) << (8 * at)))
}

/// The argument buffer that `extra` of `cuLaunchKernel` describes, cut into numbers of these widths.
pub fn packed(extra: In<usize>, widths: &[usize]) -> Result<Vec<u64>, Code> {
    const END: usize = 0;
    const POINTER: usize = 1;
    const SIZE: usize = 2;
    let (mut buffer, mut size) = (None, 0);
    for pair in 0..3 {
        match extra.at(pair * 2)? {
            END => break,
            POINTER => buffer = Some(In(extra.at(pair * 2 + 1)? as *const u8)),
            SIZE => size = In(extra.at(pair * 2 + 1)? as *const usize).at(0)?,
            _ => return Err(Code::INVALID_VALUE),
        }
    }
    let buffer: In<u8> = buffer.ok_or(Code::INVALID_VALUE)?;
    let mut at: usize = 0;
    let mut numbers = Vec::new();
    for &width in widths {
        at = at.next_multiple_of(width);
        if at + width > size {
            return Err(Code::INVALID_VALUE);
        }
        numbers.push(number(In(buffer.0.wrapping_add(at)), width)?);
        at += width;
    }
    Ok(numbers)
}
