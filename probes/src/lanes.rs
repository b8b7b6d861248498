//! Lines of eight `f64` at three instruction levels behind one trait, so that each kernel is written once.
//!
//! What always holds: [`x86::Wide`] and [`x86::Half`] are named only in [`run_at`], after the CPU was asked, which is what
//! makes their safe methods sound. Everything is `inline(always)`, since a method that stays a call of its own would be
//! compiled without the instruction set of its caller. A line is eight numbers at every level, so sums are grouped alike; the
//! levels differ only where a fused multiply-add rounds once instead of twice. Next: [`crate::kernels`].

#[cfg(target_arch = "x86_64")]
mod x86;

/// Eight numbers that lie together in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f64; 8]);

/// A line of zeros.
pub(crate) const ZERO: Line = Line([0.0; 8]);

/// Eight numbers in registers.
pub(crate) trait Lanes: Copy {
    fn splat(x: f64) -> Self;
    fn load(from: &Line) -> Self;
    fn store(self, to: &mut Line);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self · a + b`, rounded once where the CPU can.
    fn mul_add(self, a: Self, b: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;

    /// The numbers.
    #[inline(always)]
    fn line(self) -> Line {
        let mut line = ZERO;
        self.store(&mut line);
        line
    }

    /// Their sum, by the same tree at every level.
    #[inline(always)]
    fn sum(self) -> f64 {
        let a = self.line().0;
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
}

/// Work written once for any level.
pub(crate) trait Kernel {
    /// What it gives back.
    type Out;
    /// Does the work. Implementations are `inline(always)`.
    fn run<V: Lanes>(self) -> Self::Out;
}

/// The instructions a kernel may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Plain Rust, for any CPU.
    Portable,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512 foundation.
    Avx512,
}

/// The level of this CPU. What the standard library found out once is asked, which is a load.
#[cfg(target_arch = "x86_64")]
fn level() -> Level {
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
fn level() -> Level {
    Level::Portable
}

/// Runs a kernel with the widest instructions of this CPU.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Out {
    run_at(level(), kernel)
}

/// Runs a kernel at a level, or at this CPU's own where that is lower.
pub(crate) fn run_at<K: Kernel>(wanted: Level, kernel: K) -> K::Out {
    match wanted.min(level()) {
        // SAFETY: the minimum with the CPU's own level guarantees that the instructions exist.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(kernel) },
        _ => kernel.run::<Portable>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<x86::Wide>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<x86::Half>()
}

/// A line in plain Rust, which the compiler maps to whatever the target's baseline offers.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f64; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn splat(x: f64) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    fn load(from: &Line) -> Self {
        Self(from.0)
    }
    #[inline(always)]
    fn store(self, to: &mut Line) {
        to.0 = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    // Not f64::mul_add: without the instruction that is a library call for each number.
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        self.mul(a).add(b)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
}
