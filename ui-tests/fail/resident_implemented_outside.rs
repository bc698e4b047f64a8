// expect: E0277
// `Resident` is sealed: a cache must know how to charge, lease and free what it holds.
use hapax::Error;

struct Mapped;

impl hapax::Resident for Mapped {}

fn main() -> Result<(), Error> {
    assert_eq!(size_of_val(&Mapped), 0);
    Ok(())
}
