//! `cuModule*`, and functions but for launching them.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::{Out, RawImage, Text};
use crate::api::entry::Call;
use crate::code::Code;
use crate::model::kernel::Image;
use std::ffi::{c_char, c_int, c_uint, c_void};

calls! {
    cuModuleLoad(module: Out<u64>, path: Text) Current |call| {
        let bytes = std::fs::read(path.read()?).map_err(|_| Code::FILE_NOT_FOUND)?;
        load(call, module, &bytes)
    }

    cuModuleLoadData(module: Out<u64>, image: RawImage) Current |call| {
        load(call, module, &image.read_image()?)
    }

    cuModuleLoadDataEx(
        module: Out<u64>,
        image: RawImage,
        _count: c_uint,
        _options: *mut c_void,
        _values: *mut c_void,
    ) Current |call| {
        load(call, module, &image.read_image()?)
    }

    cuModuleUnload(module: u64) Current |call| {
        call.refuse_unsafe_in_capture()?;
        call.unload_module(module)
    }

    cuModuleGetFunction(function: Out<u64>, module: u64, name: Text) Current |call| {
        let module = call.modules.get(&module).ok_or(Code::INVALID_HANDLE)?;
        let found = module.functions.get(&name.read()?).copied();
        function.put(found.ok_or(Code::NOT_FOUND)?)
    }

    cuModuleGetGlobal_v2(address: Out<u64>, bytes: Out<usize>, module: u64, name: Text) Current |call| {
        let module = call.modules.get(&module).ok_or(Code::INVALID_HANDLE)?;
        let (found, size) = *module.globals.get(&name.read()?).ok_or(Code::NOT_FOUND)?;
        address.put_if_asked(found);
        bytes.put_if_asked(size as usize);
        Ok(())
    }

    cuModuleGetFunctionCount(count: Out<c_uint>, module: u64) Current |call| {
        count.put(call.modules.get(&module).ok_or(Code::INVALID_HANDLE)?.functions.len() as c_uint)
    }

    cuModuleGetLoadingMode(mode: Out<c_uint>) Initialized |_call| {
        const EAGER: c_uint = 1;
        mode.put(EAGER)
    }

    cuFuncGetAttribute(value: Out<c_int>, attribute: c_uint, function: u64) Current |call| {
        let name = call.name;
        let set = call.function(function, name)?.attributes.get(&attribute).copied();
        let compute = call.settings.compute.0 * 10 + call.settings.compute.1;
        value.put(set.unwrap_or(match attribute {
            0 => 1_024,
            4 => 32,
            5 | 6 => compute,
            9 => -1,
            1..=17 => 0,
            _ => return Err(Code::INVALID_VALUE),
        }))
    }

    cuFuncSetAttribute(function: u64, attribute: c_uint, value: c_int) Current |call| {
        let name = call.name;
        call.function(function, name)?.attributes.insert(attribute, value);
        Ok(())
    }

    cuFuncSetCacheConfig(function: u64, _config: c_uint) Current |call| {
        let name = call.name;
        call.function(function, name).map(drop)
    }

    cuFuncSetSharedMemConfig(function: u64, _config: c_uint) Current |call| {
        let name = call.name;
        call.function(function, name).map(drop)
    }

    cuFuncGetModule(module: Out<u64>, function: u64) Current |call| {
        let name = call.name;
        module.put(call.function(function, name)?.module)
    }

    cuFuncGetName(text: Out<*const c_char>, function: u64) Current |call| {
        let name = call.name;
        text.put(call.function(function, name)?.c_name.as_ptr())
    }

    cuFuncGetParamInfo(function: u64, index: usize, offset: Out<usize>, bytes: Out<usize>) Current |call| {
        let name = call.name;
        let widths = call.function(function, name)?.widths.clone();
        let width = *widths.get(index).ok_or(Code::INVALID_VALUE)?;
        let before = widths[..index].iter().fold(0_usize, |at, width| at.next_multiple_of(*width) + width);
        offset.put(before.next_multiple_of(width))?;
        bytes.put_if_asked(width);
        Ok(())
    }
}

fn load(call: &mut Call, module: Out<u64>, bytes: &[u8]) -> Result<(), Code> {
    let image = if bytes.starts_with(b"\x7fELF") {
        Image::from_elf(bytes)
    } else {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Image::from_text(std::str::from_utf8(text).map_err(|_| Code::INVALID_IMAGE)?)?
    };
    let context = call.context;
    let loaded = call.load_module(context, image)?;
    module.put(loaded)
}
