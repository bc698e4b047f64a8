//! The kernels once more, in Rust: what they must return. And the tables and texts that they find in memory.

use sha2::{Digest, Sha256};

type Kernel = (&'static str, u32, fn(u32) -> u64);

/// Each kernel with an argument that keeps it busy for some milliseconds.
pub const CALLS: &[Kernel] = &[
    ("sorting", 20_000, sorting),
    ("sha256", 200_001, sha256),
    ("crc32", 50_003, crc32),
    ("mandelbrot", 60, mandelbrot),
    ("bodies", 1_000, bodies),
    ("matrix", 60, matrix),
    ("primes", 100_000, primes),
    ("life", 20, life),
    ("machine", 300, machine),
    ("json", 40, json),
];

/// What lies in memory at the beginning, and where.
pub fn tables() -> Vec<(u32, Vec<u8>)> {
    let text = json_text();
    vec![
        (0x100, SHA256_CONSTANTS.iter().flat_map(|constant| constant.to_le_bytes()).collect()),
        (0x1000, collatz_code()),
        (0x3ffc, (text.len() as u32).to_le_bytes().to_vec()),
        (0x4000, text.into_bytes()),
    ]
}

pub fn mix(digest: u64, word: u64) -> u64 {
    ((digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(29)
}

fn mix_words(digest: u64, words: impl IntoIterator<Item = u32>) -> u64 {
    words.into_iter().fold(digest, |digest, word| mix(digest, word.into()))
}

struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn bytes(seed: u32, count: u32) -> Vec<u8> {
        let mut random = Random(seed);
        let mut bytes: Vec<u8> = (0..count.div_ceil(4)).flat_map(|_| random.next().to_le_bytes()).collect();
        bytes.truncate(count as usize);
        bytes
    }
}

fn sorting(count: u32) -> u64 {
    let mut random = Random(0x5eed);
    let mut words: Vec<i32> = (0..count).map(|_| random.next() as i32).collect();
    words.sort_unstable();
    let digest = mix_words(1, words.iter().map(|word| *word as u32));
    mix_words(digest, words.iter().map(|word| *word as u32))
}

fn sha256(bytes: u32) -> u64 {
    let hash = Sha256::digest(Random::bytes(0x5a256, bytes));
    mix_words(2, hash.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())))
}

fn crc32(bytes: u32) -> u64 {
    let mut crc = u32::MAX;
    for byte in Random::bytes(0xc3c, bytes) {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    mix(mix(3, (!crc).into()), (!crc).into())
}

fn mandelbrot(size: u32) -> u64 {
    let of = |row: u32, column: u32| {
        let re = 3.0 * f64::from(column) / f64::from(size) - 2.0;
        let im = 2.0 * f64::from(row) / f64::from(size) - 1.0;
        let (mut x, mut y, mut count) = (0.0, 0.0, 0);
        while x * x + y * y <= 4.0 && count < 200 {
            (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
            count += 1;
        }
        count
    };
    mix_words(4, (0..size).flat_map(|row| (0..size).map(move |column| of(row, column))))
}

fn bodies(steps: u32) -> u64 {
    let mut values = [0.0; 35];
    for (index, value) in values.iter_mut().enumerate() {
        *value = ((index + 3) * 37 % 101) as f64 / 16.0 - 2.0;
        if index % 7 == 6 {
            *value = value.abs() + 0.5;
        }
    }
    for _ in 0..steps {
        for a in (0..35).step_by(7) {
            for b in (a + 7..35).step_by(7) {
                let apart = [values[a] - values[b], values[a + 1] - values[b + 1], values[a + 2] - values[b + 2]];
                let square = apart[0] * apart[0] + apart[1] * apart[1] + apart[2] * apart[2];
                let pull = 0.01 / (square * square.sqrt());
                let (to_a, to_b) = (values[b + 6] * pull, values[a + 6] * pull);
                for (axis, apart) in apart.into_iter().enumerate() {
                    values[a + 3 + axis] -= apart * to_a;
                    values[b + 3 + axis] += apart * to_b;
                }
            }
        }
        for body in values.chunks_exact_mut(7) {
            for axis in 0..3 {
                body[axis] += 0.01 * body[3 + axis];
            }
        }
    }
    mix_words(5, float_words(&values))
}

fn matrix(size: u32) -> u64 {
    let size = size as usize;
    let mut random = Random(77);
    let mut fill = || -> Vec<f64> { (0..size * size).map(|_| f64::from(random.next() as i32) / 65536.0).collect() };
    let (a, b) = (fill(), fill());
    let mut product = Vec::with_capacity(size * size);
    for row in 0..size {
        for column in 0..size {
            product.push((0..size).fold(0.0, |sum, at| sum + a[row * size + at] * b[at * size + column]));
        }
    }
    mix_words(6, float_words(&product))
}

fn float_words(values: &[f64]) -> impl Iterator<Item = u32> {
    values.iter().flat_map(|value| {
        let bits = value.to_bits();
        [bits as u32, (bits >> 32) as u32]
    })
}

fn primes(bound: u32) -> u64 {
    let is_prime = |number: &u32| (2..).take_while(|d| d * d <= *number).all(|d| !number.is_multiple_of(d));
    mix_words(7, (2..bound).filter(is_prime))
}

fn life(generations: u32) -> u64 {
    let mut random = Random(0x11fe);
    let mut cells: Vec<u8> = (0..4096).map(|_| (random.next() >> 9 & 1) as u8).collect();
    for _ in 0..generations {
        let at = |row: usize, column: usize| cells[(row & 63) << 6 | column & 63];
        let next = |cell: usize| {
            let (row, column) = (cell >> 6, cell & 63);
            let around = (0..9).filter(|near| *near != 4).map(|near| at(row + 63 + near / 3, column + 63 + near % 3));
            let count: u8 = around.sum();
            u8::from(count == 3 || count == 2 && at(row, column) == 1)
        };
        cells = (0..4096).map(next).collect();
    }
    mix_words(8, cells.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())))
}

/// The code below, counted as the machine counts: operations until it halts, and the sum of the lengths.
fn machine(bound: u32) -> u64 {
    let (mut steps, mut sum) = (0u64, 0u32);
    let mut take = |operations| steps += operations;
    for first in (1..=bound).rev() {
        take(2);
        let mut number = first;
        while number != 1 {
            take(4 + 4); // is it 1? is it odd?
            sum += 1;
            take(4); // count
            if number % 2 == 1 {
                number = 3 * number + 1;
                take(7);
            } else {
                number /= 2;
                take(5);
            }
        }
        take(4 + 1); // it is 1
        take(4 + 2); // the next one
    }
    take(1);
    mix(mix(9, steps), sum.into())
}

/// Sums the lengths of Collatz's sequences from the numbers up to local 0, in local 1; local 2 runs.
fn collatz_code() -> Vec<u8> {
    const PUSH: u8 = 0;
    const GET: u8 = 1;
    const SET: u8 = 2;
    const JUMP: u8 = 3;
    const JUMP_IF: u8 = 4;
    const HALT: u8 = 5;
    const BINARY: u8 = 6;
    const ADD: u32 = 0;
    const SUBTRACT: u32 = 1;
    const MULTIPLY: u32 = 2;
    const DIVIDE: u32 = 3;
    const REMAINDER: u32 = 4;
    const LESS: u32 = 5;
    const WHILE: u32 = 2;
    const NEXT: u32 = 27;
    const ODD: u32 = 20;
    let code: &[(u8, u32)] = &[
        (GET, 0),
        (SET, 2),
        // while 1 < n
        (PUSH, 1),
        (GET, 2),
        (BINARY, LESS),
        (JUMP_IF, 7),
        (JUMP, NEXT),
        // length += 1
        (GET, 1),
        (PUSH, 1),
        (BINARY, ADD),
        (SET, 1),
        // n % 2
        (GET, 2),
        (PUSH, 2),
        (BINARY, REMAINDER),
        (JUMP_IF, ODD),
        // n /= 2
        (GET, 2),
        (PUSH, 2),
        (BINARY, DIVIDE),
        (SET, 2),
        (JUMP, WHILE),
        // n = 3 n + 1
        (GET, 2),
        (PUSH, 3),
        (BINARY, MULTIPLY),
        (PUSH, 1),
        (BINARY, ADD),
        (SET, 2),
        (JUMP, WHILE),
        // the next number
        (GET, 0),
        (PUSH, 1),
        (BINARY, SUBTRACT),
        (SET, 0),
        (GET, 0),
        (JUMP_IF, 0),
        (HALT, 0),
    ];
    let is_jump = |operation| matches!(operation, JUMP | JUMP_IF);
    let bytes = |(operation, operand): &(u8, u32)| {
        let operand = if is_jump(*operation) { operand * 5 } else { *operand };
        std::iter::once(*operation).chain(operand.to_le_bytes()).collect::<Vec<u8>>()
    };
    code.iter().flat_map(bytes).collect()
}

fn json_text() -> String {
    let mut random = Random(0x1503);
    let mut text = String::from("{ \"name\": \"parts \\\"of\\\" something\", \"parts\": [");
    for part in 0..60 {
        let (a, b) = (random.next() % 100_000, random.next() % 1_000);
        let comma = if part == 0 { "" } else { "," };
        let kept = ["true", "false", "null"][(random.next() % 3) as usize];
        text += &format!(
            "{comma}\n  {{ \"id\": {part}, \"price\": -{a}.{b:03}, \"kept\": {kept}, \"of\": [[{b}, {a}], []] }}"
        );
    }
    text + "\n] }\n"
}

fn json(times: u32) -> u64 {
    let text = json_text();
    let mut found = 10;
    for _ in 0..times {
        let mut parser = Json { rest: text.as_bytes(), found };
        parser.value(0);
        assert!(parser.rest.trim_ascii().is_empty());
        found = parser.found;
    }
    found
}

struct Json<'a> {
    rest: &'a [u8],
    found: u64,
}

impl Json<'_> {
    fn value(&mut self, depth: u64) {
        self.rest = self.rest.trim_ascii_start();
        match self.rest[0] {
            b'[' | b'{' => self.list(depth),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            _ => {
                let word = self.take_while(|byte| byte.is_ascii_lowercase());
                let hash = word.iter().fold(0u64, |hash, byte| hash * 31 + u64::from(*byte));
                self.note(hash);
            }
        }
    }

    fn list(&mut self, depth: u64) {
        let is_object = self.rest[0] == b'{';
        let mut count = 0;
        self.rest = self.rest[1..].trim_ascii_start();
        while !matches!(self.rest[0], b']' | b'}') {
            if is_object {
                self.rest = self.rest.trim_ascii_start();
                self.string();
                self.rest = self.rest.trim_ascii_start().strip_prefix(b":").unwrap();
            }
            self.value(depth + 1);
            count += 1;
            self.rest = self.rest.trim_ascii_start();
            self.rest = self.rest.strip_prefix(b",").unwrap_or(self.rest);
        }
        self.rest = &self.rest[1..];
        self.note(count * 100 + depth);
    }

    fn string(&mut self) {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut bytes = self.rest[1..].iter();
        loop {
            let letter = match bytes.next().unwrap() {
                b'"' => break,
                b'\\' => u64::from(*bytes.next().unwrap()) | 256,
                letter => (*letter).into(),
            };
            hash = (hash ^ letter).wrapping_mul(0x100_0000_01b3);
        }
        self.rest = bytes.as_slice();
        self.note(hash);
    }

    fn number(&mut self) {
        let negative = self.rest[0] == b'-';
        self.rest = &self.rest[usize::from(negative)..];
        let value = self.digits(0);
        self.note(if negative { value.wrapping_neg() } else { value });
        if let Some(fraction) = self.rest.strip_prefix(b".") {
            self.rest = fraction;
            let value = self.digits(1);
            self.note(value);
        }
    }

    fn digits(&mut self, first: u64) -> u64 {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        digits.iter().fold(first, |value, digit| value * 10 + u64::from(digit - b'0'))
    }

    fn take_while(&mut self, is_part: fn(&u8) -> bool) -> Vec<u8> {
        let end = self.rest.iter().position(|byte| !is_part(byte)).unwrap_or(self.rest.len());
        let (part, rest) = self.rest.split_at(end);
        self.rest = rest;
        part.to_vec()
    }

    fn note(&mut self, word: u64) {
        self.found = mix(self.found, word);
    }
}

/// Of FIPS 180-4: of the cube roots of the first 64 primes, the first 32 bits behind the point.
#[rustfmt::skip]
const SHA256_CONSTANTS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];
