//! Leases as arguments of our own launches.

use crate::cache::lease::{Lease, OwnedLease};
use crate::device::stream::Stream;
use crate::handle::DevBox;
use crate::handle::launch::{KernelMemory, sealed::Sealed};
use crate::heap::data::DeviceData;
use std::hash::Hash;

impl<'a, K: Hash + Eq, T: ?Sized + DeviceData> KernelMemory<'a> for &'a Lease<'_, K, DevBox<T>> {}
impl<'a, K: Hash + Eq, T: ?Sized + DeviceData> Sealed<'a> for &'a Lease<'_, K, DevBox<T>> {
    fn lent(self) -> (u64, &'a Stream) {
        (*self.address(), self.stream())
    }
}

impl<'a, K: Hash + Eq, T: ?Sized + DeviceData> KernelMemory<'a> for &'a OwnedLease<K, DevBox<T>> {}
impl<'a, K: Hash + Eq, T: ?Sized + DeviceData> Sealed<'a> for &'a OwnedLease<K, DevBox<T>> {
    fn lent(self) -> (u64, &'a Stream) {
        (*self.address(), self.stream())
    }
}
