//! Named tensors on disk: safetensors in, safetensors out. Numbers are held as f64 or i64 and narrowed where they are used.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype as FileDtype, SafeTensors, TensorView};

use crate::driver::failure::Failure;

/// The numbers of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    Real(Vec<f64>),
    Index(Vec<i64>),
}

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub numbers: Numbers,
}

impl Tensor {
    /// A tensor of real numbers.
    pub fn real(shape: Vec<usize>, numbers: Vec<f64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), numbers.len());
        Tensor { shape, numbers: Numbers::Real(numbers) }
    }

    /// The numbers as reals; whole numbers are converted.
    pub fn reals(&self) -> Vec<f64> {
        match &self.numbers {
            Numbers::Real(x) => x.clone(),
            Numbers::Index(x) => x.iter().map(|i| *i as f64).collect(),
        }
    }

    /// The numbers as indices, where they are whole numbers.
    pub fn indices(&self) -> Option<&[i64]> {
        match &self.numbers {
            Numbers::Real(_) => None,
            Numbers::Index(x) => Some(x),
        }
    }
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Reads a file of tensors. Fails with the name of the file or of the tensor that cannot be read.
pub fn read(path: &Path) -> Result<Tensors, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::io("read", path, &e))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| Failure::call(format!("{} is not a safetensors file: {e}", path.display())))?;
    let mut res = Tensors::new();
    for (name, view) in file.tensors() {
        let tensor = decode(&view).ok_or_else(|| {
            Failure::call(format!(
                "{}: tensor `{name}` has dtype {:?}; expected F32, F64, I32, I64, U8 or BOOL",
                path.display(),
                view.dtype()
            ))
        })?;
        res.insert(name, tensor);
    }
    Ok(res)
}

fn decode(view: &TensorView) -> Option<Tensor> {
    let data = view.data();
    let numbers = match view.dtype() {
        FileDtype::F32 => Numbers::Real(data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()),
        FileDtype::F64 => Numbers::Real(data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()),
        FileDtype::I32 => {
            Numbers::Index(data.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect())
        }
        FileDtype::I64 => Numbers::Index(data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        FileDtype::U8 | FileDtype::BOOL => Numbers::Index(data.iter().map(|b| i64::from(*b)).collect()),
        _ => return None,
    };
    Some(Tensor { shape: view.shape().to_vec(), numbers })
}

/// Writes tensors; reals as f32 or f64 by `single`, indices as i64.
pub fn write(path: &Path, tensors: &Tensors, single: Precision) -> Result<(), Failure> {
    let encoded: Vec<(&String, FileDtype, &Tensor, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let (dtype, bytes) = encode(&tensor.numbers, single);
            (name, dtype, tensor, bytes)
        })
        .collect();
    let views = encoded.iter().map(|(name, dtype, tensor, bytes)| {
        let view = TensorView::new(*dtype, tensor.shape.clone(), bytes).expect("as many bytes as the shape says");
        ((*name).clone(), view)
    });
    let bytes = safetensors::serialize(views, None).map_err(|e| Failure::bug(format!("writing tensors: {e}")))?;
    std::fs::write(path, bytes).map_err(|e| Failure::io("write", path, &e))
}

/// How reals are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Single,
    Double,
}

fn encode(numbers: &Numbers, precision: Precision) -> (FileDtype, Vec<u8>) {
    match (numbers, precision) {
        (Numbers::Real(x), Precision::Single) => {
            (FileDtype::F32, x.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect())
        }
        (Numbers::Real(x), Precision::Double) => (FileDtype::F64, x.iter().flat_map(|v| v.to_le_bytes()).collect()),
        (Numbers::Index(x), Precision::Single | Precision::Double) => {
            (FileDtype::I64, x.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
    }
}
