//! The exported driver calls, one file for each group, and what they share: how an argument is read and a result
//! written. Knows no rule of the device; the model does.

macro_rules! calls {
    ($($name:ident($($argument:ident: $type:ty),* $(,)?) $need:ident |$call:ident| $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> std::ffi::c_uint {
                crate::api::entry::enter(stringify!($name), crate::api::entry::Need::$need, |$call| $body)
            }
        )*

        /// Name and address of each call in this file.
        pub fn table() -> Vec<(&'static str, usize)> {
            vec![$((stringify!($name), $name as *const () as usize)),*]
        }
    };
}

mod argument;
mod context;
mod copy;
mod device;
pub mod entry;
mod event;
mod graph;
mod host_function;
mod launch;
mod lookup;
mod memory;
mod module;
mod occupancy;
mod pool;
mod stream;
mod unsupported;

/// Every exported driver call.
pub fn table() -> Vec<(&'static str, usize)> {
    let tables = [
        context::table(),
        copy::table(),
        device::table(),
        event::table(),
        graph::table(),
        launch::table(),
        lookup::table(),
        memory::table(),
        module::table(),
        occupancy::table(),
        pool::table(),
        stream::table(),
        unsupported::table(),
    ];
    tables.concat()
}

/// Runs the host functions whose turn has come, on a thread of their own.
pub fn start_host_functions() {
    host_function::start();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_readme_lists_every_call_and_no_other() {
        let readme = include_str!("../../README.md");
        let (_, calls) = readme.split_once("\n## Calls\n").unwrap();
        let is_a_call = |word: &&str| word.strip_prefix("cu").is_some_and(|rest| rest.starts_with(char::is_uppercase));
        let listed: BTreeSet<&str> =
            calls.split(|c: char| !c.is_alphanumeric() && c != '_').filter(is_a_call).collect();
        let mut exported: BTreeSet<&str> = super::table().into_iter().map(|(name, _)| name).collect();
        exported.extend(["cuGetErrorName", "cuGetErrorString"]);
        assert_eq!(listed, exported);
    }
}
