//! How much of the card is in use: by everybody, and by this process where that can be told.

use crate::driver::call;
use crate::driver::gpu::Gpu;
use std::process::Command;
use std::time::Duration;

/// Bytes in use.
pub struct Use {
    card: u64,
    own: Option<u64>,
}

pub fn now(_current: &Gpu) -> Use {
    call!(cuCtxSynchronize()).expect("the device works");
    let mut total = 0;
    let free = call!(cuMemGetInfo_v2(-> usize, &mut total)).expect("the device works");
    Use { card: (total - free) as u64, own: own_bytes() }
}

/// The use at the end. Others on a shared card come and go, so that a greater one is looked at again.
pub fn settled(gpu: &Gpu, before: &Use) -> Use {
    for _ in 0..20 {
        let after = now(gpu);
        if leaked(before, &after) == 0 {
            return after;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    now(gpu)
}

/// Prints both and returns what is leaked, in bytes.
pub fn compare(before: &Use, after: &Use) -> u64 {
    let own = |own: Option<u64>| own.map_or("not told".to_owned(), |bytes| format!("{bytes} bytes"));
    println!();
    println!("| memory in use | before | after |");
    println!("|---|---|---|");
    println!("| on the card, by everybody (cuMemGetInfo) | {} bytes | {} bytes |", before.card, after.card);
    println!("| by this process (nvidia-smi, in MiB) | {} | {} |", own(before.own), own(after.own));
    println!();
    let leaked = leaked(before, after);
    println!("Leaked: {leaked} bytes (target: 0).");
    leaked
}

fn leaked(before: &Use, after: &Use) -> u64 {
    match (before.own, after.own) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => after.card.saturating_sub(before.card),
    }
}

/// What nvidia-smi says of this process; in a container it often knows only processes by their numbers outside.
fn own_bytes() -> Option<u64> {
    let asked = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"];
    let said = Command::new("nvidia-smi").args(asked).output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let mut rows = text.lines().filter_map(|line| line.split_once(','));
    let (_, mib) = rows.find(|(pid, _)| pid.trim() == std::process::id().to_string())?;
    Some(mib.trim().parse::<u64>().ok()? << 20)
}

/// The version of the kernel's driver, as a part of a sentence.
pub fn kernel_driver() -> String {
    let said = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let version =
        said.split_whitespace().find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
    version.map_or(String::new(), |version| format!(", kernel driver {version}"))
}
