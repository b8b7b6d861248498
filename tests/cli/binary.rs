//! The binary, run and judged: what every test of the command line starts from.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The path of a file of `tests/fixtures`.
pub fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    path.to_str().unwrap().to_owned()
}

/// A model of 3 layers, 48 channels, 160 tokens and a context of 256, with words and a template.
pub fn llama() -> String {
    fixture("gguf/llama/model.gguf")
}

/// The binary with these arguments, without network, in a terminal 120 wide.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_candlescope"));
    command
        .args(args)
        .stdin(Stdio::null())
        .env("CANDLESCOPE_OFFLINE", "1")
        .env(
            "CANDLESCOPE_CACHE",
            std::env::temp_dir().join("candlescope-no-cache-here"),
        )
        .env_remove("CANDLESCOPE_SOURCE")
        .env("COLUMNS", "120");
    command
}

/// Runs to the end.
pub fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs to success and gives stdout.
pub fn ok(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs to success and gives the object, whose schema must be `schema`.
pub fn json(args: &[&str], schema: &str) -> Value {
    let value: Value = serde_json::from_str(&ok(&[args, &["--json"]].concat())).unwrap();
    assert_eq!(value["schema"], schema);
    value
}

/// Runs to one clear error with exit code 2 that says all of `words`; nothing on stdout, no panic, one screen.
pub fn refused(args: &[&str], words: &[&str]) {
    let output = run(args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(stderr.contains("error: "), "{stderr}");
    assert!(stderr.lines().count() <= 24, "{stderr}");
    assert_eq!(text(&output.stdout), "", "{args:?}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no `{word}` in: {stderr}");
    }
}
