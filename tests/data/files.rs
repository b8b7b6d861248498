//! Parquet holds the same rows as JSON, and damaged files of either kind are errors.

use std::sync::Arc;

use candlescope::text::dataset::columns::rows;
use candlescope::text::dataset::{Body, Columns, DataError, Dataset, table};
use parquet::basic::{Compression, GzipLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use serde_json::json;

use crate::fixture;

fn parse(bytes: &[u8]) -> Result<Dataset, DataError> {
    rows(
        &table::from_bytes("f", bytes.to_vec())?,
        &Columns::default(),
        None,
    )
}

fn bodies(data: &Dataset) -> Vec<Body> {
    data.rows.iter().map(|row| row.body.clone()).collect()
}

type Written = (String, Option<String>, bool, f64);

/// Rows of `prompt`, `completion`, `label`, `margin` in Parquet, `completion` absent where it is `None`.
fn parquet_of(rows: &[Written], codec: Compression) -> Vec<u8> {
    let schema = "message rows { required binary prompt (UTF8); optional binary completion (UTF8); \
                  required boolean label; required double margin; optional int96 when; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    // Two row groups, unless there is one row.
    for part in rows.chunks(rows.len().div_ceil(2)) {
        let mut group = writer.next_row_group().unwrap();
        let strings = |text: &String| ByteArray::from(text.as_str());
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<_> = part.iter().map(|row| strings(&row.0)).collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<_> = part
            .iter()
            .filter_map(|row| row.1.as_ref().map(strings))
            .collect();
        let there: Vec<i16> = part.iter().map(|row| i16::from(row.1.is_some())).collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&there), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<_> = part.iter().map(|row| row.2).collect();
        column
            .typed::<BoolType>()
            .write_batch(&values, None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<_> = part.iter().map(|row| row.3).collect();
        column
            .typed::<DoubleType>()
            .write_batch(&values, None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let absent = vec![0i16; part.len()];
        column
            .typed::<parquet::data_type::Int96Type>()
            .write_batch(&[], Some(&absent), None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

fn json_of(rows: &[Written]) -> String {
    let line = |(prompt, completion, label, margin): &Written| {
        json!({"prompt": prompt, "completion": completion, "label": label, "margin": margin})
            .to_string()
            + "\n"
    };
    rows.iter().map(line).collect()
}

fn codecs() -> [Compression; 4] {
    [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4_RAW,
    ]
}

/// `hub.parquet` was written by pyarrow, with all keys in all messages, as the hub has it.
#[test]
fn a_file_of_the_hub_reads_as_its_json_lines() {
    let hub = parse(&std::fs::read(fixture("hub.parquet")).unwrap()).unwrap();
    let lines = parse(&std::fs::read(fixture("messages.jsonl")).unwrap()).unwrap();
    assert_eq!(bodies(&hub), bodies(&lines));
    assert_eq!(
        (hub.kind, hub.unread.as_slice()),
        (lines.kind, &["id".to_owned()][..])
    );
    assert_eq!(hub.rows[11].place.to_string(), "f row 12");
}

#[test]
fn a_compression_that_is_not_read_is_named() {
    let error = parse(&std::fs::read(fixture("zstd.parquet")).unwrap())
        .unwrap_err()
        .to_string();
    for word in [
        "column `text`",
        "compressed with zstd",
        "snappy, gzip",
        "JSON lines",
    ] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_missing_value_is_a_missing_column() {
    let row = |completion: Option<&str>| ("a".to_owned(), completion.map(str::to_owned), true, 0.5);
    for bytes in [
        parquet_of(&[row(Some("b")), row(None)], Compression::SNAPPY),
        json_of(&[row(Some("b")), row(None)]).into_bytes(),
    ] {
        let error = parse(&bytes).unwrap_err();
        assert!(
            matches!(&error, DataError::MissingColumn { column, .. } if column == "completion"),
            "{error}"
        );
    }
}

#[test]
fn files_that_are_none_are_errors() {
    for bytes in [
        &b"PAR1"[..],
        b"PAR1PAR1",
        b"PAR1\0\0\0\0PAR1",
        b"\xff\xfe{}",
        b"{",
        b"[",
        b"\"a\"",
        b"3",
        b"\0\0\0",
    ] {
        assert!(parse(bytes).is_err(), "{bytes:?}");
    }
    // As deep as it may be, and deeper.
    let deep = format!(
        "{{\"text\": {}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(matches!(
        parse(deep.as_bytes()),
        Err(DataError::Malformed { .. })
    ));
    assert!(
        table::read("no/such/file".as_ref())
            .unwrap_err()
            .to_string()
            .contains("no/such/file")
    );
}

fn written() -> impl Strategy<Value = Vec<Written>> {
    let row = ("\\PC{0,30}", "\\PC{0,30}", any::<bool>(), -100.0..100.0f64);
    let row = row
        .prop_map(|(prompt, completion, label, margin)| (prompt, Some(completion), label, margin));
    prop::collection::vec(row, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parquet_holds_the_same_rows_as_json(rows in written(), codec in 0usize..4) {
        let parquet = parse(&parquet_of(&rows, codecs()[codec])).unwrap();
        let lines = parse(json_of(&rows).as_bytes()).unwrap();
        let objects: Vec<serde_json::Value> = json_of(&rows).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let array = parse(serde_json::to_string_pretty(&objects).unwrap().as_bytes()).unwrap();
        prop_assert_eq!(bodies(&parquet), bodies(&lines));
        prop_assert_eq!(bodies(&array), bodies(&lines));
        prop_assert_eq!(&parquet.unread, &lines.unread);
    }

    /// Cut anywhere, with any bytes changed anywhere: rows or an error, whatever the bytes say of themselves.
    #[test]
    fn a_damaged_file_is_an_error(
        which in 0usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let rows: Vec<Written> = (0..9).map(|i| (format!("prompt {i}"), Some("answer".repeat(i)), i % 2 == 0, 0.5)).collect();
        let mut bytes = match which {
            0 => std::fs::read(fixture("hub.parquet")).unwrap(),
            1 => std::fs::read(fixture("messages.jsonl")).unwrap(),
            which => parquet_of(&rows, codecs()[which - 2]),
        };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = parse(&bytes);
    }

    #[test]
    fn any_bytes_are_rows_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), parquet in any::<bool>()) {
        let bytes = if parquet { [b"PAR1", bytes.as_slice(), b"PAR1"].concat() } else { bytes };
        let _ = parse(&bytes);
    }

    #[test]
    fn any_json_is_rows_or_an_error(text in "(\\[|\\{)(\"(text|messages|prompt|role|content|label)\"|:|,|\\[|\\]|\\{|\\}|null|true|1e400|-0|\"\\\\ud800\"|\"a\"| |\n){0,40}") {
        let _ = parse(text.as_bytes());
    }
}
