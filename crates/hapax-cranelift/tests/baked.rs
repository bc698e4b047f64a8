//! Addresses of the process as constants: which are found, and which numbers are left alone.
#![allow(unsafe_code, reason = "maps pages")]

mod common;

use common::{Words, builder, call, jit, lower, memory_store, words};
use cranelift_codegen::ir::Function;
use hapax_cranelift::{BakedAddresses, Data, Error, LowerError, Lowering};

/// A page of this process, until it is dropped.
struct Mapped(*mut libc::c_void);

const PAGE_BYTES: usize = 4096;

impl Mapped {
    fn new(at: usize, protection: libc::c_int, flags: libc::c_int) -> Mapped {
        let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: A mapping of its own, which replaces none: no flag here asks for that.
        let page = unsafe { libc::mmap(std::ptr::without_provenance_mut(at), PAGE_BYTES, protection, flags, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        Mapped(page)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this, and nothing refers to it.
        unsafe { libc::munmap(self.0, PAGE_BYTES) };
    }
}

/// The number that the body gives, in data at an odd offset.
fn holds(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
    lower(&words("x", "a"), lowering, function)?;
    let mut bytes = vec![0; 3];
    bytes.extend(unit.body.parse::<u64>()?.to_le_bytes());
    lowering.data(Data::bytes(bytes), function)?;
    Ok(())
}

#[test]
fn an_address_in_data_is_found_at_any_offset() {
    let address = common::host_mul as *const u8 as usize;
    let refused = jit(&memory_store()).compile(&words("unaligned", &address.to_string()), holds);
    assert!(matches!(refused, Err(Error::Unkept { .. })), "{refused:?}");
    jit(&memory_store()).compile(&words("number", "1099511628211"), holds).unwrap();
}

#[test]
#[cfg(target_arch = "x86_64")] // the flag is x86-64's
fn addresses_below_4_gib_are_found() {
    let low = Mapped::new(0, libc::PROT_READ, libc::MAP_32BIT);
    let refused = jit(&memory_store()).compile(&words("low", &format!("{}", low.0.addr())), lower);
    assert!(matches!(refused, Err(Error::Unkept { .. })), "{refused:?}");
}

/// `0x100000001b3` is the prime of FNV-1a; sanitizers reserve addresses there.
#[test]
fn a_number_that_points_into_reserved_room_is_a_number() {
    let _reserved = Mapped::new(0x100_0000_0000, libc::PROT_NONE, libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE);
    let jit = jit(&memory_store());
    let code = jit.compile(&words("fnv", &format!("a b {} * +", 0x100_0000_01b3u64)), lower).unwrap();
    assert_eq!(call(&code, 0, 1), 0x100_0000_01b3);
    assert_eq!(jit.stats().unkept, 0);
}

#[test]
fn who_trusts_the_front_end_has_every_number_kept() {
    let page = Mapped::new(0, libc::PROT_READ, 0);
    let unit = words("number", &format!("{}", page.0.addr()));
    let store = memory_store();
    assert!(jit(&store).compile(&unit, lower).is_err());
    let trusting = || builder(&store).baked_addresses(BakedAddresses::Trust).build().unwrap();
    for compiles in [1, 0] {
        let jit = trusting();
        assert_eq!(call(&jit.compile(&unit, lower).unwrap(), 0, 0), page.0.addr() as i64);
        assert_eq!((jit.stats().compiles, jit.stats().unkept), (compiles, 0));
    }
}
