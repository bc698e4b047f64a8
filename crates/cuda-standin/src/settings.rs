//! What the stand-in pretends to be and how it schedules. Knows no state; both sides of the library boundary read it.

use crate::code::Code;
use std::fmt;
use std::str::FromStr;

/// When submitted work runs. Reports of unordered accesses do not depend on it; wrong data does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At once, inside the call that submits it.
    Plain,
    /// This many driver calls later, or when a wait demands it.
    Late(u32),
    /// Only when a wait demands it. A query runs one operation and says how things stood before, unless the setting
    /// `query` says that it runs none.
    Lazy,
}

/// What an asynchronous copy from or to pageable memory does; CUDA leaves it open ("might be synchronous").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pageable {
    /// It is as late as any copy: the strict reading.
    Late,
    /// It is staged on the way in and waits on the way out, as most drivers do.
    Staged,
}

/// What a presence probe finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// A working driver and its devices.
    Gpu,
    /// A driver without a device: `cuInit` returns `CUDA_ERROR_NO_DEVICE`.
    NoDevice,
    /// The toolkit's link-time stub: `cuInit` returns `CUDA_ERROR_STUB_LIBRARY`.
    Stub,
    /// A user-space driver that the kernel's does not fit: `cuInit` returns `CUDA_ERROR_SYSTEM_DRIVER_MISMATCH`.
    Mismatch,
    /// A driver of CUDA 10.2.
    TooOld,
}

/// Everything that `key=value` can change. The variable `CUDA_STANDIN` holds such pairs, separated by `;`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub mode: Mode,
    pub pageable: Pageable,
    pub personality: Personality,
    pub guard: bool,
    pub strict_free: bool,
    /// A query of lazy work makes one step.
    pub query_runs: bool,
    pub pools: bool,
    pub abort: bool,
    pub report: bool,
    pub trace: bool,
    pub vram_bytes: u64,
    pub devices: u32,
    pub driver_version: i32,
    pub compute: (i32, i32),
    pub name: String,
    pub uuids: Vec<(u32, [u8; 16])>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mode: Mode::Plain,
            pageable: Pageable::Late,
            personality: Personality::Gpu,
            guard: true,
            strict_free: false,
            query_runs: true,
            pools: true,
            abort: false,
            report: false,
            trace: false,
            vram_bytes: 8 << 30,
            devices: 1,
            driver_version: 13_000,
            compute: (9, 0),
            name: "CUDA stand-in".to_owned(),
            uuids: Vec::new(),
        }
    }
}

impl Settings {
    /// The defaults, changed by the environment. Says what it did not understand.
    pub fn from_environment() -> Result<Settings, String> {
        let mut settings = Settings::default();
        let text = std::env::var("CUDA_STANDIN").unwrap_or_default();
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            settings.set(pair)?;
        }
        Ok(settings)
    }

    pub fn set(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not key=value"))?;
        match key {
            "mode" => self.mode = value.parse()?,
            "pageable" => self.pageable = choose(value, &[("late", Pageable::Late), ("staged", Pageable::Staged)])?,
            "driver" => self.personality = value.parse()?,
            "guard" => self.guard = switch(value)?,
            "query" => self.query_runs = choose(value, &[("runs", true), ("only-asks", false)])?,
            "free" => self.strict_free = choose(value, &[("strict", true), ("syncs", false)])?,
            "pools" => self.pools = switch(value)?,
            "abort" => self.abort = switch(value)?,
            "report" => self.report = switch(value)?,
            "trace" => self.trace = switch(value)?,
            "vram" => self.vram_bytes = number(value)?,
            "devices" => self.devices = number(value)?,
            "version" => self.driver_version = number(value)?,
            "compute" => {
                self.compute = value
                    .split_once('.')
                    .ok_or("compute=MAJOR.MINOR")
                    .and_then(|(a, b)| a.parse().and_then(|a| Ok((a, b.parse()?))).map_err(|_| "compute=MAJOR.MINOR"))?
            }
            "name" => self.name = value.to_owned(),
            _ => match key.strip_prefix("uuid.") {
                Some(ordinal) => self.uuids.push((number(ordinal)?, uuid(value)?)),
                None => return Err(format!("unknown setting `{key}`")),
            },
        }
        Ok(())
    }

    /// What `cuDriverGetVersion` answers.
    pub fn version(&self) -> i32 {
        if self.personality == Personality::TooOld { 10_020 } else { self.driver_version }
    }

    /// What `cuInit` answers.
    pub fn init(&self) -> Code {
        match self.personality {
            Personality::Gpu | Personality::TooOld => Code::SUCCESS,
            Personality::NoDevice => Code::NO_DEVICE,
            Personality::Stub => Code::STUB_LIBRARY,
            Personality::Mismatch => Code::SYSTEM_DRIVER_MISMATCH,
        }
    }

    /// The UUID given for a device, or one that names it.
    pub fn uuid(&self, ordinal: u32) -> [u8; 16] {
        let given = self.uuids.iter().rev().find(|(device, _)| *device == ordinal);
        let mut default = *b"cuda-standin 000";
        for (place, digit) in default[13..].iter_mut().rev().zip([ordinal % 10, ordinal / 10 % 10, ordinal / 100 % 10])
        {
            *place = b'0' + digit as u8;
        }
        given.map_or(default, |(_, uuid)| *uuid)
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text.split_once(':') {
            Some(("late", calls)) => Ok(Mode::Late(number(calls)?)),
            _ => choose(text, &[("plain", Mode::Plain), ("late", Mode::Late(3)), ("lazy", Mode::Lazy)]),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Plain => f.write_str("plain"),
            Mode::Late(calls) => write!(f, "late:{calls}"),
            Mode::Lazy => f.write_str("lazy"),
        }
    }
}

const PERSONALITIES: [(&str, Personality); 5] = [
    ("gpu", Personality::Gpu),
    ("no-device", Personality::NoDevice),
    ("stub", Personality::Stub),
    ("mismatch", Personality::Mismatch),
    ("too-old", Personality::TooOld),
];

impl FromStr for Personality {
    type Err = String;

    fn from_str(text: &str) -> Result<Personality, String> {
        choose(text, &PERSONALITIES)
    }
}

impl fmt::Display for Personality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = PERSONALITIES.iter().find(|(_, p)| p == self).expect("all are in the table");
        f.write_str(name)
    }
}

fn choose<T: Copy>(text: &str, table: &[(&str, T)]) -> Result<T, String> {
    let found = table.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    let names = || table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("`{text}` is none of {}", names()))
}

fn switch(text: &str) -> Result<bool, String> {
    choose(text, &[("on", true), ("off", false)])
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no number that fits"))
}

fn uuid(text: &str) -> Result<[u8; 16], String> {
    let digits: Vec<u32> = text.chars().filter(|c| *c != '-').map_while(|c| c.to_digit(16)).collect();
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect();
    let uuid = <[u8; 16]>::try_from(bytes);
    uuid.map_err(|_| format!("`{text}` is not 32 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_reads_back_what_was_written() {
        let mut settings = Settings::default();
        for pair in ["mode=late:7", "vram=1024", "devices=3", "driver=no-device", "compute=8.6", "query=only-asks"] {
            settings.set(pair).unwrap();
        }
        settings.set("uuid.1=00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!((settings.mode, settings.vram_bytes, settings.devices), (Mode::Late(7), 1024, 3));
        assert_eq!((settings.init(), settings.compute, settings.query_runs), (Code::NO_DEVICE, (8, 6), false));
        assert_eq!((settings.uuid(1)[0], settings.uuid(1)[15]), (0, 0xff));
        assert_eq!(&settings.uuid(2), b"cuda-standin 002");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_what_would_be() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("mode=soon").unwrap_err(), "`soon` is none of plain, late, lazy");
        assert!(settings.set("uuid.0=12").unwrap_err().contains("32 hexadecimal digits"));
        assert!(settings.set("colour=blue").is_err());
    }
}
