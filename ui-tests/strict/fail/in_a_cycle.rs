// expect: E0080
// An `Rc` in a cycle is never dropped, but it could be: the gate refuses it all the same.
use hapax::{DevBox, Error, Heap, HeapOptions, HostDevice, Ready};
use std::cell::RefCell;
use std::rc::Rc;

struct Node {
    _code: DevBox<[u8], Ready>,
    next: RefCell<Option<Rc<Node>>>,
}

fn in_a_cycle(code: DevBox<[u8], Ready>) {
    let node = Rc::new(Node { _code: code, next: RefCell::new(None) });
    std::mem::forget(node.next.replace(Some(node.clone())));
}

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let code = heap.alloc_slice::<u8>(4)?;
    let code = match code.upload_from(b"ret\0") {
        Ok(code) => code,
        Err(refused) => return refused.handle.free().and(Err(*refused.error)),
    };
    in_a_cycle(code);
    Ok(())
}
