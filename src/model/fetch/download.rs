//! One file from the network to the disk. What always holds: bytes go to `NAME.part` first, a broken transfer is taken
//! up where it stopped (only if the server vouches that the file is the same), and `NAME` exists only once its length
//! and digest are right. Next: `hub.rs` and `pypi.rs` say which files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use sha2::{Digest, Sha256};

use super::cache::require_room;
use super::error::FetchError;
use super::http::{Reply, Web, is_passing, refused, shown};
use super::progress::Progress;

/// Bytes read at a time.
const CHUNK: usize = 128 << 10;
/// An attempt that brought this much is not counted as a failure.
const HEADWAY: u64 = 1 << 20;

/// A file to get.
pub(super) struct Item<'a> {
    pub url: &'a str,
    /// Bearer token for the first host.
    pub secret: Option<&'a str>,
    /// Where it goes.
    pub to: PathBuf,
    /// Its length where it was announced.
    pub bytes: Option<u64>,
    /// Its digest where it was announced.
    pub sha256: Option<&'a str>,
    /// More than this is never read.
    pub limit: u64,
}

/// A file that is there and verified.
#[derive(Debug)]
pub(super) struct Received {
    pub bytes: u64,
    pub sha256: String,
}

/// Gets the file, or finds it already there.
pub(super) fn download(
    web: &Web,
    item: &Item,
    progress: &dyn Progress,
) -> Result<Received, FetchError> {
    if item.to.is_file() {
        let there = digest(&item.to)?;
        if verify(item, &there).is_ok() {
            return Ok(there);
        }
        remove(&item.to)?;
    }
    let part = Part::of(&item.to);
    transfer(web, item, &part, progress)?;
    let there = digest(&part.data)?;
    if let Err(e) = verify(item, &there) {
        part.discard()?;
        return Err(e);
    }
    let file = File::open(&part.data).map_err(FetchError::io("open", &part.data))?;
    file.sync_all()
        .map_err(FetchError::io("flush", &part.data))?;
    fs::rename(&part.data, &item.to).map_err(FetchError::io("rename", &part.data))?;
    remove(&part.tag)?;
    Ok(there)
}

/// SHA-256 of a file, hex.
pub(super) fn digest(path: &Path) -> Result<Received, FetchError> {
    let mut file = File::open(path).map_err(FetchError::io("open", path))?;
    let (mut hasher, mut buffer, mut bytes) = (Sha256::new(), vec![0; CHUNK], 0);
    loop {
        let n = file
            .read(&mut buffer)
            .map_err(FetchError::io("read", path))?;
        if n == 0 {
            return Ok(Received {
                bytes,
                sha256: hex(&hasher.finalize()),
            });
        }
        hasher.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Deletes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(FetchError::io("delete", path)(e))
        }
        _ => Ok(()),
    }
}

/// The unfinished file and, beside it, the server's tag for the version it is of.
struct Part {
    data: PathBuf,
    tag: PathBuf,
}

impl Part {
    fn of(to: &Path) -> Self {
        let beside = |end: &str| {
            let mut name = to.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Self {
            data: beside(".part"),
            tag: beside(".part.etag"),
        }
    }

    fn len(&self) -> u64 {
        fs::metadata(&self.data).map_or(0, |data| data.len())
    }

    fn discard(&self) -> Result<(), FetchError> {
        remove(&self.data)?;
        remove(&self.tag)
    }
}

fn verify(item: &Item, there: &Received) -> Result<(), FetchError> {
    let file = || file_name(&item.to);
    if let Some(expected) = item.bytes.filter(|expected| *expected != there.bytes) {
        return Err(FetchError::Length {
            file: file(),
            expected,
            found: there.bytes,
        });
    }
    match item.sha256 {
        Some(expected) if !expected.eq_ignore_ascii_case(&there.sha256) => {
            Err(FetchError::Checksum {
                file: file(),
                expected: expected.to_ascii_lowercase(),
                found: there.sha256.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// Attempts until the part is whole. Only attempts without headway count against the retries.
fn transfer(
    web: &Web,
    item: &Item,
    part: &Part,
    progress: &dyn Progress,
) -> Result<(), FetchError> {
    let (mut failures, mut pause) = (0, web.patience.pause);
    loop {
        let before = part.len();
        if before > 0 && item.bytes == Some(before) {
            // Stopped after the last byte and before the rename.
            return Ok(());
        }
        let outcome = attempt(web, item, part, progress);
        progress.done();
        let Err(error) = outcome else { return Ok(()) };
        // The list that named this file could be reached, so a lost connection is worth another try.
        let passing = is_passing(&error) || matches!(error, FetchError::Unreachable { .. });
        if !passing {
            return Err(error);
        }
        if part.len() >= before.saturating_add(HEADWAY) {
            (failures, pause) = (0, web.patience.pause);
        }
        if failures == web.patience.retries {
            return Err(error);
        }
        failures += 1;
        progress.note(&format!(
            "{error}; trying again ({failures} of {})",
            web.patience.retries
        ));
        thread::sleep(pause);
        pause *= 2;
    }
}

/// One request, from wherever the part ends.
fn attempt(web: &Web, item: &Item, part: &Part, progress: &dyn Progress) -> Result<(), FetchError> {
    let have = resumable(item, part)?;
    let tag = fs::read_to_string(&part.tag).ok();
    let range = format!("bytes={have}-");
    let mut headers = vec![];
    if have > 0 {
        headers.push(("range", range.as_str()));
        if let Some(tag) = &tag {
            headers.push(("if-range", tag.as_str()));
        }
    }
    let reply = web.get(item.url, &headers, item.secret)?;
    let have = match reply.status {
        206 if have > 0 && continues(&reply, have, tag.as_deref()) => have,
        200 => 0,
        416 if have > 0
            && item.sha256.is_some()
            && reply.header("content-range") == Some(&format!("bytes */{have}")) =>
        {
            return Ok(());
        }
        // A range that the server cannot serve or did not serve as asked: the part is of no use.
        206 | 416 if have > 0 => {
            part.discard()?;
            return Err(broken(
                item,
                0,
                "the server could not go on from the part that was there",
            ));
        }
        _ => return Err(refused(&reply)),
    };
    let total = reply.length().and_then(|rest| rest.checked_add(have));
    check_announced(item, total)?;
    if have == 0 {
        part.discard()?;
        if let Some(tag) = reply.header("etag").filter(|tag| tag.starts_with('"')) {
            fs::write(&part.tag, tag).map_err(FetchError::io("write", &part.tag))?;
        }
    }
    let total = total.or(item.bytes);
    require_room(
        item.to.parent().unwrap_or(Path::new(".")),
        total.unwrap_or(0).saturating_sub(have),
    )?;
    progress.start(&file_name(&item.to), total);
    progress.advance(have);
    copy(reply, item, part, have, total, progress)
}

/// Bytes of the part that can be built upon: those whose version the server can confirm, or a digest will.
fn resumable(item: &Item, part: &Part) -> Result<u64, FetchError> {
    let have = part.len();
    let sure = item.sha256.is_some() || part.tag.is_file();
    let sensible = item.bytes.is_none_or(|bytes| have < bytes);
    if have > 0 && !(sure && sensible) {
        part.discard()?;
        return Ok(0);
    }
    Ok(have)
}

/// Whether a 206 is the rest of the file whose beginning we have.
fn continues(reply: &Reply, have: u64, tag: Option<&str>) -> bool {
    let start = reply
        .header("content-range")
        .and_then(|range| range.trim().strip_prefix("bytes "))
        .and_then(|range| range.split('-').next())
        .and_then(|start| start.trim().parse::<u64>().ok());
    let same = match (tag, reply.header("etag")) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => true,
    };
    start == Some(have) && same
}

/// A file of another length than announced is another file: no need to read it to know.
fn check_announced(item: &Item, total: Option<u64>) -> Result<(), FetchError> {
    match (total, item.bytes) {
        (Some(found), Some(expected)) if found != expected => Err(FetchError::Length {
            file: shown(item.url),
            expected,
            found,
        }),
        (Some(found), _) if found > item.limit => Err(FetchError::TooLong {
            file: shown(item.url),
            limit: item.limit,
        }),
        _ => Ok(()),
    }
}

fn copy(
    reply: Reply,
    item: &Item,
    part: &Part,
    mut have: u64,
    total: Option<u64>,
    progress: &dyn Progress,
) -> Result<(), FetchError> {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(&part.data)
        .map_err(FetchError::io("open", &part.data))?;
    let mut body = reply.into_reader();
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => return Err(broken(item, have, &e.to_string())),
        };
        have += n as u64;
        if have > total.unwrap_or(item.limit) {
            part.discard()?;
            return Err(FetchError::TooLong {
                file: shown(item.url),
                limit: total.unwrap_or(item.limit),
            });
        }
        file.write_all(&buffer[..n])
            .map_err(FetchError::io("write", &part.data))?;
        progress.advance(n as u64);
        if progress.stopped() {
            return Err(FetchError::Stopped);
        }
    }
    match total {
        Some(total) if have < total => {
            Err(broken(item, have, "the server closed the connection early"))
        }
        _ => Ok(()),
    }
}

fn broken(item: &Item, received: u64, reason: &str) -> FetchError {
    FetchError::Broken {
        url: shown(item.url),
        received,
        reason: reason.to_owned(),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
