//! Matrix products on AMX: bf16 tiles with `f32` sums, as exact as `f32` by splitting each number in three.
//!
//! A number is a sum of bf16 terms, each the rounding of what the ones before left over, 8 bits of its 24 each. With
//! three terms a product is six products of terms, and as exact as `f32`; with two it is three, and leaves out some
//! 2⁻¹⁷ of `|x||w|`; with one it is bf16. bf16 weights are their own only term. What always holds: a result's bits
//! depend on its row of `x` and its row of `w` alone, not on how many others are computed beside it: the terms are added
//! in one order, 32 numbers of `k` at a time. Numbers that are not finite stay so, though an infinity may become a NaN.
//!
//! Intel, Architecture Instruction Set Extensions Programming Reference, chapter 3. The intrinsics are unstable; the
//! instructions in inline assembly are not.

mod pack;
mod panels;
mod product;
mod tile;

pub(crate) use pack::Split;
pub(crate) use panels::{PAIR, Panels, Side, multiply};
pub(crate) use product::{Operand, Out, products};

use std::sync::OnceLock;

/// Whether this CPU has AMX with bf16 and the system lets this process use it.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(detect)
}

#[cfg(target_os = "linux")]
fn detect() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    // Asks for the state component of tiles, which the kernel gives to a process once, for all its threads.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    let vectors = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16");
    let leaf_seven = __cpuid(0).eax >= 7;
    let tiles = leaf_seven && {
        let found = __cpuid_count(7, 0).edx;
        found & AMX_BF16 != 0 && found & AMX_TILE != 0
    };
    // SAFETY: arch_prctl with this code takes a number and changes no memory.
    vectors
        && tiles
        && unsafe {
            libc::syscall(
                libc::SYS_arch_prctl,
                ARCH_REQ_XCOMP_PERM,
                XFEATURE_XTILEDATA,
            )
        } == 0
}

#[cfg(not(target_os = "linux"))]
fn detect() -> bool {
    false
}
