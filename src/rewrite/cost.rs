//! Time on the target: what extraction makes least.
//!
//! A node is a kernel, a class a stored tensor: the larger of `flops / rate` and `bytes / bandwidth`, and a launch. Work that needs no
//! data is done once an instance or once a weight update, and counts little; addressing is inlined into its readers.

use crate::tensor::cost::{Operand, Read, Shape, Work, work_of};
use crate::tensor::graph::Needs;
use crate::tensor::op::{Node, Op, Slot};

/// What a machine does in a second, on one core in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Operations a second of the dense matrix product.
    pub dense: f64,
    /// Operations a second of other nests of loops.
    pub loops: f64,
    /// Bytes a second between memory and core.
    pub bandwidth: f64,
    /// Seconds to start a kernel.
    pub launch: f64,
}

impl Default for Target {
    fn default() -> Self {
        Target { dense: 2e11, loops: 1e10, bandwidth: 1e10, launch: 2e-7 }
    }
}

/// The share of the time of work that is done at compile time, at `prepare`, at `bind` and at a call.
fn weight_of(needs: Needs) -> f64 {
    match (needs.data, needs.tables, needs.weights) {
        (true, _, _) => 1.0,
        (false, true, _) => 1e-2,
        (false, false, true) => 1e-3,
        (false, false, false) => 1e-4,
    }
}

/// The seconds that a node costs a call. `needs` are those of its class.
pub fn seconds(target: &Target, node: &Node, operands: &[Operand], needs: Needs) -> f64 {
    let reads: Vec<Read> = operands.iter().zip(node.reads.iter().map(Vec::as_slice)).collect();
    seconds_of(target, &node.op, &reads, &node.out, needs)
}

/// The seconds that `op` on operands read under slots costs a call. `needs` are those of its result.
pub fn seconds_of(target: &Target, op: &Op, reads: &[Read], out: &[Slot], needs: Needs) -> f64 {
    seconds_of_work(target, &work_of(op, reads, out), needs)
}

/// The seconds that a kernel costs a call. `needs` are those of its result.
pub fn seconds_of_work(target: &Target, work: &Work, needs: Needs) -> f64 {
    let moved = work.bytes / target.bandwidth;
    let time = match work.shape {
        Shape::Nothing => return 1e-12,
        Shape::Addressing => 0.05 * moved + 0.1 * target.launch,
        Shape::Pointwise => overlapped(work.flops / target.loops, 0.5 * moved) + 0.5 * target.launch,
        Shape::Loops => overlapped(work.flops / target.loops, moved) + target.launch,
        Shape::Dense => overlapped(work.flops / target.dense, moved) + target.launch,
    };
    1e-12 + time * weight_of(needs)
}

/// No kernel that multiplies two tensors or more, moves so many numbers and needs this costs less.
pub fn least_seconds(target: &Target, moved: f64, needs: Needs) -> f64 {
    (4.0 * moved / target.bandwidth + target.launch) * weight_of(needs)
}

/// Computing and moving overlap, but not wholly.
fn overlapped(a: f64, b: f64) -> f64 {
    f64::max(a, b) + 0.25 * f64::min(a, b)
}
