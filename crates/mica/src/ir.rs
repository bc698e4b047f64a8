//! The typed intermediate representation: functions of basic blocks over registers. What the interpreter runs, what the JIT
//! lowers, what the fingerprints name. Knows no text and no machine.
//!
//! Each register holds one word of 64 bits. Arrays and records are references: where they begin in the program's memory, in
//! words. An array is its length and then its elements; a record is its fields.

use std::fmt::Write as _;

/// What a register or an element holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number of 64 bits that wraps around.
    Int,
    /// An IEEE double.
    Float,
    /// 0 or 1.
    Bool,
    /// Where an array begins whose elements are numbers.
    Array,
    /// Where another array, or a record, begins.
    Other,
}

/// A register of a function.
pub type Register = u32;

/// A block of a function.
pub type BlockId = u32;

/// A place in the text: the line behind that of the function's name, and the column. So a function that moves as a whole stays the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Lines behind the function's.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

/// A function of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name, alone in the program.
    pub name: String,
    /// How many registers, from the first, are its parameters.
    pub parameters: u32,
    /// What its registers hold.
    pub registers: Vec<Kind>,
    /// What it returns, if anything.
    pub returns: Option<Kind>,
    /// Its blocks; it begins in the first.
    pub blocks: Vec<Block>,
    /// The functions that it calls.
    pub callees: Vec<Callee>,
    /// The texts in it.
    pub texts: Vec<Vec<u8>>,
    /// Whether it can run on a card, and its first parameter is the number of a thread.
    pub is_kernel: bool,
}

/// Another function, as its caller knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Callee {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub parameters: Vec<Kind>,
    /// What it returns, if anything.
    pub returns: Option<Kind>,
}

/// Instructions without a branch between them, and the branch behind them.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// In the order in which they run.
    pub instructions: Vec<Instruction>,
    /// What comes next.
    pub end: End,
}

/// The end of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum End {
    Jump(BlockId),
    Branch { condition: Register, yes: BlockId, no: BlockId },
    Return(Option<Register>),
}

/// An operation.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Instruction {
    Constant {
        to: Register,
        word: u64,
    },
    Copy {
        to: Register,
        from: Register,
    },
    Unary {
        operation: Unary,
        to: Register,
        from: Register,
    },
    Binary {
        operation: Binary,
        to: Register,
        left: Register,
        right: Register,
    },
    /// The one that can fail: by zero.
    Divide {
        is_remainder: bool,
        to: Register,
        left: Register,
        right: Register,
        place: Place,
    },
    Length {
        to: Register,
        array: Register,
    },
    Get {
        to: Register,
        array: Register,
        index: Register,
        place: Place,
    },
    Set {
        array: Register,
        index: Register,
        value: Register,
        place: Place,
    },
    NewArray {
        to: Register,
        fill: Register,
        length: Register,
        place: Place,
    },
    NewText {
        to: Register,
        text: u32,
        place: Place,
    },
    NewRecord {
        to: Register,
        fields: Vec<Register>,
        place: Place,
    },
    GetField {
        to: Register,
        record: Register,
        field: u32,
    },
    SetField {
        record: Register,
        field: u32,
        value: Register,
    },
    Call {
        to: Option<Register>,
        callee: u32,
        arguments: Vec<Register>,
        place: Place,
    },
    Host {
        to: Option<Register>,
        function: Host,
        arguments: Vec<Register>,
    },
    /// Offers a kernel to a card; the result says whether that ran it. If not, the loop behind it does.
    Launch {
        to: Register,
        kernel: u32,
        count: Register,
        arguments: Vec<Register>,
    },
    Assert {
        condition: Register,
        place: Place,
    },
}

/// An operation on one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Unary {
    Not,
    IntNegate,
    FloatNegate,
    /// Towards zero; beyond the range its ends, and 0 for what is no number.
    FloatToInt,
    IntToFloat,
    Sqrt,
    Floor,
    FloatAbs,
    /// The bits of a float.
    Bits,
    /// The float of these bits.
    FromBits,
}

/// An operation on two words that cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    And,
    Or,
    Xor,
    /// By the right word modulo 64, like the other shifts.
    ShiftLeft,
    ShiftRight,
    ShiftRightUnsigned,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    FloatAdd,
    FloatSubtract,
    FloatMultiply,
    FloatDivide,
    FloatEqual,
    FloatNotEqual,
    FloatLess,
    FloatLessEqual,
}

/// A function of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Host {
    PrintInt,
    PrintFloat,
    PrintBool,
    PrintText,
    Sin,
    Cos,
    Exp,
    Log,
    Power,
}

impl Unary {
    /// Whether it takes a float, and whether it gives one.
    pub fn floats(self) -> (bool, bool) {
        match self {
            Unary::Not | Unary::IntNegate => (false, false),
            Unary::FloatNegate | Unary::Sqrt | Unary::Floor | Unary::FloatAbs => (true, true),
            Unary::FloatToInt | Unary::Bits => (true, false),
            Unary::IntToFloat | Unary::FromBits => (false, true),
        }
    }
}

impl Host {
    /// The name by which compiled code refers to it.
    pub fn symbol(self) -> &'static str {
        match self {
            Host::PrintInt => "mica_print_int",
            Host::PrintFloat => "mica_print_float",
            Host::PrintBool => "mica_print_bool",
            Host::PrintText => "mica_print_text",
            Host::Sin => "mica_sin",
            Host::Cos => "mica_cos",
            Host::Exp => "mica_exp",
            Host::Log => "mica_log",
            Host::Power => "mica_power",
        }
    }
}

impl Function {
    /// The function as a callee.
    pub fn as_callee(&self) -> Callee {
        let parameters = self.registers[..self.parameters as usize].to_vec();
        Callee { name: self.name.clone(), parameters, returns: self.returns }
    }

    /// How many instructions it has, the ends of its blocks included.
    pub fn instructions(&self) -> usize {
        self.blocks.iter().map(|block| block.instructions.len() + 1).sum()
    }

    /// As text, for people.
    pub fn listing(&self) -> String {
        let mut text = format!("{} {}\n", if self.is_kernel { "kernel" } else { "fn" }, self.name);
        for (register, kind) in self.registers.iter().enumerate() {
            let parameter = if register < self.parameters as usize { " (parameter)" } else { "" };
            let _ = writeln!(text, "  r{register}: {kind:?}{parameter}");
        }
        for (number, block) in self.blocks.iter().enumerate() {
            let _ = writeln!(text, "block {number}:");
            for instruction in &block.instructions {
                let _ = writeln!(text, "  {instruction:?}");
            }
            let _ = writeln!(text, "  {:?}", block.end);
        }
        text
    }
}
