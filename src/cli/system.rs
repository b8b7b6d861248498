//! What the machine says of itself: memory, disk, processor. Everything is optional: a system that does not say is no error.

use std::path::Path;

/// A field of `/proc/meminfo` or `/proc/self/status`, in bytes.
fn proc_field(file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line
        .trim_start_matches(':')
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(kilobytes * 1024)
}

/// The most memory this process has had.
pub fn peak_memory() -> Option<u64> {
    proc_field("/proc/self/status", "VmHWM")
}

/// Memory of the machine.
pub fn total_memory() -> Option<u64> {
    proc_field("/proc/meminfo", "MemTotal")
}

/// Memory that could be used now.
pub fn available_memory() -> Option<u64> {
    proc_field("/proc/meminfo", "MemAvailable")
}

/// The processor's name.
pub fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"))?;
    Some(
        line.trim_start_matches(|c: char| c == ':' || c.is_whitespace())
            .to_owned(),
    )
}

/// Bytes this user may still write where `path` lies, or would lie.
#[cfg(unix)]
pub fn free_disk(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes this user may still write; not known on this system.
#[cfg(not(unix))]
pub fn free_disk(_path: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn linux_says_all_of_it() {
        assert!(peak_memory().unwrap() > 1 << 20);
        assert!(total_memory().unwrap() >= available_memory().unwrap());
        assert!(free_disk(Path::new("/tmp/not/there/yet")).is_some());
    }
}
