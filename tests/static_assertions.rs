//! What the compiler promises about the public types: who may cross threads, who is never copied, and how
//! much room each takes. Nothing here runs, apart from the test that compares sizes.

use hapax::{
    Cache, DevBox, DeviceRef, Error, Evicted, Evictions, Exported, Filled, Freed, Function, Heap, InFlight, Landed,
    Lease, Lookup, Module, ModuleView, OwnedLease, PageLocked, Ready, Removed, Reservation, Returned, Stream,
    TryLookup, Uninit, Vacancy, View, ViewMut, VramCache,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

type Flying = DevBox<[u8], InFlight<PageLocked<[u8]>>>;
type Bundle = (DevBox<[u8]>, DevBox<[u32]>);
type Key = u64;
type Value = DevBox<[u8]>;

/// Any thread may hold it, and several may look at it at once.
mod crosses_threads {
    use super::*;

    assert_impl_all!(DevBox<u32, Uninit>: Send, Sync);
    assert_impl_all!(DevBox<[u8], Uninit>: Send, Sync);
    assert_impl_all!(DevBox<[u8], Ready>: Send, Sync);
    assert_impl_all!(DevBox<[u8], Evicted>: Send, Sync);
    assert_impl_all!(Flying: Send, Sync);
    assert_impl_all!(Landed<[u8]>: Send, Sync);
    assert_impl_all!(Exported<[u8]>: Send, Sync);
    assert_impl_all!(PageLocked<[u8]>: Send, Sync);
    assert_impl_all!(Module: Send, Sync);
    assert_impl_all!(Module<Evicted>: Send, Sync);
    assert_impl_all!(ModuleView<'static>: Send, Sync, Copy);
    assert_impl_all!(Function<'static>: Send, Sync, Copy);
    assert_impl_all!(View<'static, [u8]>: Send, Sync);
    assert_impl_all!(ViewMut<'static, [u8]>: Send, Sync);

    assert_impl_all!(DeviceRef: Send, Sync);
    assert_impl_all!(Stream: Send, Sync);
    assert_impl_all!(Heap: Send, Sync);

    assert_impl_all!(VramCache<Key, [u8]>: Send, Sync);
    assert_impl_all!(Cache<Key, Bundle>: Send, Sync);
    assert_impl_all!(Cache<Key, (Module, Value)>: Send, Sync);
    assert_impl_all!(Lease<'static, Key, Value>: Send, Sync);
    assert_impl_all!(OwnedLease<Key, Value>: Send, Sync);
    assert_impl_all!(Lease<'static, Key, Bundle>: Send, Sync);
    assert_impl_all!(Filled<'static, Key, Value>: Send, Sync);
    assert_impl_all!(Evictions<Key, Value>: Send, Sync);
    assert_impl_all!(Evictions<Key, Bundle>: Send, Sync);

    assert_impl_all!(Error: Send, Sync, std::error::Error);
    assert_impl_all!(Returned<Value>: Send, Sync, std::error::Error);
}

/// Waiting is checked for deadlocks by thread, so the right to fill stays where it was opened.
mod stays_on_its_thread {
    use super::*;

    assert_not_impl_any!(Vacancy<'static, Key, Value>: Send, Sync);
    assert_not_impl_any!(Reservation<'static, Key, Value>: Send, Sync);
    assert_not_impl_any!(Lookup<'static, Key, Value>: Send, Sync);
    assert_not_impl_any!(TryLookup<'static, Key, Value>: Send, Sync);
}

/// A cache hands its keys to whichever thread evicts, so it crosses threads only if they do.
mod crosses_threads_as_its_key_does {
    use super::*;
    use std::rc::Rc;

    assert_not_impl_any!(VramCache<Rc<str>, [u8]>: Send, Sync);
    assert_not_impl_any!(Evictions<Rc<str>, Value>: Send, Sync);
    assert_not_impl_any!(Lease<'static, Rc<str>, Value>: Send, Sync);
    assert_not_impl_any!(OwnedLease<Rc<str>, Value>: Send, Sync);
}

/// One owner: neither it nor a part of it can be duplicated.
mod is_never_duplicated {
    use super::*;

    assert_not_impl_any!(DevBox<u32, Uninit>: Clone, Copy);
    assert_not_impl_any!(DevBox<[u8], Uninit>: Clone, Copy);
    assert_not_impl_any!(DevBox<[u8], Ready>: Clone, Copy);
    assert_not_impl_any!(DevBox<[u8], Evicted>: Clone, Copy);
    assert_not_impl_any!(Flying: Clone, Copy);
    assert_not_impl_any!(Landed<[u8]>: Clone, Copy);
    assert_not_impl_any!(Exported<[u8]>: Clone, Copy);
    assert_not_impl_any!(PageLocked<[u8]>: Clone, Copy);
    assert_not_impl_any!(ViewMut<'static, [u8]>: Clone, Copy);
    assert_not_impl_any!(Uninit: Clone, Copy, Default);
    assert_not_impl_any!(Ready: Clone, Copy, Default);
    assert_not_impl_any!(Evicted: Clone, Copy, Default);
    assert_not_impl_any!(InFlight<PageLocked<[u8]>>: Clone, Copy, Default);

    assert_not_impl_any!(VramCache<Key, [u8]>: Clone, Copy);
    assert_not_impl_any!(Evictions<Key, Value>: Clone, Copy);
    assert_not_impl_any!(Removed<Key, Value>: Clone, Copy);
    assert_not_impl_any!(Vacancy<'static, Key, Value>: Clone, Copy);
    assert_not_impl_any!(Reservation<'static, Key, Value>: Clone, Copy);
    assert_not_impl_any!(Filled<'static, Key, Value>: Clone, Copy);
    assert_not_impl_any!(Returned<Value>: Clone, Copy);
}

/// Shares of one thing, each counted.
mod is_shared_by_cloning {
    use super::*;

    assert_impl_all!(View<'static, [u8]>: Clone, Copy);
    assert_impl_all!(Lease<'static, Key, Value>: Clone);
    assert_impl_all!(OwnedLease<Key, Value>: Clone);
    assert_impl_all!(Stream: Clone);
    assert_impl_all!(Heap: Clone);
    assert_impl_all!(DeviceRef: Clone);
    assert_not_impl_any!(Lease<'static, Key, Value>: Copy);
    assert_not_impl_any!(OwnedLease<Key, Value>: Copy);
}

/// Reads as plain data only what a device may leave there; the rest of `DeviceData`'s refusals are in `ui-tests`.
mod is_device_data_only_if_plain {
    use hapax::DeviceData;
    use static_assertions::{assert_impl_all, assert_not_impl_any};

    assert_impl_all!([u8]: DeviceData);
    assert_impl_all!([f32]: DeviceData);
    assert_impl_all!([[u32; 3]]: DeviceData);
    assert_not_impl_any!(char: DeviceData);
    assert_not_impl_any!((u8, u32): DeviceData);
    assert_not_impl_any!(Option<u8>: DeviceData);
    assert_not_impl_any!(std::num::NonZeroU32: DeviceData);
    assert_not_impl_any!(*const u8: DeviceData);
    assert_not_impl_any!(str: DeviceData);
}

#[test]
fn every_type_takes_no_more_room_than_it_is_allowed() {
    #[rustfmt::skip]
    let rows = [
        ("DevBox<[u8]>", size_of::<DevBox<[u8]>>(), 40),
        ("DevBox<[u8], Evicted>", size_of::<DevBox<[u8], Evicted>>(), 40),
        ("Result<DevBox<[u8]>, Returned<..>>", size_of::<Result<Value, Returned<DevBox<[u8], Uninit>>>>(), 48),
        ("Returned<DevBox<[u8]>>", size_of::<Returned<Value>>(), 48),
        ("Exported<[u8]>", size_of::<Exported<[u8]>>(), 40),
        ("View<[u8]>", size_of::<View<'static, [u8]>>(), 32),
        ("Lease<u64, DevBox<[u8]>>", size_of::<Lease<'static, Key, Value>>(), 48),
        ("Result<Option<Lease<..>>, Error>", size_of::<Result<Option<Lease<'static, Key, Value>>, Error>>(), 56),
        ("OwnedLease<u64, DevBox<[u8]>>", size_of::<OwnedLease<Key, Value>>(), 48),
        ("Evictions<u64, DevBox<[u8]>>", size_of::<Evictions<Key, Value>>(), 72),
        ("Error", size_of::<Error>(), 56),
        ("Freed", size_of::<Freed>(), 16),
    ];
    let mut over = Vec::new();
    println!("{:<36} bytes  allowed", "type");
    for (name, bytes, allowed) in rows {
        println!("{name:<36} {bytes:>5}  {allowed:>7}");
        if bytes > allowed {
            over.push(format!("{name} takes {bytes} bytes, {allowed} are allowed"));
        }
    }
    assert!(over.is_empty(), "\n{}\n", over.join("\n"));
}
