//! How many calls of a program may be inside each other, and the stack for that. Knows representations and no code.

use crate::ir::Function;

/// Calls inside each other, where the stack has room for them.
pub const CALLS_AT_MOST: u64 = 10_000;
/// For the calls of compiled code. Taken from the system as it is used.
const CALLS_BYTES: u64 = 512 << 20;
/// For what compiled code calls: the compiler, among others.
const HOST_BYTES: u64 = 8 << 20;

/// What a frame takes whatever is in it: the return address, saved registers, outgoing arguments.
const FRAME_BYTES: u64 = 1 << 10;
/// The compiler may keep a register of the representation, and what an instruction works with, in a slot of the frame each.
const SLOT_BYTES: u64 = 8;
const SLOTS_PER_INSTRUCTION: u64 = 4;

/// What the calls of a program need.
pub struct Depth {
    /// Calls inside each other: the same for the interpreter, so that both fail at the same point.
    pub calls: u64,
    /// Stack for that many.
    pub stack_bytes: u64,
}

impl Depth {
    /// For these functions, none of whose frames can be larger than what is assumed here.
    pub fn of(functions: &[Function]) -> Depth {
        let frame = |function: &Function| {
            let instructions: usize = function.blocks.iter().map(|block| block.instructions.len() + 1).sum();
            let slots = function.registers.len() as u64 + SLOTS_PER_INSTRUCTION * instructions as u64;
            FRAME_BYTES + SLOT_BYTES * slots
        };
        let frame_bytes = functions.iter().map(frame).max().unwrap_or(FRAME_BYTES);
        let calls = (CALLS_BYTES / frame_bytes).clamp(1, CALLS_AT_MOST);
        Depth { calls, stack_bytes: calls * frame_bytes + HOST_BYTES }
    }
}
