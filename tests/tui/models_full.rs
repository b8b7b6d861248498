//! The models screen in full, through the binary: what it lists is the cache of the user, which a program of its own can be
//! given an empty one of.

use std::process::Command;

#[test]
fn the_models_screen_in_full() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("keys"),
        ":\ntype models\nenter\nwait\ndump models.txt\n",
    )
    .unwrap();
    for size in ["80x24", "120x40"] {
        let ran = Command::new(env!("CARGO_BIN_EXE_candlescope"))
            .args(["tui", "toy", "--script", "keys", "--theme", "dark"])
            .args(["--offline", "--dump", ".", "--size", size])
            .env("CANDLESCOPE_CACHE", "cache")
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        let frame = std::fs::read_to_string(dir.path().join("models.txt")).unwrap();
        insta::assert_snapshot!(format!("models_{size}_full"), frame);
    }
}
