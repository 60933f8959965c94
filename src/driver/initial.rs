//! Fresh weights from the derived initialisers.

use crate::driver::tensors::{Tensor, Tensors};
use crate::math::Rng;
use crate::tensor::graph::{Graph, Init};

/// Every weight of a program, the same for the same seed; the weights are drawn in the order of the program.
pub fn weights(graph: &Graph, seed: u64) -> Tensors {
    let mut rng = Rng::new(seed);
    let fresh = |weight: &crate::tensor::graph::Weight, rng: &mut Rng| {
        let count: usize = weight.dims.iter().product();
        let numbers = match weight.init {
            Init::Zeros => vec![0.0; count],
            Init::Ones => vec![1.0; count],
            Init::Normal(deviation) => (0..count).map(|_| deviation * rng.normal()).collect(),
        };
        Tensor::real(weight.dims.clone(), numbers)
    };
    graph.weights.iter().map(|(_, w)| (w.name.clone(), fresh(w, &mut rng))).collect()
}

/// Every weight away from its starting point: normal numbers of the initialiser's size, biases included, so that no term is silent.
pub fn random(graph: &Graph, rng: &mut Rng) -> Tensors {
    let one = |weight: &crate::tensor::graph::Weight, rng: &mut Rng| {
        let count: usize = weight.dims.iter().product();
        let (mean, deviation) = match weight.init {
            Init::Zeros => (0.0, 0.3),
            Init::Ones => (1.0, 0.3),
            Init::Normal(deviation) => (0.0, deviation),
        };
        Tensor::real(weight.dims.clone(), (0..count).map(|_| mean + deviation * rng.normal()).collect())
    };
    graph.weights.iter().map(|(_, w)| (w.name.clone(), one(w, rng))).collect()
}
