//! TensorBoard's event files, written beside the log so that TensorBoard shows a run.
//!
//! Always: records are TFRecords (length, masked CRC-32C of it, data, masked CRC-32C of that) of `tensorboard.Event`
//! messages in protobuf's wire format, of which only the four fields used here are known. Each session of a run has a file
//! of its own; a resumed one begins with a session start, which makes TensorBoard drop the steps that are done again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Kind, Row};
use crate::train::TrainError;

/// A file of events.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// A new file in `folder` for a session whose first step is `first`, begun at `wall` (seconds since 1970).
    ///
    /// # Errors
    /// The disk refuses.
    pub fn create(folder: &Path, first: u64, wall: f64) -> Result<Self, TrainError> {
        fs::create_dir_all(folder).map_err(TrainError::io(folder, "make"))?;
        let process = std::process::id();
        let name = format!(
            "events.out.tfevents.{:010}.candlescope.{process}.{first}",
            wall as u64
        );
        let path = folder.join(name);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(TrainError::io(&path, "create"))?;
        let mut events = Self { path, file };
        events.write(&[record(&version(wall)), record(&start(wall, first))].concat())?;
        Ok(events)
    }

    /// The numbers of a row of training or evaluation; other rows have no curve.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn add(&mut self, row: &Row) -> Result<(), TrainError> {
        if !matches!(row.kind, Kind::Step | Kind::Eval) {
            return Ok(());
        }
        let values: Vec<(&str, f64)> = row.numbers().collect();
        self.write(&record(&summary(row.wall, row.step, &values)))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        self.file
            .write_all(bytes)
            .map_err(TrainError::io(&self.path, "append to"))
    }
}

/// `Event { wall_time: 1, file_version: 3 }`, with which every file begins.
fn version(wall: f64) -> Vec<u8> {
    let mut event = double(1, wall);
    event.extend(bytes(3, b"brain.Event:2"));
    event
}

/// `Event { wall_time: 1, step: 2, session_log: 7 { status: 1 START } }`
fn start(wall: f64, step: u64) -> Vec<u8> {
    let mut event = double(1, wall);
    event.extend(integer(2, step));
    event.extend(bytes(7, &integer(1, 1)));
    event
}

/// `Event { wall_time: 1, step: 2, summary: 5 { repeated value: 1 { tag: 1, simple_value: 2 } } }`
fn summary(wall: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (tag, value) in values {
        let mut entry = bytes(1, tag.as_bytes());
        entry.extend(single(2, *value as f32));
        list.extend(bytes(1, &entry));
    }
    let mut event = double(1, wall);
    event.extend(integer(2, step));
    event.extend(bytes(5, &list));
    event
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn integer(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn single(field: u64, value: f32) -> Vec<u8> {
    [varint(field << 3 | 5), value.to_le_bytes().to_vec()].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let length = varint(value.len() as u64);
    [&varint(field << 3 | 2)[..], &length, value].concat()
}

/// One TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let (head, tail) = (masked(&length).to_le_bytes(), masked(data).to_le_bytes());
    [&length[..], &head, data, &tail].concat()
}

/// The CRC as TFRecord stores it, so that the CRC of data that holds CRCs stays useful.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected polynomial 0x82f63b78; RFC 3720, appendix B.4.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !data.iter().fold(!0, byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b""), 0);
    }

    /// Written by tensorboardX 2.6 (Google's protobuf runtime): the version record at 1.5 s, a session start of step 300 at
    /// 2.25 s, and a summary of step 300 at 3 s with loss 2.5 and rewards/chosen -0.125.
    #[test]
    fn records_are_byte_for_byte_those_of_tensorboardx() {
        let golden = concat!(
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c",
            "100000000000000095fbfe1809000000000000024010ac023a020801f166178e",
            "3200000000000000241956ec09000000000000084010ac022a240a0b0a046c6f737315000020400a15",
            "0a0e726577617264732f63686f73656e15000000be07e7821c"
        );
        let values = [("loss", 2.5), ("rewards/chosen", -0.125)];
        let events = [version(1.5), start(2.25, 300), summary(3.0, 300, &values)];
        let mut written = String::new();
        for byte in events.iter().flat_map(|event| record(event)) {
            written += &format!("{byte:02x}");
        }
        assert_eq!(written, golden);
    }
}
