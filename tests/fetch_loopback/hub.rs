//! The hub's side: layout, resuming, refusals. Each server plays `toy/model`, a checkpoint in two shards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candlescope::model::fetch::{
    Cache, FetchError, Fetched, Silent, fetch_with, locate_with, resolve_with,
};

use crate::server::{Reply, Request, Server, sha256};
use crate::{Notes, cache, files, noise, nowhere, sources};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const BIG: &str = "model-00002-of-00002.safetensors";

type Files = BTreeMap<&'static str, Vec<u8>>;

fn toy() -> Files {
    BTreeMap::from([
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", noise(5_000)),
        (
            "model.safetensors.index.json",
            b"{\"weight_map\":{}}".to_vec(),
        ),
        ("model-00001-of-00002.safetensors", noise(70_000)),
        (BIG, noise(300_000)),
        ("pytorch_model.bin", b"a pickle".to_vec()),
    ])
}

/// The list as the hub gives it: digest and length for large files, length alone for small ones.
fn listing(files: &Files, extra: &str) -> Reply {
    let rows: Vec<String> = files
        .iter()
        .map(|(name, data)| {
            let lfs = if name.ends_with(".safetensors") {
                format!(
                    r#","lfs":{{"sha256":"{}","size":{}}}"#,
                    sha256(data),
                    data.len()
                )
            } else {
                String::new()
            };
            format!(r#"{{"rfilename":"{name}","size":{}{lfs}}}"#, data.len())
        })
        .collect();
    let text = format!(
        r#"{{"id":"toy/model","sha":"{COMMIT}","cardData":{{"license":"mit"}},"siblings":[{}{extra}]}}"#,
        rows.join(",")
    );
    Reply::text("application/json", text)
}

fn find<'a>(files: &'a Files, request: &Request) -> Option<&'a Vec<u8>> {
    let name = request
        .path
        .strip_prefix(&format!("/toy/model/resolve/{COMMIT}/"))?;
    files.get(name)
}

/// A hub where `odd` may answer instead.
fn hub(odd: impl Fn(usize, &Request, &Files) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let files = toy();
    Server::start(move |number, request| {
        if let Some(reply) = odd(number, request, &files) {
            return reply;
        }
        if request
            .path
            .starts_with("/api/models/toy/model/revision/main?")
        {
            return listing(&files, "");
        }
        match find(&files, request) {
            Some(data) => Reply::file(request, data, "\"v1\""),
            None => Reply::status(404),
        }
    })
}

/// Fetches `toy/model` from this hub alone.
fn fetch(hub: &Server, cache: &Cache) -> Result<Fetched, FetchError> {
    let sources = sources(&hub.url, &nowhere());
    fetch_with("toy/model", cache, &sources, &Silent)
}

/// The large file lies whole in the folder.
fn assert_big(folder: &Path) {
    assert_eq!(std::fs::read(folder.join(BIG)).unwrap(), noise(300_000));
}

/// A hub that answers a request for the large file in its own way.
fn hub_with_big(
    answer: impl Fn(&Request, &Files) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    hub(move |_, request, files| {
        let big = request.path.ends_with(BIG);
        big.then(|| answer(request, files)).flatten()
    })
}

#[test]
fn a_sharded_repository_arrives_whole_without_its_pickles() {
    let server = hub(|_, _, _| None);
    let (_dir, cache) = cache();
    let sources = sources(&server.url, &nowhere());
    let fetched = fetch_with("toy/model", &cache, &sources, &Silent).unwrap();
    assert_eq!(fetched.path, cache.models().join("toy--model").join("main"));
    assert_eq!(
        files(&cache.models()),
        [
            "toy--model/main/config.json",
            "toy--model/main/model-00001-of-00002.safetensors",
            "toy--model/main/model-00002-of-00002.safetensors",
            "toy--model/main/model.safetensors.index.json",
            "toy--model/main/source.json",
            "toy--model/main/tokenizer.json",
        ]
    );
    for (name, data) in toy().iter().filter(|(name, _)| !name.ends_with(".bin")) {
        assert_eq!(
            &std::fs::read(fetched.path.join(name)).unwrap(),
            data,
            "{name}"
        );
    }
    assert!(server.asked(".bin").is_empty());
    assert_eq!(fetched.source, format!("hub:toy/model@{COMMIT}"));

    let listed = cache.list();
    assert_eq!(
        (listed.len(), listed[0].name.as_str(), listed[0].bytes),
        (1, "toy/model", fetched.bytes)
    );
    let before = server.asked("").len();
    assert_eq!(
        fetch_with("toy/model", &cache, &sources, &Silent).unwrap(),
        fetched
    );
    assert_eq!(
        server.asked("").len(),
        before,
        "what is in the cache needs no request"
    );
}

#[test]
fn a_cut_connection_goes_on_where_it_stopped() {
    let server = hub_with_big(|request, files| {
        let first = request.header("range").is_none();
        first.then(|| Reply::file(request, &files[BIG], "\"v1\"").cut(200_000))
    });
    let (_dir, cache) = cache();
    let fetched = fetch(&server, &cache).unwrap();
    assert_big(&fetched.path);
    let asked = server.asked(BIG);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].header("range"), Some("bytes=200000-"));
    assert_eq!(asked[1].header("if-range"), Some("\"v1\""));
}

#[test]
fn an_interrupted_fetch_goes_on_in_the_next_run() {
    let (_dir, cache) = cache();
    let broken =
        hub_with_big(|request, files| Some(Reply::file(request, &files[BIG], "\"v1\"").cut(1_000)));
    let mut impatient = sources(&broken.url, &nowhere());
    impatient.patience.retries = 0;
    let error = fetch_with("toy/model", &cache, &impatient, &Silent).unwrap_err();
    assert!(
        matches!(
            error,
            FetchError::Broken {
                received: 1_000,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        cache.list().is_empty()
            && locate_with("toy/model", &cache, &impatient)
                .unwrap()
                .is_none()
    );

    let healthy = hub(|_, _, _| None);
    let fetched = fetch(&healthy, &cache).unwrap();
    assert_eq!(healthy.asked(BIG)[0].header("range"), Some("bytes=1000-"));
    assert!(
        healthy.asked("00001-of").is_empty(),
        "finished files are not fetched again"
    );
    assert_big(&fetched.path);
}

#[test]
fn servers_without_ranges_or_with_a_new_version_start_over() {
    let (_d1, without) = cache();
    let plain = hub(|number, request, files| {
        let reply = Reply::text("application/octet-stream", find(files, request)?.clone());
        Some(if request.path.ends_with(BIG) && number < 7 {
            reply.cut(150_000)
        } else {
            reply
        })
    });
    let fetched = fetch(&plain, &without).unwrap();
    assert_big(&fetched.path);
    assert!(plain.asked(BIG).len() > 1, "the cut must have happened");

    // The tokenizer has no digest in the list, so only the tag tells that the beginning is of another version.
    let (_d2, changed) = cache();
    let server = hub(|_, request, files| {
        let name = "tokenizer.json";
        if !request.path.ends_with(name) {
            return None;
        }
        Some(match request.header("range") {
            None => Reply::file(request, &vec![7; 5_000], "\"v0\"").cut(2_500),
            Some(_) => Reply::file(request, &files[name], "\"v1\""),
        })
    });
    let fetched = fetch(&server, &changed).unwrap();
    assert_eq!(
        std::fs::read(fetched.path.join("tokenizer.json")).unwrap(),
        noise(5_000)
    );
    assert_eq!(server.asked("tokenizer.json").len(), 2);
}

#[test]
fn wrong_bytes_are_deleted_and_both_digests_named() {
    let server = hub_with_big(|request, files| {
        let mut data = files[BIG].clone();
        data[123_456] ^= 1;
        Some(Reply::file(request, &data, "\"v1\""))
    });
    let (_dir, cache) = cache();
    let error = fetch(&server, &cache).unwrap_err();
    let FetchError::Checksum {
        file,
        expected,
        found,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!((file.as_str(), expected), (BIG, sha256(&noise(300_000))));
    assert_ne!(found, sha256(&noise(300_000)));
    assert!(
        files(cache.root())
            .iter()
            .all(|name| !name.contains("model-00002")),
        "{:?}",
        files(cache.root())
    );
}

#[test]
fn a_list_with_a_name_that_climbs_out_is_refused_whole() {
    for bad in [
        "../../escaped.safetensors",
        "/tmp/escaped.json",
        "a/../../x.json",
        r"..\\x.json",
    ] {
        let extra = format!(r#",{{"rfilename":"{bad}","size":1}}"#);
        let server = Server::start(move |_, request| {
            if request.path.starts_with("/api/") {
                listing(&toy(), &extra)
            } else {
                Reply::status(200)
            }
        });
        let (dir, cache) = cache();
        let refused = fetch(&server, &cache);
        assert!(
            matches!(refused, Err(FetchError::UnsafeName { .. })),
            "{bad}: {refused:?}"
        );
        assert!(server.asked("resolve").is_empty());
        assert!(files(dir.path()).iter().all(|name| name.ends_with(".lock")));
    }
}

#[test]
fn missing_gated_unreadable_and_huge_repositories_say_so() {
    let of = |reply: Reply| {
        let server = Server::start(move |_, _| reply.clone());
        let (_dir, cache) = cache();
        fetch(&server, &cache).unwrap_err()
    };
    let missing = of(Reply::status(404)).to_string();
    assert!(
        missing.contains("404") && missing.contains("spelling"),
        "{missing}"
    );
    let gated = of(Reply::status(403)).to_string();
    assert!(gated.contains("HF_TOKEN"), "{gated}");
    assert!(matches!(
        of(Reply::status(503)),
        FetchError::Status { status: 503, .. }
    ));
    for text in [
        "<html>",
        "{}",
        r#"{"sha":"../..","siblings":[]}"#,
        r#"{"sha":7}"#,
    ] {
        let error = of(Reply::text("application/json", text));
        assert!(
            matches!(error, FetchError::Malformed { .. }),
            "{text}: {error:?}"
        );
    }
    let pickles = BTreeMap::from([("config.json", vec![]), ("pytorch_model.bin", vec![0])]);
    let error = of(listing(&pickles, "")).to_string();
    assert!(
        error.contains("no safetensors") && error.contains("pytorch_model.bin"),
        "{error}"
    );
    let huge = r#",{"rfilename":"model-9.safetensors","lfs":{"size":1152921504606846976}}"#;
    let error = of(listing(&toy(), huge));
    assert!(
        matches!(error, FetchError::DiskFull { .. }) || cfg!(not(unix)),
        "{error:?}"
    );
}

#[test]
fn a_file_of_another_length_than_listed_is_not_read() {
    for len in [299_999, 300_001] {
        let server = hub_with_big(move |_, _| Some(Reply::text("x/y", noise(len))));
        let (_dir, cache) = cache();
        let error = fetch(&server, &cache).unwrap_err();
        assert!(
            matches!(
                error,
                FetchError::Length {
                    expected: 300_000,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn redirects_are_bounded_and_never_leave_the_machine_unencrypted() {
    let circle = Server::start(|number, _| Reply::redirect(format!("/again{number}")));
    let (_dir, cache) = cache();
    let error = fetch(&circle, &cache).unwrap_err();
    assert!(matches!(error, FetchError::Redirects { .. }), "{error:?}");
    assert!(circle.asked("").len() < 20);

    let outward = Server::start(|_, _| Reply::redirect("http://plain.example/list"));
    let error = fetch(&outward, &cache).unwrap_err();
    assert!(matches!(error, FetchError::Insecure { .. }), "{error:?}");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let files = toy();
    let store = Arc::new(Server::start(move |_, request| {
        find(&files, request).map_or(Reply::status(404), |data| {
            Reply::file(request, data, "\"v1\"")
        })
    }));
    let to = store.url.clone();
    let server = hub(move |_, request, _| {
        request
            .path
            .contains("/resolve/")
            .then(|| Reply::redirect(format!("{to}{}", request.path)))
    });
    let (_dir, cache) = cache();
    let mut sources = sources(&server.url, &nowhere());
    sources.token = Some("hf_secret".to_owned());
    fetch_with("toy/model", &cache, &sources, &Silent).unwrap();
    assert!(
        server
            .asked("")
            .iter()
            .all(|r| r.header("authorization") == Some("Bearer hf_secret"))
    );
    assert_eq!(store.asked("").len(), 5);
    assert!(
        store
            .asked("")
            .iter()
            .all(|r| r.header("authorization").is_none())
    );
}

#[test]
fn two_at_once_fetch_once() {
    let server = hub(|_, request, files| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        find(files, request).map(|data| Reply::file(request, data, "\"v1\""))
    });
    let (_dir, cache) = cache();
    let (sources, notes) = (sources(&server.url, &nowhere()), Notes::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| fetch_with("toy/model", &cache, &sources, &notes).unwrap());
        }
    });
    assert_eq!(server.asked(BIG).len(), 1);
    assert!(
        notes.text().contains("another process is fetching"),
        "{}",
        notes.text()
    );
}

#[test]
fn without_network_the_cache_serves_and_its_lack_is_named() {
    let server = hub(|_, _, _| None);
    let (_dir, cache) = cache();
    let mut sources = sources(&server.url, &nowhere());
    let error = resolve_with("toy/model", &cache, &sources, false, &Silent).unwrap_err();
    assert!(matches!(error, FetchError::NotCached { .. }), "{error:?}");
    sources.offline = true;
    let error = resolve_with("toy/model", &cache, &sources, true, &Silent).unwrap_err();
    assert!(matches!(error, FetchError::Offline { .. }), "{error:?}");
    assert!(server.asked("").is_empty());

    sources.offline = false;
    let path = resolve_with("toy/model", &cache, &sources, true, &Silent).unwrap();
    sources.offline = true;
    assert_eq!(
        resolve_with("toy/model", &cache, &sources, false, &Silent).unwrap(),
        path
    );

    // A damaged model does not count as being there.
    std::fs::write(path.join(BIG), b"short").unwrap();
    assert!(
        locate_with("toy/model", &cache, &sources)
            .unwrap()
            .is_none()
    );
    sources.offline = false;
    assert_eq!(
        resolve_with("toy/model", &cache, &sources, true, &Silent).unwrap(),
        path
    );
    assert_big(&path);

    let missing = resolve_with("./no-such.gguf", &cache, &sources, true, &Silent).unwrap_err();
    assert!(
        matches!(missing, FetchError::PathMissing { .. }),
        "{missing:?}"
    );
}
