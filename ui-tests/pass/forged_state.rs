// expect: E0423
// A state is proof of what happened to the memory: only hapax makes one.
use hapax::{Error, Ready};

fn main() -> Result<(), Error> {
    let state = std::any::type_name::<Ready>();
    assert!(format!("{state:?}").contains("Ready"));
    Ok(())
}
