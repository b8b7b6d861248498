//! The log against kills, foreign lines, growth and full disks.
#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::Write;

use proptest::prelude::*;

use super::*;

fn step(step: u64, loss: f64) -> Row {
    Row::new(Kind::Step, step).with("loss", number(loss))
}

#[test]
fn a_line_begins_with_what_every_row_has() {
    let mut row = step(3, 0.5).with("alert", "x");
    row.wall = 12.25;
    let line = row.line();
    assert!(
        line.starts_with(r#"{"kind":"step","step":3,"wall":12.25,"#),
        "{line}"
    );
    assert_eq!(Row::parse(&line), Some(row));
}

#[test]
fn what_json_cannot_hold_comes_back() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1, 1e-300] {
        let row = Row::parse(&step(1, value).line()).unwrap();
        let back = row.number("loss").unwrap();
        assert_eq!(back.to_bits(), value.to_bits());
    }
}

#[test]
fn a_torn_line_is_tolerated_and_cut_on_resume() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut writer = Writer::create(&path).unwrap();
    writer.append(&step(1, 1.0)).unwrap();
    writer.append(&step(2, 0.5)).unwrap();
    drop(writer);
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|&b| b == b'\n').unwrap() + 1;
    for torn in 0..=whole.len() {
        fs::write(&path, &whole[..torn]).unwrap();
        let log = read(&path).unwrap();
        let expected = usize::from(torn >= first) + usize::from(torn == whole.len());
        assert_eq!((log.rows.len(), log.foreign), (expected, 0), "{torn} bytes");
        let (mut writer, cut) = Writer::resume(&path).unwrap();
        assert_eq!(log.torn, cut > 0);
        writer.append(&step(9, 0.25)).unwrap();
        let log = read(&path).unwrap();
        assert_eq!(
            (log.rows.len(), log.foreign, log.torn),
            (expected + 1, 0, false)
        );
        assert_eq!(log.rows.last().unwrap().step, 9);
    }
}

#[test]
fn a_torn_line_longer_than_one_read_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let line = step(1, 1.0).line() + "\n";
    fs::write(&path, line.clone() + &"x".repeat(200_000)).unwrap();
    let (_, cut) = Writer::resume(&path).unwrap();
    assert_eq!(cut, 200_000);
    assert_eq!(fs::read_to_string(&path).unwrap(), line);
}

#[test]
fn a_follower_gives_each_row_once_while_the_file_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut follower = Follower::new(&path);
    assert!(follower.poll().unwrap().is_empty());
    let text = step(1, 1.0).line() + "\nnot a row\n\n" + &step(2, 2.0).line() + "\n";
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap();
    let mut steps = Vec::new();
    for byte in text.as_bytes() {
        file.write_all(&[*byte]).unwrap();
        steps.extend(follower.poll().unwrap().iter().map(|row| row.step));
    }
    assert_eq!((steps, follower.foreign()), (vec![1, 2], 1));
}

#[test]
fn a_follower_survives_the_cut_of_a_resume_and_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let line = |n| step(n, 1.0).line() + "\n";
    fs::write(&path, line(1) + &line(2)[..20]).unwrap();
    let mut follower = Follower::new(&path);
    assert_eq!(follower.poll().unwrap().len(), 1);
    assert!(follower.torn());
    let (mut writer, cut) = Writer::resume(&path).unwrap();
    assert_eq!(cut, 20);
    // Seen between the cut and the next row, or only after it: the same rows.
    assert!(follower.poll().unwrap().is_empty());
    writer.append(&step(5, 1.0)).unwrap();
    assert_eq!(follower.poll().unwrap()[0].step, 5);
    assert_eq!((follower.restarts(), follower.foreign()), (0, 0));
    fs::write(&path, line(7)).unwrap();
    assert_eq!(follower.poll().unwrap()[0].step, 7);
    assert_eq!(follower.restarts(), 1);
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    fs::write(
        &path,
        "x".repeat(5 << 20) + "\n" + &step(4, 1.0).line() + "\n",
    )
    .unwrap();
    let log = read(&path).unwrap();
    assert_eq!((log.rows.len(), log.foreign), (1, 1));
}

#[test]
fn steps_done_again_are_left_out() {
    let rows = vec![
        Row::new(Kind::Started, 0),
        step(1, 1.0),
        Row::new(Kind::Checkpoint, 1),
        step(2, 9.0),
        Row::new(Kind::Alert, 2),
        Row::new(Kind::Resumed, 1),
        step(2, 2.0),
    ];
    let kept = standing(rows);
    let shown: Vec<_> = kept.iter().map(|row| (row.kind.name(), row.step)).collect();
    let expected = [
        ("started", 0),
        ("step", 1),
        ("checkpoint", 1),
        ("resumed", 1),
        ("step", 2),
    ];
    assert_eq!(shown, expected);
    assert_eq!(kept[4].number("loss"), Some(2.0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_with_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let file = OpenOptions::new().append(true).open(&path).unwrap();
    let mut writer = Writer::of(&path, file);
    let error = writer.append(&step(1, 1.0)).unwrap_err().to_string();
    assert!(
        error.contains("metrics.jsonl") && error.contains("cannot append"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, &bytes).unwrap();
        let log = read(&path).unwrap();
        prop_assert!(log.rows.len() + log.foreign <= bytes.len());
        let (mut writer, _) = Writer::resume(&path).unwrap();
        writer.append(&step(1, 1.0)).unwrap();
        let after = read(&path).unwrap();
        prop_assert_eq!(after.rows.len(), log.rows.len() + 1);
        prop_assert!(!after.torn);
    }

    #[test]
    fn any_row_comes_back(step in any::<u64>(), wall in 0.0..1e12f64, loss in any::<f64>(), words in "\\PC*") {
        let mut row = Row::new(Kind::Sample, step).with("loss", number(loss)).with("text", words);
        row.wall = wall;
        let back = Row::parse(&row.line()).unwrap();
        prop_assert_eq!(back.line(), row.line());
    }
}
