//! Several threads on one heap: what one retires, another may be about to mark.

use crate::Rig;

#[test]
fn a_stream_never_ends_while_another_thread_is_marking_it() {
    const ROUNDS: usize = 100;
    let rig = Rig::new(1 << 16);
    // Notes of many streams: whoever marks them is at it for a while.
    let streams: Vec<_> = (0..24).map(|_| rig.heap.new_stream().unwrap()).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                let stream = rig.heap.new_stream().unwrap();
                let handle = rig.heap.alloc_slice::<u8>(8).unwrap().zero(&stream).unwrap();
                for stream in &streams {
                    crate::lend(&handle, stream);
                }
                drop(stream);
                drop(handle);
                rig.sweep();
            }
        });
        for _ in 0..ROUNDS {
            rig.late.run_all();
            rig.heap.settle().unwrap();
        }
    });
    rig.heap.settle().unwrap();
    assert_eq!(rig.freeing_bytes(), 0);
}
