//! Derivatives of the scalar functions, made of the scalar functions.

use crate::tensor::graph::{Graph, Val};
use crate::tensor::op::{Func, Real};

/// `∂f/∂x_k` at the operands `x`, where `y = f(x)`; none where it is 0 wherever it exists.
pub(super) fn slope(graph: &mut Graph, f: Func, x: &[Val], y: &Val, k: usize) -> Option<Val> {
    let u = &x[0];
    Some(match f {
        // of the result, which is kept anyway: it is above 0 where the operand is
        Func::Relu => step(graph, y),
        Func::LeakyRelu(Real(slope)) => {
            let positive = step(graph, u);
            affine(graph, &positive, 1.0 - slope, slope)
        }
        Func::Silu => silu(graph, u, y),
        Func::Gelu => gelu(graph, u),
        Func::Tanh => {
            let square = graph.mul(y, y);
            affine(graph, &square, -1.0, 1.0)
        }
        Func::Sigmoid => {
            let rest = affine(graph, y, -1.0, 1.0);
            graph.mul(y, &rest)
        }
        Func::Exp => y.clone(),
        Func::Log => graph.map(Func::Recip, &[u]),
        Func::Sin => graph.map(Func::Cos, &[u]),
        Func::Cos => {
            let sine = graph.map(Func::Sin, &[u]);
            graph.scale(&sine, -1.0)
        }
        Func::Sqrt => {
            let inverse = graph.map(Func::SafeRecip, &[y]);
            graph.scale(&inverse, 0.5)
        }
        Func::Recip | Func::SafeRecip => {
            let square = graph.mul(y, y);
            graph.scale(&square, -1.0)
        }
        Func::Abs => {
            let zero = graph.scalar(0.0);
            let (above, below) = (step(graph, u), graph.map(Func::Greater, &[&zero, u]));
            let below = graph.scale(&below, -1.0);
            graph.sum(&[&above, &below])
        }
        Func::Powi(power) => return powi(graph, u, power),
        Func::Max => chosen(graph, &x[1], u, k),
        Func::Min => chosen(graph, u, &x[1], k),
        Func::Greater => return None,
        Func::Erf => {
            let gauss = gauss(graph, u, 1.0);
            graph.scale(&gauss, std::f64::consts::FRAC_2_SQRT_PI)
        }
        Func::Same | Func::Capped => graph.scalar(1.0),
        Func::Held => return None,
    })
}

/// 1 above 0, else 0.
fn step(graph: &mut Graph, x: &Val) -> Val {
    let zero = graph.scalar(0.0);
    graph.map(Func::Greater, &[x, &zero])
}

/// `a x + b`
pub(super) fn affine(graph: &mut Graph, x: &Val, a: f64, b: f64) -> Val {
    let (scaled, shift) = (graph.scale(x, a), graph.scalar(b));
    graph.sum(&[&scaled, &shift])
}

/// `exp(-c x²)`
fn gauss(graph: &mut Graph, x: &Val, c: f64) -> Val {
    let square = graph.mul(x, x);
    let exponent = graph.scale(&square, -c);
    graph.map(Func::Exp, &[&exponent])
}

/// `σ + y (1 - σ)` with `y = x σ(x)`
fn silu(graph: &mut Graph, x: &Val, y: &Val) -> Val {
    let sigma = graph.map(Func::Sigmoid, &[x]);
    let rest = affine(graph, &sigma, -1.0, 1.0);
    let product = graph.mul(y, &rest);
    graph.sum(&[&sigma, &product])
}

/// `Φ(x) + x φ(x)` of the standard normal distribution
fn gelu(graph: &mut Graph, x: &Val) -> Val {
    let scaled = graph.scale(x, std::f64::consts::FRAC_1_SQRT_2);
    let erf = graph.map(Func::Erf, &[&scaled]);
    let below = affine(graph, &erf, 0.5, 0.5);
    let gauss = gauss(graph, x, 0.5);
    let product = graph.mul(x, &gauss);
    let density = graph.scale(&product, std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2 * 0.5);
    graph.sum(&[&below, &density])
}

fn powi(graph: &mut Graph, x: &Val, power: i32) -> Option<Val> {
    let lower = match power {
        0 => return None,
        1 => return Some(graph.scalar(1.0)),
        2 => x.clone(),
        _ => graph.map(Func::Powi(power - 1), &[x]),
    };
    Some(graph.scale(&lower, f64::from(power)))
}

/// 1 for the operand that was taken: operand 1 where `a > b`, else operand 0.
fn chosen(graph: &mut Graph, a: &Val, b: &Val, k: usize) -> Val {
    let second = graph.map(Func::Greater, &[a, b]);
    if k == 1 { second } else { affine(graph, &second, -1.0, 1.0) }
}
