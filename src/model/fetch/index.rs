//! The simple package index, JSON (PEP 691) or HTML (PEP 503): which files a package has. Foreign text: bounded,
//! never trusted, addresses resolved against the page's own. Next: `pypi.rs` takes the wheels.

use std::path::Path;

use serde::Deserialize;
use url::Url;

use super::error::FetchError;
use super::http::{Web, shown};

/// A page of the index is at most this long; the largest on the public index is about 30 MB.
const PAGE_LIMIT: u64 = 64 << 20;
/// What we can read, best first.
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// One file of a package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IndexFile {
    pub name: String,
    pub url: String,
    pub sha256: Option<String>,
    pub bytes: Option<u64>,
}

/// The wheel of a release.
pub(super) fn wheel(
    web: &Web,
    index: &str,
    package: &str,
    version: &str,
) -> Result<IndexFile, FetchError> {
    let address = format!("{}/{package}/", index.trim_end_matches('/'));
    let (page, kind, text) = web.text(&address, &[("accept", ACCEPT)], None, PAGE_LIMIT)?;
    let mut files = parse(&page, &kind, &text)?;
    let start = format!("{}-{version}-", package.replace(['-', '.'], "_"));
    match files.iter().position(|file| is_wheel(&file.name, &start)) {
        Some(at) => Ok(files.swap_remove(at)),
        None => Err(FetchError::NoRelease {
            package: package.to_owned(),
            version: version.to_owned(),
            found: files.into_iter().map(|file| file.name).collect(),
        }),
    }
}

fn is_wheel(name: &str, start: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with(start) && Path::new(&name).extension().is_some_and(|end| end == "whl")
}

/// The files a page lists. Some mirrors answer HTML whatever one asks for, so the answer's own type counts.
fn parse(page: &Url, kind: &str, text: &str) -> Result<Vec<IndexFile>, FetchError> {
    let malformed = |reason: String| FetchError::Malformed {
        url: shown(page.as_str()),
        reason,
    };
    if kind.contains("json") {
        json(page, text).map_err(malformed)
    } else if kind.contains("html") || text.trim_start().starts_with('<') {
        let files = html(page, text);
        if files.is_empty() {
            return Err(malformed("the page links to no file".to_owned()));
        }
        Ok(files)
    } else {
        Err(malformed(format!("it is `{kind}`, neither JSON nor HTML")))
    }
}

#[derive(Deserialize)]
struct Page {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    size: Option<u64>,
}

fn json(page: &Url, text: &str) -> Result<Vec<IndexFile>, String> {
    let parsed: Page = serde_json::from_str(text).map_err(|e| e.to_string())?;
    parsed
        .files
        .into_iter()
        .map(|mut entry| {
            let url = page
                .join(&entry.url)
                .map_err(|e| format!("address of {}: {e}", entry.filename))?;
            Ok(IndexFile {
                name: entry.filename,
                url: url.into(),
                sha256: entry
                    .hashes
                    .remove("sha256")
                    .filter(|digest| is_digest(digest)),
                bytes: entry.size,
            })
        })
        .collect()
}

/// Every `<a href=...>` that leads to a file. Addresses that cannot be parsed are left out: one broken link in a long
/// page should not hide the others, and a missing release is reported by name.
fn html(page: &Url, text: &str) -> Vec<IndexFile> {
    let mut files = Vec::new();
    for tag in text.split('<').filter(|tag| {
        tag.get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("a "))
    }) {
        let Some(mut url) = attribute(tag, "href").and_then(|href| page.join(&unescape(href)).ok())
        else {
            continue;
        };
        let sha256 = url
            .fragment()
            .and_then(|fragment| {
                fragment
                    .split('&')
                    .find_map(|part| part.strip_prefix("sha256="))
            })
            .filter(|digest| is_digest(digest))
            .map(str::to_owned);
        url.set_fragment(None);
        let Some(name) = url
            .path_segments()
            .and_then(|mut parts| parts.next_back())
            .map(str::to_owned)
        else {
            continue;
        };
        if !name.is_empty() {
            files.push(IndexFile {
                name,
                url: url.into(),
                sha256,
                bytes: None,
            });
        }
    }
    files
}

/// The value of an attribute in the inside of a tag, quoted with either mark.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    loop {
        let (before, after) = rest.split_once('=')?;
        let value = after.trim_start();
        let mark = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, after) = value[1..].split_once(mark)?;
        let key = before
            .trim_end()
            .rsplit(char::is_whitespace)
            .next()
            .unwrap_or_default();
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// The entities that may stand in an address.
fn unescape(text: &str) -> String {
    text.replace("&#38;", "&")
        .replace("&#x27;", "'")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The example of PEP 503's page form, with an attribute whose value holds a `>` escaped, as pypi.org writes it.
    #[test]
    fn html_gives_names_digests_and_absolute_addresses() {
        let page = Url::parse("https://index.test/simple/a-b/").unwrap();
        let digest = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70";
        let text = format!(
            "<!DOCTYPE html><html><body><abbr title='x'>no</abbr>\n\
             <a href=\"../../files/a_b-1.0-py3-none-any.whl#sha256={digest}\" data-requires-python=\"&gt;=3.9\">w</a>\
             <A data-x='1' HREF='https://files.test/a_b-1.0.tar.gz?x=1&amp;y=2'>t</A><a name=\"top\">t</a></body></html>"
        );
        let files = parse(&page, "text/html; charset=utf-8", &text).unwrap();
        assert_eq!(
            files,
            [
                IndexFile {
                    name: "a_b-1.0-py3-none-any.whl".into(),
                    url: "https://index.test/files/a_b-1.0-py3-none-any.whl".into(),
                    sha256: Some(digest.into()),
                    bytes: None
                },
                IndexFile {
                    name: "a_b-1.0.tar.gz".into(),
                    url: "https://files.test/a_b-1.0.tar.gz?x=1&y=2".into(),
                    sha256: None,
                    bytes: None
                },
            ]
        );
    }

    #[test]
    fn nonsense_is_malformed_and_never_a_panic() {
        let page = Url::parse("https://index.test/simple/x/").unwrap();
        for (kind, text) in [
            ("application/json", "{\"files\": 3}"),
            ("application/json", "{\"files\": [{\"filename\": \"a\"}]}"),
            ("application/json", ""),
            ("text/html", "<html>proxy login</html>"),
            ("text/html", "<a href=<a href=\"<a  ='é' <a é"),
            ("image/png", "PNG"),
        ] {
            assert!(
                matches!(parse(&page, kind, text), Err(FetchError::Malformed { .. })),
                "{text}"
            );
        }
    }
}
