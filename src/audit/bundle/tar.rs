//! A plain POSIX tar (ustar) of small files, in one form only: sorted by name, no times, no owners, mode 0644.
//!
//! Always: what [`read`] accepts is byte for byte what [`write`] makes of its members, so no header, padding or trailer can
//! hold anything that the members do not; links, paths, repeated and foreign names are refused by name.

use std::collections::BTreeMap;

use super::{BundleError, MEMBERS};

/// Everything in a tar comes in blocks of this many bytes.
const BLOCK: usize = 512;

/// The longest name of a header without a prefix.
const NAME: usize = 100;

/// Files by name.
pub type Members = BTreeMap<String, Vec<u8>>;

/// The tar of these members.
pub fn write(members: &Members) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in members {
        out.extend(header(name, data.len()));
        out.extend(data);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// The header of a regular file. Names of members are short; their sizes fit eleven octal digits.
fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &name[..name.len().min(NAME)]);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    // The sum is taken with its own field as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    put(329, "0000000");
    put(337, "0000000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\u{0} ").as_bytes());
    block
}

/// The members of a tar that anybody may have written.
///
/// # Errors
/// What [`write`] would not have written: the first thing that is wrong, with its place.
pub fn read(bytes: &[u8]) -> Result<Members, BundleError> {
    let mut members = Members::new();
    let mut at = 0;
    loop {
        let block = bytes
            .get(at..at + BLOCK)
            .ok_or_else(|| tar(at, "a header or the end of the tar", "the end of the file"))?;
        if block.iter().all(|&byte| byte == 0) {
            break;
        }
        let (name, size) = entry(block, at)?;
        let data = bytes.get(at + BLOCK..).and_then(|rest| rest.get(..size));
        let data = data.ok_or_else(|| {
            let found = format!("{} before the end of the file", bytes.len() - at - BLOCK);
            tar(at, format!("{size} bytes of `{name}`"), found)
        })?;
        if members.insert(name.to_owned(), data.to_vec()).is_some() {
            return Err(tar(at, "every member once", format!("`{name}` twice")));
        }
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    let canonical = write(&members);
    if canonical == bytes {
        return Ok(members);
    }
    let same = canonical.iter().zip(bytes).take_while(|(a, b)| a == b);
    let differs = same.count();
    let byte = |bytes: &[u8]| {
        bytes
            .get(differs)
            .map_or_else(|| "the end of the file".to_owned(), |b| format!("{b:#04x}"))
    };
    Err(tar(differs, byte(&canonical), byte(bytes)))
}

/// Name and size that a header gives, once they are known to be harmless.
fn entry(block: &[u8], at: usize) -> Result<(&'static str, usize), BundleError> {
    let end = block[..NAME].iter().position(|&byte| byte == 0);
    let name = String::from_utf8_lossy(&block[..end.unwrap_or(NAME)]);
    let prefixed = block[345] != 0;
    if prefixed || name.contains(['/', '\\']) || name.contains("..") {
        let found = if prefixed {
            format!("`{name}` in a folder")
        } else {
            format!("`{name}`")
        };
        return Err(tar(at, "the name of a file without a path", found));
    }
    let kind = block[156];
    if kind != b'0' {
        let found = match kind {
            b'1' | b'2' => format!("`{name}`, which is a link"),
            b'5' => format!("`{name}`, which is a folder"),
            other => format!("`{name}` of type {:?}", char::from(other)),
        };
        return Err(tar(at, "a regular file", found));
    }
    let Some(member) = MEMBERS.iter().find(|member| member.name == name) else {
        let known: Vec<_> = MEMBERS.iter().map(|member| member.name).collect();
        return Err(tar(
            at,
            format!("one of {}", known.join(", ")),
            format!("`{name}`"),
        ));
    };
    let digits = std::str::from_utf8(&block[124..135]).unwrap_or_default();
    let size = u64::from_str_radix(digits, 8)
        .map_err(|_| tar(at, "a size in eleven octal digits", format!("{digits:?}")))?;
    if size > member.limit {
        let expected = format!("at most {} bytes of `{name}`", member.limit);
        return Err(tar(at, expected, size.to_string()));
    }
    Ok((member.name, size as usize))
}

fn tar(at: usize, expected: impl Into<String>, found: impl Into<String>) -> BundleError {
    BundleError::Tar {
        at,
        expected: expected.into(),
        found: found.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::files::hash::sha256;
    use proptest::prelude::*;

    fn two() -> Members {
        let members = [
            ("audit.json", b"{}\n".to_vec()),
            ("bundle.json", vec![b'x'; 600]),
        ];
        members.map(|(name, data)| (name.to_owned(), data)).into()
    }

    fn refused(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    /// Changes the first header and sets its sum right again.
    fn forged(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = write(&two());
        let block = &mut bytes[..BLOCK];
        change(block);
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\u{0} ").as_bytes());
        bytes
    }

    fn named(name: &'static str) -> impl FnOnce(&mut [u8]) {
        move |block| {
            block[..NAME].fill(0);
            block[..name.len()].copy_from_slice(name.as_bytes());
        }
    }

    /// GNU tar 1.34 of files `a.json` ("one\n") and `b.json` (600 times `x`), with `--format=ustar --sort=name --mtime=@0
    /// --owner=0 --group=0 --numeric-owner --mode=0644 -b 1`.
    #[test]
    fn it_is_the_tar_that_gnu_tar_makes() {
        let members = [("a.json", b"one\n".to_vec()), ("b.json", vec![b'x'; 600])];
        let bytes = write(&members.map(|(name, data)| (name.to_owned(), data)).into());
        assert_eq!(
            sha256(&bytes),
            "bf21ec5d2bcbd8a868554c8d08b111867d7a10bfdedc1aac8feb9362a2d75171"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&write(&two())).unwrap(), two());
        assert_eq!(read(&write(&Members::new())).unwrap(), Members::new());
    }

    #[test]
    fn paths_links_and_foreign_or_repeated_names_are_refused_by_name() {
        for (name, words) in [
            ("../x", "`../x`"),
            ("/etc/passwd", "`/etc/passwd`"),
            ("a\\b", "without a path"),
            ("notes.txt", "one of audit.json, bundle.json"),
        ] {
            assert!(refused(&forged(named(name))).contains(words), "{name}");
        }
        for (kind, words) in [
            (b'1', "a link"),
            (b'2', "a link"),
            (b'5', "a folder"),
            (b'x', "type 'x'"),
        ] {
            assert!(refused(&forged(|block| block[156] = kind)).contains(words));
        }
        let prefixed = forged(|block| block[345..348].copy_from_slice(b"../"));
        assert!(refused(&prefixed).contains("in a folder"));
        assert!(refused(&forged(named("bundle.json"))).contains("`bundle.json` twice"));
        let huge = forged(|block| block[124..135].copy_from_slice(b"77777777777"));
        assert!(refused(&huge).contains("at most"), "{}", refused(&huge));
        let signed = forged(|block| block[124..135].copy_from_slice(b"-0000000001"));
        assert!(refused(&signed).contains("octal"));
    }

    #[test]
    fn a_truncated_or_lengthened_tar_is_refused() {
        let bytes = write(&two());
        for cut in [
            0,
            1,
            511,
            512,
            515,
            1024,
            1600,
            bytes.len() - 512,
            bytes.len() - 1,
        ] {
            assert!(read(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(refused(&[bytes.clone(), vec![0; 512]].concat()).contains("the end of the file"));
        assert!(read(&[bytes, vec![1]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_an_answer_and_never_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..1600),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        ) {
            prop_assert!(read(&bytes).is_err());
            let mut known = write(&two());
            let end = known.len();
            for (at, byte) in &edits {
                known[at.index(end)] = *byte;
            }
            if let Ok(members) = read(&known) {
                prop_assert_eq!(write(&members), known);
            }
        }
    }

    #[test]
    fn no_byte_of_header_padding_or_trailer_can_change() {
        let bytes = write(&two());
        let data = [512..515, 1536..2136];
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            let is_data = data.iter().any(|range| range.contains(&at));
            // Data is for the hashes to watch over.
            assert_eq!(read(&changed).is_ok(), is_data, "byte {at}");
        }
    }
}
