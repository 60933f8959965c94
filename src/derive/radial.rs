//! `linear over r at x`
use crate::base::diagnostic::Diagnostic;
use crate::derive::blueprint::Hom;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::linear::Layer;
use crate::derive::signal::Signal;
use crate::sema::hir::Value;

impl Derivation<'_> {
    pub(super) fn over_distances(&mut self, _layer: &mut Layer, _dim: usize, _cutoff: f64, _at: &Signal) -> Result<Vec<Hom>, Diagnostic> {
        Err(not_derived("linear over a radius"))
    }
    pub(super) fn bilinear(&mut self, _value: &Value, _name: &str, _depthwise: bool) -> Result<Signal, Diagnostic> {
        Err(not_derived("bilinear"))
    }
    pub(super) fn harmonics(&mut self, _value: &Value, _from: u32, _to: u32) -> Result<Signal, Diagnostic> {
        Err(not_derived("harmonics"))
    }
    pub(super) fn bessel(&mut self, _value: &Value, _count: usize, _cutoff: f64) -> Result<Signal, Diagnostic> {
        Err(not_derived("bessel"))
    }
}
