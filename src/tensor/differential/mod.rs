//! Derivatives as programs: tangents and cotangents of a program are further values of the same graph, of any order.
//!
//! In: a graph and values of it. Out: the same graph with more nodes, before rewriting, so that a program and its derivatives are optimised as one.
//!
//! One node at a time. Near its operands a node is a sum of linear maps, one an operand ([`partial`]):
//! `ẏ[o] = Σ_k Σ Π factors_k · ẋ_k`. Forward mode ([`forward::jvp`]) is that sum; reverse mode ([`reverse::vjp`]) is each map
//! transposed, `x̄_k = Σ Π factors_k · ȳ`: the same product with the ends exchanged. So the adjoint of a gather is the
//! segment sum along the same relation, and of a convolution the correlation with the same window.
//! The products may lack axes along which they are constant; ones are only written where an axis is summed.
//!
//! Where a function has a corner, the derivative is a subgradient, and finite:
//! - `relu`, `|x|`: 0 at 0; `leaky_relu`: its slope at 0; `sqrt`: 0 at 0 and below; `1/x` made safe: 0 at 0; `x > y`: 0;
//! - `max(x, y)`, `min(x, y)` of equal numbers: that of `x` (so that `exp(min(s - max s, 0))` has the derivative of `exp(s - max s)`);
//! - `Held`: 0, and `Capped`: 1, which is exact where they are used: a softmax does not depend on what is subtracted of all scores of a row;
//! - the greatest and the least of several: shared equally among those that attain it, so that it keeps what permutes them.

pub mod forward;
pub mod reverse;

mod partial;
mod scalar;
