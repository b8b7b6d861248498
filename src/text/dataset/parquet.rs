//! Rows from Parquet, as the same content in JSON lines would give them.
//!
//! Always: sizes are checked before anything is made of them (`parquet_bounds.rs`), all text together is at most
//! [`MAX_TEXT`], a compression that is not read is refused by name, and a fault of the library on a damaged file is an
//! error. Columns of types that training data does not have (times, images, …) are passed over.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};
use std::thread;

use bytes::Bytes;
use minijinja::Value;
use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical};
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, reader::RowIter};
use parquet::schema::types::{Type, TypePtr};

use super::error::DataError;
use super::json::bounded;
use super::parquet_bounds::{check_footer, check_pages};
use super::table::{At, Place, Record};
use super::value::without_nulls;

/// Most bytes of text that the rows of one file may take in memory.
const MAX_TEXT: u64 = 4 << 30;
/// Compressions that are read: those in plain Rust whose output is bounded.
const READ: &str = "none, snappy, gzip, lz4_raw";
/// Characters of a message of the library that are kept: some print whole values.
const LONGEST: usize = 300;

/// Rows of a file.
pub(super) fn rows(file: &Arc<str>, bytes: Vec<u8>) -> Result<Vec<Record>, DataError> {
    let damaged = |reason: String| DataError::Parquet {
        file: file.to_string(),
        reason: reason.chars().take(LONGEST).collect(),
    };
    check_footer(&bytes).map_err(damaged)?;
    // It keeps nothing that outlives the call.
    let read = quietly(AssertUnwindSafe(|| read(file, Bytes::from(bytes))));
    match read {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(Failure::Library(error))) => Err(damaged(error.to_string())),
        Ok(Err(Failure::Damaged(reason))) => Err(damaged(reason)),
        Ok(Err(Failure::Data(error))) => Err(error),
        Err(_) => Err(damaged("the reader gave up on its structure".into())),
    }
}

thread_local! {
    /// This thread is inside [`quietly`].
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs the library, which answers some damage by panicking: what it says then is for its authors, not for whoever has a
/// damaged file. Panics of anything else are told as ever.
fn quietly<T>(run: impl FnOnce() -> T + UnwindSafe) -> thread::Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                told(panic);
            }
        }));
    });
    QUIET.set(true);
    let ran = catch_unwind(run);
    QUIET.set(false);
    ran
}

enum Failure {
    Library(ParquetError),
    Damaged(String),
    Data(DataError),
}

impl From<ParquetError> for Failure {
    fn from(error: ParquetError) -> Self {
        Self::Library(error)
    }
}

fn read(file: &Arc<str>, bytes: Bytes) -> Result<Vec<Record>, Failure> {
    let reader = SerializedFileReader::new(bytes.clone())?;
    let metadata = reader.metadata().file_metadata();
    let schema = metadata.schema_descr().root_schema();
    let fields: Vec<TypePtr> = schema
        .get_fields()
        .iter()
        .filter(|f| plain(f))
        .cloned()
        .collect();
    if fields.is_empty() {
        return Err(Failure::Damaged(
            "no column of text, numbers, lists or structures".into(),
        ));
    }
    let names: Vec<String> = fields.iter().map(|field| field.name().to_owned()).collect();
    let counted = reader
        .metadata()
        .row_groups()
        .iter()
        .map(|group| usize::try_from(group.num_rows()).unwrap_or(usize::MAX));
    bounded(file, counted.fold(0, usize::saturating_add)).map_err(Failure::Data)?;
    check_columns(file, &reader, &bytes, &names)?;
    let wanted = Type::group_type_builder(schema.name())
        .with_fields(fields)
        .build()?;
    let mut rows = Vec::new();
    for row in RowIter::from_file(Some(wanted), &reader)? {
        let place = Place {
            file: Arc::clone(file),
            at: At::Row(rows.len() + 1),
        };
        let mut fields = Vec::with_capacity(names.len());
        for (name, field) in row?.into_columns() {
            let value = without_nulls(&value(field));
            if value.is_none() {
                continue;
            }
            if fields.iter().any(|(seen, _)| *seen == name) {
                return Err(Failure::Damaged("two columns of one name".into()));
            }
            fields.push((name, value));
        }
        rows.push(Record { place, fields });
        bounded(file, rows.len()).map_err(Failure::Data)?;
    }
    Ok(rows)
}

/// Compression, pages and amount of text of all wanted columns.
fn check_columns(
    file: &Arc<str>,
    reader: &SerializedFileReader<Bytes>,
    bytes: &Bytes,
    names: &[String],
) -> Result<(), Failure> {
    let mut text = 0u64;
    for (g, group) in reader.metadata().row_groups().iter().enumerate() {
        for (c, column) in group.columns().iter().enumerate() {
            let path = column.column_path().parts();
            if !path.first().is_some_and(|root| names.contains(root)) {
                continue;
            }
            let codec = column.compression();
            let gzip = matches!(codec, Compression::GZIP(_));
            if !gzip
                && !matches!(
                    codec,
                    Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::LZ4_RAW
                )
            {
                return Err(Failure::Data(DataError::Codec {
                    file: file.to_string(),
                    column: path.join("."),
                    codec: codec
                        .to_string()
                        .split('(')
                        .next()
                        .unwrap_or_default()
                        .to_lowercase(),
                    expected: READ,
                }));
            }
            // As the library has it: the dictionary first, if there is one.
            let first = column
                .dictionary_page_offset()
                .unwrap_or(column.data_page_offset());
            let chunk = usize::try_from(first)
                .ok()
                .zip(usize::try_from(column.compressed_size()).ok())
                .and_then(|(start, length)| bytes.get(start..start.checked_add(length)?));
            let chunk =
                chunk.ok_or_else(|| Failure::Damaged("a column lies outside the file".into()))?;
            check_pages(chunk, gzip).map_err(Failure::Damaged)?;
            if column.column_type() == Physical::BYTE_ARRAY {
                text = text.saturating_add(measure(reader, g, c, MAX_TEXT - text)?);
            }
            if text > MAX_TEXT {
                return Err(Failure::Data(DataError::TooLarge {
                    file: file.to_string(),
                    what: "bytes of text",
                    limit: MAX_TEXT,
                    found: text,
                }));
            }
        }
    }
    Ok(())
}

/// Bytes of text in a column, up to a little over `limit`. A few bytes of file can stand for any amount of text, through a
/// dictionary; here its values are only pointed at.
fn measure(
    reader: &SerializedFileReader<Bytes>,
    group: usize,
    column: usize,
    limit: u64,
) -> Result<u64, ParquetError> {
    const BATCH: usize = 1024;
    let group = reader.get_row_group(group)?;
    let ColumnReader::ByteArrayColumnReader(mut reader) = group.get_column_reader(column)? else {
        return Ok(0);
    };
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let mut total = 0;
    while total <= limit {
        let (values, definitions, repetitions) = (&mut values, &mut definitions, &mut repetitions);
        let (records, ..) =
            reader.read_records(BATCH, Some(definitions), Some(repetitions), values)?;
        total += values
            .iter()
            .map(|value: &parquet::data_type::ByteArray| value.len() as u64)
            .sum::<u64>();
        values.clear();
        definitions.clear();
        repetitions.clear();
        if records == 0 {
            break;
        }
    }
    Ok(total)
}

/// A column of types that JSON has too, in the shapes that the library reads.
fn plain(field: &Type) -> bool {
    let info = field.get_basic_info();
    if !info.has_repetition() {
        return false;
    }
    if field.is_primitive() {
        return match field.get_physical_type() {
            Physical::BOOLEAN | Physical::FLOAT | Physical::DOUBLE => true,
            Physical::INT32 | Physical::INT64 => matches!(
                info.converted_type(),
                ConvertedType::NONE
                    | ConvertedType::INT_8
                    | ConvertedType::INT_16
                    | ConvertedType::INT_32
                    | ConvertedType::INT_64
                    | ConvertedType::UINT_8
                    | ConvertedType::UINT_16
                    | ConvertedType::UINT_32
                    | ConvertedType::UINT_64
            ),
            Physical::BYTE_ARRAY => matches!(
                info.converted_type(),
                ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON
            ),
            Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY => false,
        };
    }
    let inner = field.get_fields();
    let repeated = |field: &Type| {
        let info = field.get_basic_info();
        info.has_repetition() && info.repetition() == Repetition::REPEATED
    };
    match info.converted_type() {
        ConvertedType::LIST => {
            matches!(inner, [items] if repeated(items) && (items.is_primitive() || !items.get_fields().is_empty()))
                && inner.iter().all(|field| plain(field))
        }
        ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => {
            let pairs = matches!(inner, [pairs] if repeated(pairs) && !pairs.is_primitive() && (1..=2).contains(&pairs.get_fields().len()));
            pairs && inner.iter().all(|field| plain(field))
        }
        _ => !inner.is_empty() && inner.iter().all(|field| plain(field)),
    }
}

fn value(field: Field) -> Value {
    match field {
        Field::Bool(value) => value.into(),
        Field::Byte(value) => i64::from(value).into(),
        Field::Short(value) => i64::from(value).into(),
        Field::Int(value) => i64::from(value).into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => u64::from(value).into(),
        Field::UShort(value) => u64::from(value).into(),
        Field::UInt(value) => u64::from(value).into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => f64::from(value).into(),
        Field::Double(value) => value.into(),
        Field::Str(value) => value.into(),
        Field::Group(row) => {
            let columns = row.into_columns().into_iter();
            Value::from_pairs(columns.map(|(name, field)| (name, value(field))))
        }
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(|field| value(field.clone()))
            .collect(),
        Field::MapInternal(map) => {
            let pair = |(key, inner): &(Field, Field)| (value(key.clone()), value(inner.clone()));
            Value::from_pairs(map.entries().iter().map(pair))
        }
        _ => Value::from(()),
    }
}
