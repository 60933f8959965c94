//! Products of tensor cores, `mma.m16n8k8` of TF32 and `mma.m16n8k16` of 16 bits: which lane holds which numbers is that of PTX ISA 9.7.14.5.
//! The sums are added in f64 and rounded once, as the order of a real one is not told.

use half::{bf16, f16};

use crate::ptx::Register;

/// Threads that multiply together.
pub const WARP: usize = 32;

/// The type of the factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    Tf32,
    Bf16,
    F16,
}

impl Factors {
    /// Those of an instruction.
    pub fn of(name: &str) -> Option<Factors> {
        Some(match name {
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32" => Factors::Tf32,
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" => Factors::Bf16,
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" => Factors::F16,
            _ => return None,
        })
    }

    /// The numbers of a register, in order.
    fn numbers(self, register: u64) -> Vec<f64> {
        let [low, high] = [register as u16, (register >> 16) as u16];
        match self {
            // the last 13 bits are not looked at
            Factors::Tf32 => vec![f64::from(f32::from_bits(register as u32 & !0x1fff))],
            Factors::Bf16 => [low, high].map(|x| bf16::from_bits(x).to_f64()).to_vec(),
            Factors::F16 => [low, high].map(|x| f16::from_bits(x).to_f64()).to_vec(),
        }
    }
}

/// `to = a b + c`, the registers of each lane: 16 rows, 8 columns, and 8 or 16 terms.
#[derive(Clone, Debug)]
pub struct Product {
    pub factors: Factors,
    pub to: [Register; 4],
    pub a: [Register; 4],
    pub b: [Register; 2],
    pub c: [Register; 4],
}

/// Rows of a result that a lane holds, from its own on, and columns: registers 0 to 3.
const PLACES: [(usize, usize); 4] = [(0, 0), (0, 1), (8, 0), (8, 1)];

impl Product {
    /// Computes it for the registers of a warp, `lanes[lane][register]`.
    pub fn run(&self, lanes: &mut [&mut [u64]]) {
        let mut a = [[0.0f64; 16]; 16];
        let mut b = [[0.0f64; 8]; 16];
        for (lane, registers) in lanes.iter().enumerate() {
            let (group, member) = (lane / 4, lane % 4);
            for (k, register) in self.a.iter().enumerate() {
                let numbers = self.factors.numbers(registers[*register as usize]);
                let first = if numbers.len() == 2 { 2 * member + 8 * (k / 2) } else { member + 4 * (k / 2) };
                for (j, x) in numbers.iter().enumerate() {
                    a[group + 8 * (k % 2)][first + j] = *x;
                }
            }
            for (k, register) in self.b.iter().enumerate() {
                let numbers = self.factors.numbers(registers[*register as usize]);
                let first = if numbers.len() == 2 { 2 * member + 8 * k } else { member + 4 * k };
                for (j, x) in numbers.iter().enumerate() {
                    b[first + j][group] = *x;
                }
            }
        }
        for (lane, registers) in lanes.iter_mut().enumerate() {
            let (group, member) = (lane / 4, lane % 4);
            let sums = [0, 1, 2, 3].map(|k| {
                let (row, column) = (group + PLACES[k].0, 2 * member + PLACES[k].1);
                let sum: f64 = (0..16).map(|term| a[row][term] * b[term][column]).sum();
                (sum + f64::from(f32::from_bits(registers[self.c[k] as usize] as u32))) as f32
            });
            for (register, sum) in self.to.iter().zip(sums) {
                registers[*register as usize] = u64::from(sum.to_bits());
            }
        }
    }
}
