//! Axes that an index was cut over are walked as one.

use super::*;
use gdlc::kernel::address::walks;
use gdlc::kernel::build::Builder;
use gdlc::kernel::ir::{Access, Binary, Buffer};

/// Of an array of these dimensions, how many axes are walked at a place that was cut by these lengths, and by which index where it is one.
fn walked(dims: &[usize], cut: &[usize]) -> (usize, bool) {
    let mut program = Program::new("walk", Dtype::F32, SizeTable::default());
    let shape: Vec<Size> = dims.iter().map(|d| Size::fixed(*d)).collect();
    let memory = Memory::Workspace;
    let buffer = program.buffers.push(Buffer { name: "x".into(), dtype: Dtype::F32, shape, memory });
    let mut b = Builder::default();
    let var = b.var();
    let place = b.read(var);
    let cut: Vec<Size> = cut.iter().map(|d| Size::fixed(*d)).collect();
    let index = b.unflatten(place, &cut);
    let access = Access { buffer, index };
    let kernel = b.finish("walk", Stage::Call, vec![]);
    let walks = walks(&program, &kernel, &access, 0);
    assert_eq!(walks.iter().map(|walk| walk.dims.len()).sum::<usize>(), dims.len());
    (walks.len(), walks[0].index == place)
}

#[test]
fn an_index_that_was_cut_is_whole_again() {
    assert_eq!(walked(&[8, 32], &[8, 32]), (1, true));
    assert_eq!(walked(&[5, 8, 32], &[5, 8, 32]), (1, true));
    assert_eq!(walked(&[7], &[7]), (1, true));
}

#[test]
fn other_lengths_are_walked_apart() {
    assert_eq!(walked(&[8, 33], &[8, 32]), (2, false));
    // the outer two are walked as one, at i / 32
    assert_eq!(walked(&[5, 8, 33], &[5, 8, 32]), (2, false));
    assert_eq!(walked(&[5, 9, 32], &[5, 8, 32]), (3, false));
}

#[test]
fn a_quotient_of_another_index_stays() {
    let mut program = Program::new("walk", Dtype::F32, SizeTable::default());
    let shape = vec![Size::fixed(8), Size::fixed(32)];
    let buffer = program.buffers.push(Buffer { name: "x".into(), dtype: Dtype::F32, shape, memory: Memory::Workspace });
    let mut b = Builder::default();
    let [i, j] = [(); 2].map(|()| b.var()).map(|var| b.read(var));
    let d = b.int(32);
    let index = vec![b.binary(Binary::Div, i, d), b.binary(Binary::Mod, j, d)];
    let kernel = b.finish("walk", Stage::Call, vec![]);
    assert_eq!(walks(&program, &kernel, &Access { buffer, index }, 0).len(), 2);
}
