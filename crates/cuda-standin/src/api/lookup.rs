//! Names: of error codes, and of the calls themselves.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::{Out, Text};
use crate::code::Code;
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};

calls! {
    cuGetProcAddress(symbol: Text, address: Out<usize>, version: c_int, _flags: c_ulonglong) Nothing |_call| {
        address.put(find(&symbol.read()?, version).ok_or(Code::NOT_FOUND)?)
    }

    cuGetProcAddress_v2(
        symbol: Text,
        address: Out<usize>,
        version: c_int,
        _flags: c_ulonglong,
        status: Out<c_uint>,
    ) Nothing |_call| {
        const FOUND: c_uint = 0;
        const NOT_FOUND: c_uint = 1;
        let found = find(&symbol.read()?, version);
        status.put_if_asked(if found.is_some() { FOUND } else { NOT_FOUND });
        address.put(found.unwrap_or(0))?;
        found.map(drop).ok_or(Code::NOT_FOUND)
    }

    cuGetExportTable(_table: *mut c_void, _id: *const c_void) Nothing |_call| {
        Err(Code::NOT_SUPPORTED)
    }
}

/// Formatting an error must not depend on the state that the error is about: no count, no fault, no late work.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(code: c_uint, text: Out<*const c_char>) -> c_uint {
    text_of(Code(code).c_name(), text)
}

/// As [`cuGetErrorName`].
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(code: c_uint, text: Out<*const c_char>) -> c_uint {
    text_of(Code(code).c_description(), text)
}

fn text_of(found: Option<&'static CStr>, text: Out<*const c_char>) -> c_uint {
    let put = text.put(found.map_or(std::ptr::null(), CStr::as_ptr));
    let result = if found.is_none() { Err(Code::INVALID_VALUE) } else { put };
    result.err().unwrap_or(Code::SUCCESS).0
}

/// A call by the name without its version, as programs ask for it, as the headers of that CUDA version spell it.
fn find(name: &str, version: c_int) -> Option<usize> {
    let mut table = crate::api::table();
    table.push(("cuGetErrorName", cuGetErrorName as *const () as usize));
    table.push(("cuGetErrorString", cuGetErrorString as *const () as usize));
    let suffixes: &[&str] = if version >= 13_000 { &["_v4", "_v3", "_v2", ""] } else { &["_v2", ""] };
    suffixes.iter().find_map(|suffix| {
        let versioned = format!("{name}{suffix}");
        table.iter().find(|(known, _)| *known == versioned).map(|(_, address)| *address)
    })
}
