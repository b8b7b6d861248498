//! Which vector instructions this CPU has. Decided at run time, once, so that one binary is portable and fast.

use std::sync::OnceLock;

/// The widest instruction set a kernel may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Plain Rust, for any CPU.
    Portable,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512 foundation.
    Avx512,
}

/// The level of this CPU.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    if avx2 && is_x86_feature_detected!("avx512f") {
        Level::Avx512
    } else if avx2 {
        Level::Avx2
    } else {
        Level::Portable
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// The numerical path of this machine, for reports and manifests: `"avx512f+amx-bf16x6"` where large products are six
/// of bf16 terms on AMX (`x3` and none for fewer), else `"avx512f+bf16"`, `"avx512f"`, `"avx2+fma"` or `"portable"`. The `+bf16` says that the
/// CPU has bf16 instructions, not that a kernel rounded anything to bf16.
pub fn cpu_features() -> String {
    match level() {
        Level::Avx512 if crate::linear::terms(usize::MAX) == 3 => "avx512f+amx-bf16x6",
        Level::Avx512 if crate::linear::terms(usize::MAX) == 2 => "avx512f+amx-bf16x3",
        Level::Avx512 if crate::linear::terms(usize::MAX) == 1 => "avx512f+amx-bf16",
        Level::Avx512 if has_bf16() => "avx512f+bf16",
        Level::Avx512 => "avx512f",
        Level::Avx2 => "avx2+fma",
        Level::Portable => "portable",
    }
    .to_owned()
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_level() {
        let name = cpu_features();
        match level() {
            Level::Avx512 => assert!(name.starts_with("avx512f"), "{name}"),
            Level::Avx2 => assert_eq!(name, "avx2+fma"),
            Level::Portable => assert_eq!(name, "portable"),
        }
    }
}
