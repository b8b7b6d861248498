//! What a Parquet file says of its sizes, checked before the library acts on it.
//!
//! The library allocates what a page header promises and recurses as deep as a schema says. Here the footer's schema and every
//! page header (Thrift, compact protocol) are read first, with bounds; gzip pages, whose size no header can bound, are inflated
//! to nowhere. Source: parquet.thrift of the Parquet format, and Thrift's compact protocol.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// Deepest nesting of a schema, and of a Thrift structure.
const MAX_DEPTH: usize = 40;
/// Most nodes of a schema.
const MAX_NODES: usize = 100_000;
/// The largest page, inflated.
const MAX_PAGE: u64 = 256 << 20;
/// Most values of one column: each becomes a value in memory, however small it is in the file.
pub(super) const MAX_VALUES: u64 = 50_000_000;

/// Refuses a footer whose schema is deeper or larger than any real one. `bytes` is the whole file.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), String> {
    let tail = bytes
        .len()
        .checked_sub(8)
        .filter(|&at| at >= 4 && bytes.ends_with(b"PAR1"));
    let at = tail.ok_or("it does not end as a Parquet file does (cut short, or encrypted?)")?;
    let mut length = [0; 4];
    length.copy_from_slice(&bytes[at..at + 4]);
    let length = u32::from_le_bytes(length) as usize;
    let start = at
        .checked_sub(length)
        .ok_or("its footer is longer than the file")?;
    let mut thrift = Thrift::new(&bytes[start..at]);
    let mut open: Vec<u64> = Vec::new();
    let mut id = 0;
    while let Some(kind) = thrift.field(&mut id)? {
        if (id, kind) != (2, LIST) {
            thrift.skip(kind, 0)?;
            continue;
        }
        let (element, nodes) = thrift.list()?;
        if element != STRUCT || nodes > MAX_NODES {
            return Err(format!(
                "its schema has {nodes} nodes; at most {MAX_NODES} are read"
            ));
        }
        for node in 0..nodes {
            let [children] = thrift.numbers([5])?;
            if children < 0 || children as usize > nodes - node - 1 {
                return Err(format!("a node of its schema claims {children} children"));
            }
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            if children > 0 {
                open.push(children as u64);
            }
            if open.len() > MAX_DEPTH {
                return Err(format!("its schema is deeper than {MAX_DEPTH}"));
            }
        }
    }
    Ok(())
}

/// Refuses a column chunk, `bytes`, whose pages inflate to more than is read, and gives the number of its values.
pub(super) fn check_pages(bytes: &[u8], gzip: bool) -> Result<u64, String> {
    let (mut rest, mut values) = (bytes, 0u64);
    while !rest.is_empty() {
        let mut thrift = Thrift::new(rest);
        let page = thrift.page()?;
        let body = &rest[thrift.at..];
        let stored = usize::try_from(page.stored)
            .ok()
            .filter(|&n| n <= body.len());
        let stored = stored.ok_or_else(|| {
            format!(
                "a page of {} bytes where {} are left",
                page.stored,
                body.len()
            )
        })?;
        let inflated = u64::try_from(page.inflated).unwrap_or(u64::MAX);
        if inflated > MAX_PAGE {
            return Err(format!(
                "a page of {} bytes; at most {MAX_PAGE} are read",
                page.inflated
            ));
        }
        // Levels of a second-version page stand uncompressed in front.
        let levels = usize::try_from(page.levels).unwrap_or(usize::MAX);
        if let Some(packed) = body[..stored].get(levels..).filter(|_| gzip) {
            let limit = inflated + 1;
            // A page that is no gzip is the library's to refuse.
            let inflated = io::copy(
                &mut MultiGzDecoder::new(packed).take(limit),
                &mut io::sink(),
            );
            if inflated.is_ok_and(|n| n == limit) {
                return Err("a page inflates to more than it says".into());
            }
        }
        values = values.saturating_add(u64::try_from(page.values).unwrap_or(u64::MAX));
        if values > MAX_VALUES {
            return Err(format!(
                "a column of more than {MAX_VALUES} values; split the file"
            ));
        }
        rest = &body[stored..];
    }
    Ok(values)
}

#[derive(Default)]
struct Page {
    inflated: i64,
    stored: i64,
    values: i64,
    levels: i64,
}

const STOP: u8 = 0;
const BYTE: u8 = 3;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// A reader of Thrift's compact protocol that keeps nothing.
struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Thrift<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte.ok_or_else(|| "its structure ends early".into())
    }

    fn pass(&mut self, n: u64) -> Result<(), String> {
        let left = self.bytes.len().saturating_sub(self.at);
        if n > left as u64 {
            return Err("its structure ends early".into());
        }
        self.at += n as usize;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number of more than 64 bits".into())
    }

    fn number(&mut self) -> Result<i64, String> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// Type of the next field of a structure, its number in `id`; `None` at the structure's end.
    fn field(&mut self, id: &mut i64) -> Result<Option<u8>, String> {
        let head = self.byte()?;
        let kind = head & 0x0f;
        if kind == STOP {
            return Ok(None);
        }
        *id = match head >> 4 {
            0 => self.number()?,
            delta => id.saturating_add(i64::from(delta)),
        };
        Ok(Some(kind))
    }

    /// Type and number of a list's elements; no list has more than bytes are left.
    fn list(&mut self) -> Result<(u8, usize), String> {
        let head = self.byte()?;
        let size = match head >> 4 {
            15 => self.varint()?,
            size => u64::from(size),
        };
        let left = self.bytes.len().saturating_sub(self.at);
        if size > left as u64 {
            return Err(format!("a list of {size} where {left} bytes are left"));
        }
        Ok((head & 0x0f, size as usize))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("a structure deeper than {MAX_DEPTH}"));
        }
        match kind {
            // A truth value is in the type itself.
            1 | 2 => Ok(()),
            BYTE => self.pass(1),
            4..=6 => self.varint().map(|_| ()),
            DOUBLE => self.pass(8),
            UUID => self.pass(16),
            BINARY => {
                let n = self.varint()?;
                self.pass(n)
            }
            LIST | SET => {
                let (element, size) = self.list()?;
                (0..size).try_for_each(|_| self.element(element, depth))
            }
            MAP => {
                let size = self.varint()?;
                if size == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                for _ in 0..size {
                    self.element(kinds >> 4, depth)?;
                    self.element(kinds & 0x0f, depth)?;
                }
                Ok(())
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            kind => Err(format!(
                "a field of type {kind}, which Thrift does not have"
            )),
        }
    }

    /// An element of a list or map: there a truth value takes a byte.
    fn element(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        match kind {
            1 | 2 => self.pass(1),
            kind => self.skip(kind, depth + 1),
        }
    }

    /// Reads a structure and gives the numbers in some of its fields; 0 where there is none.
    fn numbers<const N: usize>(&mut self, wanted: [i64; N]) -> Result<[i64; N], String> {
        let (mut id, mut found) = (0, [0; N]);
        while let Some(kind) = self.field(&mut id)? {
            match wanted.iter().position(|&w| w == id) {
                Some(at) if (4..=6).contains(&kind) => found[at] = self.number()?,
                _ => self.skip(kind, 1)?,
            }
        }
        Ok(found)
    }

    /// A page header: sizes, and the number of values in whichever of its three kinds it is.
    fn page(&mut self) -> Result<Page, String> {
        let (mut id, mut page) = (0, Page::default());
        while let Some(kind) = self.field(&mut id)? {
            match (id, kind) {
                (2, 4..=6) => page.inflated = self.number()?,
                (3, 4..=6) => page.stored = self.number()?,
                (5 | 7, STRUCT) => [page.values] = self.numbers([1])?,
                (8, STRUCT) => {
                    let [values, definitions, repetitions] = self.numbers([1, 5, 6])?;
                    page.values = values;
                    page.levels = definitions.saturating_add(repetitions);
                }
                _ => self.skip(kind, 0)?,
            }
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A footer of a chain of groups, each the only child of the one above.
    fn chain(depth: usize, children: u8) -> Vec<u8> {
        // Field 2 of the file: a list of structures. Of each, field 5: its number of children, zigzag.
        let mut footer = vec![0x29, 0xfc];
        let mut n = depth;
        while n >= 0x80 {
            footer.push(n as u8 | 0x80);
            n >>= 7;
        }
        footer.push(n as u8);
        for _ in 0..depth {
            footer.extend([0x55, children << 1, 0]);
        }
        footer.push(0);
        let length = (footer.len() as u32).to_le_bytes();
        [b"PAR1", footer.as_slice(), &length, b"PAR1"].concat()
    }

    #[test]
    fn a_schema_that_would_fill_the_stack_or_the_memory_is_refused() {
        let deep = check_footer(&chain(1000, 1));
        assert!(deep.is_err_and(|e| e.contains("deeper")));
        let wide = check_footer(&chain(10, 60));
        assert!(wide.is_err_and(|e| e.contains("claims 60 children")));
        assert_eq!(check_footer(&chain(10, 0)), Ok(()));
        assert!(check_footer(b"PAR1PAR1").is_err());
    }

    #[test]
    fn a_page_that_promises_too_much_is_refused() {
        // inflated 2 GiB - 1, stored 0; field 5 with one value.
        let header =
            |inflated: [u8; 5]| [&[0x25][..], &inflated, &[0x15, 0, 0x2c, 0x15, 2, 0, 0]].concat();
        let large = check_pages(&header([0xfe, 0xff, 0xff, 0xff, 0x0f]), false);
        assert!(large.is_err_and(|e| e.contains("2147483647 bytes")));
        assert_eq!(
            check_pages(&header([0x80, 0x80, 0x80, 0x80, 0]), false),
            Ok(1)
        );
        assert!(check_pages(&[0x15, 2, 0x15, 2, 0x15, 40, 0], false).is_err());
    }

    /// 100 kB of zeroes in a page that says it has 10 bytes, of the first and of the second version.
    #[test]
    fn gzip_that_inflates_beyond_its_word_is_refused() {
        let mut packed = Vec::new();
        let zeroes = vec![0u8; 100_000];
        let encoder = flate2::read::GzEncoder::new(zeroes.as_slice(), flate2::Compression::best());
        io::copy(&mut { encoder }, &mut packed).unwrap();
        let page = |data: &[u8], levels: usize, inflated: u64| {
            let mut page = vec![0x25];
            for number in [inflated, (levels + data.len()) as u64] {
                page.extend([
                    (number << 1) as u8 & 0x7f | 0x80,
                    (number >> 6) as u8 & 0x7f | 0x80,
                    (number >> 13) as u8,
                ]);
                page.push(0x15);
            }
            page.pop();
            // Field 5 with one value; or field 8, whose field 5 is the length of the levels.
            match levels {
                0 => page.extend([0x2c, 0x15, 2, 0, 0]),
                n => page.extend([0x5c, 0x15, 2, 0x45, (n << 1) as u8, 0, 0]),
            }
            [page, vec![7; levels], data.to_vec()].concat()
        };
        for levels in [0, 3] {
            let bomb = check_pages(&page(&packed, levels, 10), true);
            assert!(bomb.is_err_and(|e| e.contains("inflates")), "{levels}");
            assert_eq!(check_pages(&page(&packed, levels, 100_000), true), Ok(1));
            assert_eq!(check_pages(&page(&packed, levels, 10), false), Ok(1));
        }
    }
}
