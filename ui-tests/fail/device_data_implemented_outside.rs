// expect: E0277
// `DeviceData` is sealed: a type has it by being `bytemuck::Pod`, and in no other way.
use hapax::Error;

struct Mapped;

impl hapax::DeviceData for Mapped {}

fn main() -> Result<(), Error> {
    assert_eq!(size_of_val(&Mapped), 0);
    Ok(())
}
