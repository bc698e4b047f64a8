//! Traces as text: `time,key,size[,cost_ns]`, one request on a line. A first line that starts with `time` is a header. Requests
//! are taken in the order of the lines: a cache's trace may be a few microseconds out of order where threads wrote at once.

use crate::replay::Request;
use std::collections::HashMap;

/// A line that is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub number: usize,
    pub reason: String,
}

/// The requests, and the lines that are none. Keys may be any text; they are numbered as they come.
pub fn read(text: &[u8]) -> (Vec<Request>, Vec<BadLine>) {
    let (mut requests, mut bad) = (Vec::new(), Vec::new());
    let mut keys: HashMap<&[u8], u64> = HashMap::new();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || number == 1 && line.starts_with(b"time") {
            continue;
        }
        match fields(line) {
            Ok((key, bytes, cost_ns)) => {
                let next = keys.len() as u64;
                // Numbers stay what they are, so that studies of one trace can be compared.
                let key = number_of(key).unwrap_or_else(|| u64::MAX - *keys.entry(key).or_insert(next));
                requests.push(Request { key, bytes, cost_ns });
            }
            Err(reason) => bad.push(BadLine { number, reason }),
        }
    }
    (requests, bad)
}

fn fields(line: &[u8]) -> Result<(&[u8], u64, u64), String> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).collect();
    let (time, key, bytes, cost_ns) = match fields[..] {
        [time, key, bytes] => (time, key, bytes, None),
        [time, key, bytes, cost_ns] => (time, key, bytes, Some(cost_ns)),
        _ => return Err(format!("{} fields; a request has time,key,size or time,key,size,cost_ns", fields.len())),
    };
    let numeric = |name: &str, field: &[u8]| {
        let reason = || format!("{name} is `{}`, no whole number below 2^64", String::from_utf8_lossy(field));
        number_of(field).ok_or_else(reason)
    };
    numeric("time", time)?;
    let bytes = numeric("size", bytes)?;
    match () {
        () if key.is_empty() => Err("the key is empty".to_owned()),
        () if bytes == 0 => Err("size is 0; a resident takes one byte at least".to_owned()),
        () if bytes > 1 << 50 => Err(format!("size is {bytes}, more than any device has")),
        () => Ok((key, bytes, cost_ns.map_or(Ok(0), |cost| numeric("cost_ns", cost))?)),
    }
}

fn number_of(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    // `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
