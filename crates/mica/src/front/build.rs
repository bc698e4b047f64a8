//! Puts one function's blocks together. Knows registers, no types and no text.

use crate::front::source::Position;
use crate::ir::{Block, BlockId, Callee, End, Function, Instruction, Kind, Place, Register};

/// A function that is being built.
pub struct Builder {
    function: Function,
    current: BlockId,
    /// False behind a return, break or continue: what comes there never runs.
    is_open: bool,
    line: u32,
}

impl Builder {
    /// A function of that name, at that line, without parameters yet.
    pub fn new(name: &str, line: u32, is_kernel: bool, returns: Option<Kind>) -> Builder {
        let function = Function {
            name: name.to_owned(),
            parameters: 0,
            registers: Vec::new(),
            returns,
            blocks: vec![empty_block()],
            callees: Vec::new(),
            texts: Vec::new(),
            is_kernel,
        };
        Builder { function, current: 0, is_open: true, line }
    }

    pub fn parameter(&mut self, kind: Kind) -> Register {
        self.function.parameters += 1;
        self.register(kind)
    }

    pub fn register(&mut self, kind: Kind) -> Register {
        self.function.registers.push(kind);
        self.function.registers.len() as Register - 1
    }

    pub fn place(&self, at: Position) -> Place {
        Place { line: at.line.saturating_sub(self.line), column: at.column }
    }

    pub fn add(&mut self, instruction: Instruction) {
        if self.is_open {
            self.function.blocks[self.current as usize].instructions.push(instruction);
        }
    }

    pub fn constant(&mut self, kind: Kind, word: u64) -> Register {
        let to = self.register(kind);
        self.add(Instruction::Constant { to, word });
        to
    }

    /// The number of the callee of that name, which `callee` describes if it is new.
    pub fn callee(&mut self, name: &str, callee: impl FnOnce() -> Callee) -> u32 {
        let callees = &mut self.function.callees;
        let known = callees.iter().position(|known| known.name == name);
        known.unwrap_or_else(|| {
            callees.push(callee());
            callees.len() - 1
        }) as u32
    }

    pub fn text(&mut self, text: &[u8]) -> u32 {
        self.function.texts.push(text.to_owned());
        self.function.texts.len() as u32 - 1
    }

    pub fn block(&mut self) -> BlockId {
        self.function.blocks.push(empty_block());
        self.function.blocks.len() as BlockId - 1
    }

    /// Ends the current block.
    pub fn end(&mut self, end: End) {
        if self.is_open {
            self.function.blocks[self.current as usize].end = end;
            self.is_open = false;
        }
    }

    /// What follows goes there.
    pub fn go_on_in(&mut self, block: BlockId) {
        self.current = block;
        self.is_open = true;
    }

    /// Whether the end of the function can be reached from here.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The function, without the blocks that nothing leads to.
    pub fn finish(self) -> Function {
        let mut blocks = self.function.blocks;
        let mut new_numbers = vec![None; blocks.len()];
        let mut order = Vec::new();
        let mut waiting = vec![0];
        while let Some(block) = waiting.pop() {
            if new_numbers[block as usize].is_some() {
                continue;
            }
            new_numbers[block as usize] = Some(order.len() as BlockId);
            order.push(block);
            match blocks[block as usize].end {
                End::Jump(to) => waiting.push(to),
                End::Branch { yes, no, .. } => waiting.extend([no, yes]),
                End::Return(_) => {}
            }
        }
        let number = |block: BlockId| new_numbers[block as usize].expect("a block that is reached has a number");
        let kept = order.iter().map(|block| {
            let Block { instructions, end } = std::mem::replace(&mut blocks[*block as usize], empty_block());
            let end = match end {
                End::Jump(to) => End::Jump(number(to)),
                End::Branch { condition, yes, no } => End::Branch { condition, yes: number(yes), no: number(no) },
                End::Return(value) => End::Return(value),
            };
            Block { instructions, end }
        });
        Function { blocks: kept.collect(), ..self.function }
    }
}

fn empty_block() -> Block {
    Block { instructions: Vec::new(), end: End::Return(None) }
}
