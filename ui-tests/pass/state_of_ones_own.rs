// expect: E0277
// The states are Uninit, Ready, InFlight and Evicted: no other type is one.
use hapax::{DevBox, Error};

fn main() -> Result<(), Error> {
    let bytes = size_of::<DevBox<[u8], hapax::Uninit>>();
    assert_eq!(bytes, size_of::<DevBox<[u8]>>());
    Ok(())
}
