//! A second name for a library that is loaded: an ELF file of a few hundred bytes that holds nothing, needs the
//! library, and is called by the other name. Looking a symbol up in it finds the library's. Pure bytes: loads nothing.
//!
//! The loader recognises a loaded library by one name only, the one in its `DT_SONAME`; programs open the driver as
//! `libcuda.so` (cudarc's first guess) and as `libcuda.so.1` (the runtime library, and most others).

const HEADER_BYTES: u64 = 64;
const SEGMENT_BYTES: u64 = 56;
const SYMBOL_BYTES: u64 = 24;

/// The file: `name` is what it is found by, `library` what it stands for.
pub fn file(name: &str, library: &str) -> Vec<u8> {
    let strings = format!("\0{name}\0{library}\0");
    let (name_at, library_at) = (1, name.len() as u64 + 2);
    let dynamic_at = HEADER_BYTES + 2 * SEGMENT_BYTES;
    const ENTRIES: u64 = 8;
    let symbols_at = dynamic_at + ENTRIES * 16;
    let hash_at = symbols_at + SYMBOL_BYTES;
    let strings_at = hash_at + 16;
    let end = strings_at + strings.len() as u64;

    let mut file = Bytes::default();
    header(&mut file);
    const LOAD: u32 = 1;
    const DYNAMIC: u32 = 2;
    segment(&mut file, LOAD, 0, end, 4096);
    segment(&mut file, DYNAMIC, dynamic_at, ENTRIES * 16, 8);
    const NEEDED: u64 = 1;
    const HASH: u64 = 4;
    const STRINGS: u64 = 5;
    const SYMBOLS: u64 = 6;
    const STRING_BYTES: u64 = 10;
    const SYMBOL_ENTRY: u64 = 11;
    const SONAME: u64 = 14;
    let entries = [
        (NEEDED, library_at),
        (SONAME, name_at),
        (HASH, hash_at),
        (STRINGS, strings_at),
        (SYMBOLS, symbols_at),
        (STRING_BYTES, strings.len() as u64),
        (SYMBOL_ENTRY, SYMBOL_BYTES),
        (0, 0),
    ];
    for (tag, value) in entries {
        file.u64(tag);
        file.u64(value);
    }
    // The one symbol that every table begins with, and a hash table of one empty chain for it.
    file.0.extend([0; SYMBOL_BYTES as usize]);
    for word in [1, 1, 0, 0] {
        file.u32(word);
    }
    file.0.extend(strings.as_bytes());
    file.0
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }
}

fn header(file: &mut Bytes) {
    const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    const SHARED: u16 = 3;
    file.0.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.u16(SHARED);
    file.u16(MACHINE);
    file.u32(1);
    file.u64(0); // no entry point
    file.u64(HEADER_BYTES); // segments
    file.u64(0); // no sections
    file.u32(0);
    file.u16(HEADER_BYTES as u16);
    file.u16(SEGMENT_BYTES as u16);
    file.u16(2);
    file.u16(64); // of a section, if there were one
    file.u16(0);
    file.u16(0);
}

fn segment(file: &mut Bytes, kind: u32, at: u64, bytes: u64, align: u64) {
    const READ_WRITE: u32 = 6; // the loader relocates the dynamic table in place
    file.u32(kind);
    file.u32(READ_WRITE);
    for value in [at, at, at, bytes, bytes, align] {
        file.u64(value);
    }
}
