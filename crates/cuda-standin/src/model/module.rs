//! Loaded modules, their functions, and launches in flight. Knows no image format.

use crate::code::Code;
use crate::model::Model;
use crate::model::clock::{Clock, Epoch};
use crate::model::kernel::{Builtin, Image};
use crate::model::shadow::Cause;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;

pub struct Module {
    pub context: u64,
    pub functions: BTreeMap<String, u64>,
    pub globals: BTreeMap<String, (u64, u64)>,
    in_flight: Vec<(Epoch, Cause)>,
}

pub struct Function {
    pub module: u64,
    pub name: Arc<str>,
    pub c_name: CString,
    pub builtin: Option<Builtin>,
    pub widths: Vec<usize>,
    pub attributes: BTreeMap<u32, i32>,
}

impl Module {
    /// Notes a launch, so that unloading under it is seen.
    pub fn launched(&mut self, epoch: Epoch, cause: &Cause, known: &Clock) {
        self.in_flight.retain(|(epoch, _)| !known.knows(*epoch));
        self.in_flight.push((epoch, cause.clone()));
    }
}

impl Model {
    pub fn load_module(&mut self, context: u64, image: Image) -> Result<u64, Code> {
        let handle = self.new_handle();
        let mut module =
            Module { context, functions: BTreeMap::new(), globals: BTreeMap::new(), in_flight: Vec::new() };
        for (name, bytes) in image.globals {
            let address = self.allocate(context, bytes, "cuModuleLoadData")?;
            self.space.write(address, &vec![0; bytes as usize]);
            module.globals.insert(name, (address, bytes));
        }
        for (name, widths) in image.kernels {
            let builtin = Builtin::named(&name);
            let widths = widths.or(builtin.map(|builtin| builtin.widths().to_vec())).unwrap_or_default();
            let function = Function {
                module: handle,
                name: name.as_str().into(),
                c_name: CString::new(name.as_str()).unwrap_or_default(),
                builtin,
                widths,
                attributes: BTreeMap::new(),
            };
            let function_handle = self.new_handle();
            self.functions.insert(function_handle, function);
            module.functions.insert(name, function_handle);
        }
        self.modules.insert(handle, module);
        Ok(handle)
    }

    pub fn unload_module(&mut self, handle: u64) -> Result<(), Code> {
        let module = self.modules.remove(&handle).ok_or(Code::INVALID_HANDLE)?;
        for (epoch, cause) in module.in_flight.iter().filter(|(epoch, _)| !self.host_clock.knows(*epoch)) {
            let stream = self.stream_name(epoch.stream);
            self.report.violation(format!(
                "early free: cuModuleUnload of module {handle:#x} while nothing shows that {cause} on {stream} is over"
            ));
        }
        self.functions.retain(|_, function| function.module != handle);
        for (address, _) in module.globals.into_values() {
            self.free_now(address, "cuModuleUnload");
        }
        Ok(())
    }

    /// A function that can be launched.
    pub fn function(&mut self, handle: u64, call: &'static str) -> Result<&mut Function, Code> {
        if !self.functions.contains_key(&handle) {
            self.violation(format!("invalid handle: {call} of function {handle:#x}, which is of no loaded module"));
            return Err(Code::INVALID_HANDLE);
        }
        Ok(self.functions.get_mut(&handle).expect("just found"))
    }
}
