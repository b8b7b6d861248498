//! Looks for NaN and infinity in a checkpoint. They are reported, not refused: an audit must be able to open what it
//! is asked to judge.

use super::{FileError, TensorSource};
use candle_core::{DType, Tensor};
use rayon::prelude::*;
use std::path::Path;

/// Names of the tensors that hold NaN or infinite values and how many, sorted by name. Integer tensors are passed over.
pub fn scan_non_finite(source: &dyn TensorSource) -> Result<Vec<(String, usize)>, FileError> {
    let counted: Vec<(String, usize)> = source
        .names()
        .into_par_iter()
        .map(|name| count(source, &name).map(|n| (name, n)))
        .collect::<Result<_, _>>()?;
    Ok(counted.into_iter().filter(|(_, n)| *n > 0).collect())
}

fn count(source: &dyn TensorSource, name: &str) -> Result<usize, FileError> {
    let stored = source.info(name).map(|info| info.dtype).unwrap_or_default();
    if stored == "BOOL" || stored.starts_with(['I', 'U']) {
        return Ok(0);
    }
    // A large f64 would become infinite on its way through f32.
    let wide = stored == "F64";
    let tensor = source.load(name, if wide { DType::F64 } else { DType::F32 })?;
    let counted = if wide {
        count_f64(&tensor)
    } else {
        count_f32(&tensor)
    };
    counted.map_err(|e| {
        FileError::tensor(
            Path::new(&source.describe()),
            name,
            "data",
            "readable values",
            e,
        )
    })
}

fn count_f32(tensor: &Tensor) -> candle_core::Result<usize> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (candle_core::Storage::Cpu(cpu), Some((start, end))) => Ok(cpu.as_slice::<f32>()?
            [start..end]
            .par_iter()
            .filter(|v| !v.is_finite())
            .count()),
        _ => candle_core::bail!("not a contiguous CPU tensor"),
    }
}

fn count_f64(tensor: &Tensor) -> candle_core::Result<usize> {
    Ok(tensor
        .flatten_all()?
        .to_vec1::<f64>()?
        .iter()
        .filter(|v| !v.is_finite())
        .count())
}
