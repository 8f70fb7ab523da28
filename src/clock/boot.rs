//! Which boot of the machine this is: what was not synced before another boot may be gone.

use std::io;

/// The kernel's random id of this boot. Read anew at each call, by open(2) and read(2).
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
