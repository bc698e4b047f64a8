//! Images, the kernels they name, and what the built-in ones do to memory. Knows no stream and no module handle.

use crate::code::Code;
use std::ops::Range;

/// What a kernel reads and writes through.
pub trait Memory {
    fn read(&self, address: u64, into: &mut [u8]);
    fn write(&mut self, address: u64, bytes: &[u8]);
}

/// The built-in kernels. A module's kernel of one of these names behaves so, whatever its code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    Fill,
    Copy,
    AddOne,
    Saxpy,
    Read,
    Spin,
    Trap,
}

/// A launch with its arguments read.
#[derive(Clone, Debug, PartialEq)]
pub enum Launch {
    Fill { to: u64, words: u64, value: u32 },
    Copy { to: u64, from: u64, bytes: u64 },
    AddOne { at: u64, words: u64 },
    Saxpy { elements: u64, a: f32, x: u64, y: u64 },
    Read { at: u64, bytes: u64 },
    Spin { turns: u64 },
    Trap,
}

/// A range that a launch touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    pub range: Range<u64>,
    pub writes: bool,
}

/// What an image holds: kernels with the widths of their parameters, if it says, and global variables in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub kernels: Vec<(String, Option<Vec<usize>>)>,
    pub globals: Vec<(String, u64)>,
}

const MAGIC: &str = "cuda-standin";

impl Builtin {
    pub fn named(name: &str) -> Option<Builtin> {
        Some(match name {
            "fill" => Builtin::Fill,
            "copy" => Builtin::Copy,
            "add_one" => Builtin::AddOne,
            "saxpy" => Builtin::Saxpy,
            "read" => Builtin::Read,
            "spin" => Builtin::Spin,
            "trap" => Builtin::Trap,
            _ => return None,
        })
    }

    /// The bytes of each parameter, unless the image says otherwise.
    pub fn widths(self) -> &'static [usize] {
        match self {
            Builtin::Fill => &[8, 8, 4],
            Builtin::Copy => &[8, 8, 8],
            Builtin::AddOne | Builtin::Read => &[8, 8],
            Builtin::Saxpy => &[8, 4, 8, 8],
            Builtin::Spin => &[8],
            Builtin::Trap => &[],
        }
    }

    /// Makes a launch of arguments given as little-endian numbers.
    pub fn launch(self, arguments: &[u64]) -> Result<Launch, Code> {
        Ok(match (self, arguments) {
            (Builtin::Fill, &[to, words, value]) => Launch::Fill { to, words, value: value as u32 },
            (Builtin::Copy, &[to, from, bytes]) => Launch::Copy { to, from, bytes },
            (Builtin::AddOne, &[at, words]) => Launch::AddOne { at, words },
            (Builtin::Saxpy, &[elements, a, x, y]) => Launch::Saxpy { elements, a: f32::from_bits(a as u32), x, y },
            (Builtin::Read, &[at, bytes]) => Launch::Read { at, bytes },
            (Builtin::Spin, &[turns]) => Launch::Spin { turns },
            (Builtin::Trap, &[]) => Launch::Trap,
            _ => return Err(Code::INVALID_VALUE),
        })
    }
}

impl Launch {
    /// The ranges touched; `None` if a length overflows.
    pub fn touches(&self) -> Option<Vec<Touch>> {
        let touch = |start: u64, count: u64, each: u64, writes| {
            let end = start.checked_add(count.checked_mul(each)?)?;
            Some(Touch { range: start..end, writes })
        };
        let touches = match *self {
            Launch::Fill { to, words, .. } => vec![touch(to, words, 4, true)?],
            Launch::Copy { to, from, bytes } => vec![touch(from, bytes, 1, false)?, touch(to, bytes, 1, true)?],
            Launch::AddOne { at, words } => vec![touch(at, words, 4, true)?],
            Launch::Saxpy { elements, x, y, .. } => vec![touch(x, elements, 4, false)?, touch(y, elements, 4, true)?],
            Launch::Read { at, bytes } => vec![touch(at, bytes, 1, false)?],
            Launch::Spin { .. } | Launch::Trap => vec![],
        };
        Some(touches)
    }

    /// Does what the kernel does; the ranges were checked.
    pub fn run(&self, memory: &mut dyn Memory) -> Result<(), Code> {
        match *self {
            Launch::Fill { to, words, value } => each(memory, to, words, |_| value),
            Launch::AddOne { at, words } => each(memory, at, words, |word| word.wrapping_add(1)),
            Launch::Copy { to, from, bytes } => {
                let mut copied = vec![0; bytes as usize];
                memory.read(from, &mut copied);
                memory.write(to, &copied);
            }
            Launch::Saxpy { elements, a, x, y } => {
                let mut xs = vec![0; elements as usize * 4];
                memory.read(x, &mut xs);
                let mut xs = xs.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]));
                each(memory, y, elements, |y| {
                    let x = xs.next().expect("as many as there are elements");
                    (a * x + f32::from_bits(y)).to_bits()
                });
            }
            Launch::Read { .. } | Launch::Spin { .. } => {}
            Launch::Trap => return Err(Code::ILLEGAL_INSTRUCTION),
        }
        Ok(())
    }
}

fn each(memory: &mut dyn Memory, at: u64, words: u64, mut change: impl FnMut(u32) -> u32) {
    let mut bytes = vec![0; words as usize * 4];
    memory.read(at, &mut bytes);
    for word in bytes.chunks_exact_mut(4) {
        let old = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        word.copy_from_slice(&change(old).to_le_bytes());
    }
    memory.write(at, &bytes);
}

impl Image {
    /// Reads PTX text, or the stand-in's own format: a line `cuda-standin`, then lines `kernel NAME` and
    /// `global NAME BYTES`.
    pub fn from_text(text: &str) -> Result<Image, Code> {
        if let Some(lines) = text.strip_prefix(MAGIC) {
            return Image::from_lines(lines);
        }
        if !text.contains(".version") {
            return Err(Code::INVALID_IMAGE);
        }
        let text = without_comments(text);
        let kernels = text.split(".entry").skip(1).filter_map(ptx_entry).collect();
        // A directive stands alone; in `st.global.u32` the word is a part of an instruction.
        let directives = text.match_indices(".global").filter(|(at, _)| !text[..*at].ends_with(is_of_a_name));
        let globals = directives.filter_map(|(at, word)| ptx_global(&text[at + word.len()..])).collect();
        Ok(Image { kernels, globals })
    }

    /// Finds the kernels of a compiled image by the names of its sections: `.text.NAME`.
    pub fn from_elf(bytes: &[u8]) -> Image {
        let mut kernels: Vec<(String, Option<Vec<usize>>)> = Vec::new();
        for piece in bytes.split(|byte| *byte == 0) {
            let name = piece.strip_prefix(b".text.").and_then(|name| std::str::from_utf8(name).ok());
            if let Some(name) = name.filter(|name| !kernels.iter().any(|(known, _)| known == name)) {
                kernels.push((name.to_owned(), None));
            }
        }
        Image { kernels, globals: Vec::new() }
    }

    fn from_lines(lines: &str) -> Result<Image, Code> {
        let mut image = Image::default();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match *line.split_whitespace().collect::<Vec<_>>() {
                ["kernel", name] => image.kernels.push((name.to_owned(), None)),
                ["global", name, bytes] => {
                    let bytes = bytes.parse().map_err(|_| Code::INVALID_IMAGE)?;
                    image.globals.push((name.to_owned(), bytes));
                }
                _ => return Err(Code::INVALID_IMAGE),
            }
        }
        Ok(image)
    }
}

/// The text after `.entry`: a name, and parameters like `.param .u64 name`.
fn ptx_entry(text: &str) -> Option<(String, Option<Vec<usize>>)> {
    let name: String = text.trim_start().chars().take_while(|c| is_of_a_name(*c)).collect();
    let rest = text.trim_start()[name.len()..].trim_start();
    let parameters = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or("", |(inside, _)| inside);
    let widths = parameters.split(".param").skip(1).map(|parameter| {
        let kind = parameter.split_whitespace().find(|word| word.starts_with('.') && *word != ".align")?;
        match kind {
            ".b8" | ".u8" | ".s8" => Some(1),
            ".b16" | ".u16" | ".s16" | ".f16" => Some(2),
            ".b32" | ".u32" | ".s32" | ".f32" => Some(4),
            ".b64" | ".u64" | ".s64" | ".f64" => Some(8),
            _ => None,
        }
    });
    (!name.is_empty()).then(|| (name, widths.collect()))
}

/// The text after `.global`: `.align 4 .b8 name[16];`, or `.u32 name;`.
fn ptx_global(text: &str) -> Option<(String, u64)> {
    let declaration = text.split([';', '=']).next()?;
    let kind = declaration.split_whitespace().rfind(|word| word.starts_with('.') && *word != ".align")?;
    let width: u64 = kind.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().ok()? / 8;
    let named = declaration.split_whitespace().next_back()?;
    let name: String = named.chars().take_while(|c| is_of_a_name(*c)).collect();
    let count =
        named.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(Some(1), |(n, _)| n.parse().ok());
    (!name.is_empty() && width > 0).then_some((name, width * count?))
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_$%.".contains(c)
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_and_globals_are_found_in_ptx() {
        let ptx = "
            // generated; .entry not_this
            .version 8.0
            .target sm_90
            .visible .global .align 4 .b8 table[64];
            .global .u32 counter = 7;
            .visible .entry saxpy(
                .param .u32 saxpy_param_0,
                .param .f32 saxpy_param_1,
                .param .u64 .ptr .align 1 saxpy_param_2,
                .param .u64 saxpy_param_3
            ) { cvta.to.global.u64 %rd1, %rd1; st.global.u32 [%rd1], %r1; ret; }
            .visible .entry spin ( .param .u64 n ) { ret; }";
        let image = Image::from_text(ptx).unwrap();
        let kernels = [("saxpy".to_owned(), Some(vec![4, 4, 8, 8])), ("spin".to_owned(), Some(vec![8]))];
        assert_eq!(image.kernels, kernels);
        assert_eq!(image.globals, [("table".to_owned(), 64), ("counter".to_owned(), 4)]);
    }

    #[test]
    fn the_own_format_and_section_names_name_kernels_too() {
        let image = Image::from_text("cuda-standin\nkernel fill\nglobal state 16\n").unwrap();
        assert_eq!((image.kernels[0].0.as_str(), image.globals[0].1), ("fill", 16));
        let image = Image::from_elf(b"\x7fELF\0\0.text.fill\0.nv.info.fill\0.text.copy\0.text.fill\0");
        assert_eq!(image.kernels.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["fill", "copy"]);
        assert_eq!(Image::from_text("hello"), Err(Code::INVALID_IMAGE));
    }

    #[test]
    fn a_length_that_overflows_is_no_launch() {
        assert_eq!(Launch::Fill { to: 8, words: u64::MAX / 2, value: 0 }.touches(), None);
        assert_eq!(Builtin::Fill.launch(&[1, 2]), Err(Code::INVALID_VALUE));
    }
}
