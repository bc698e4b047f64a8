// expect: E0277
// `State` is sealed: what may be done in a state is hapax's to say.
use hapax::Error;

struct Mapped;

impl hapax::State for Mapped {}

fn main() -> Result<(), Error> {
    assert_eq!(size_of_val(&Mapped), 0);
    Ok(())
}
