//! Leases as arguments of cudarc's launch builder.
#![expect(unsafe_code, reason = "cudarc's trait for launch arguments is unsafe")]

use crate::cache::lease::{Lease, OwnedLease};
use crate::handle::DevBox;
use crate::heap::data::DeviceData;
use cudarc::driver::{LaunchArgs, PushKernelArg};
use std::hash::Hash;

/// As for a [`View`](crate::View): to launch on the lease's stream is a part of what the caller of cudarc's `unsafe launch` promises.
// SAFETY: passes the entry's device address, as cudarc does with its own slices.
unsafe impl<'a, 'b: 'a, K: Hash + Eq, T: ?Sized + DeviceData> PushKernelArg<&'b Lease<'_, K, DevBox<T>>>
    for LaunchArgs<'a>
{
    #[inline(always)]
    fn arg(&mut self, lease: &'b Lease<'_, K, DevBox<T>>) -> &mut Self {
        PushKernelArg::<&'b u64>::arg(self, lease.address())
    }
}

/// As for a borrowed lease.
// SAFETY: as above.
unsafe impl<'a, 'b: 'a, K: Hash + Eq, T: ?Sized + DeviceData> PushKernelArg<&'b OwnedLease<K, DevBox<T>>>
    for LaunchArgs<'a>
{
    #[inline(always)]
    fn arg(&mut self, lease: &'b OwnedLease<K, DevBox<T>>) -> &mut Self {
        PushKernelArg::<&'b u64>::arg(self, lease.address())
    }
}
