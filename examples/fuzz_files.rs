//! The parsers of foreign files under mutation, for as long as you like:
//! `cargo run --release --example fuzz_files -- 10000000 3600` runs ten million executions or one hour, whichever comes
//! first; a third argument sets the seed. The address space is limited, so that a length believed without a check
//! ends the process. Prints the count; a panic is reported with the bytes that caused it and exits 1.

#![allow(clippy::print_stdout, clippy::print_stderr)] // it is a program of its own

#[path = "../tests/files_samples/mod.rs"]
mod files_samples;

use files_samples::{
    LENGTHS, Mutation, drive_gguf, drive_index, drive_safetensors, gguf_seeds, index_seeds, mutate,
    safetensors_seeds,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn length(&mut self) -> u64 {
        match self.below(3) {
            0 => LENGTHS[self.below(LENGTHS.len())],
            1 => self.next(),
            _ => self.next() % 4096,
        }
    }

    /// Positions favour the first bytes, where the lengths and counts are.
    fn at(&mut self) -> usize {
        let span = if self.below(2) == 0 { 128 } else { 1 << 14 };
        self.below(span)
    }

    fn mutation(&mut self) -> Mutation {
        match self.below(8) {
            0 => Mutation::Flip {
                at: self.at(),
                bit: self.next() as u8,
            },
            1 => Mutation::Byte {
                at: self.at(),
                value: self.next() as u8,
            },
            2 => Mutation::Truncate { at: self.at() },
            3 => Mutation::Append {
                length: self.at(),
                value: self.next() as u8,
            },
            4 => Mutation::Length {
                at: self.at(),
                wide: self.below(2) == 0,
                value: self.length(),
            },
            5 => Mutation::Digits {
                at: self.at(),
                value: self.length(),
            },
            6 => Mutation::Splice {
                other: self.below(16),
                from: self.at(),
                to: self.at(),
            },
            _ => Mutation::Repeat {
                from: self.at(),
                length: self.at(),
                to: self.at(),
            },
        }
    }
}

fn limit_memory() -> bool {
    let limit = libc::rlimit {
        rlim_cur: 2 << 30,
        rlim_max: 2 << 30,
    };
    // SAFETY: the call reads the struct and changes only this process's own limit.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) == 0 }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>());
    let mut next = |default: u64| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (executions, seconds, seed) = (next(1_000_000), next(60), next(1));
    if !limit_memory() {
        eprintln!("warning: the address space could not be limited");
    }
    std::panic::set_hook(Box::new(|_| {}));
    let formats = [gguf_seeds(), safetensors_seeds(), index_seeds()];
    let (start, mut random) = (Instant::now(), Random(seed.max(1)));
    let (mut done, mut accepted) = (0u64, 0u64);
    while done < executions && start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..1024 {
            let format = [0, 0, 0, 1, 1, 1, 2][random.below(7)];
            let seeds = &formats[format];
            let mutations: Vec<_> = (0..=random.below(4)).map(|_| random.mutation()).collect();
            let bytes = mutate(seeds, random.below(seeds.len()), &mutations);
            let input = bytes.clone();
            let outcome = catch_unwind(AssertUnwindSafe(|| match format {
                0 => drive_gguf(bytes),
                1 => drive_safetensors(bytes),
                _ => drive_index(&bytes),
            }));
            let Ok(valid) = outcome else {
                println!(
                    "panic in format {format} after {done} executions (seed {seed}) on the bytes {input:?}"
                );
                return ExitCode::FAILURE;
            };
            accepted += u64::from(valid);
            done += 1;
        }
    }
    let taken = start.elapsed().as_secs_f64();
    println!("{done} executions in {taken:.0} s (seed {seed}), {accepted} accepted, no panic");
    ExitCode::SUCCESS
}
