//! The cheapest cut between two vertices of a network, by augmenting along shortest paths (Edmonds, Karp 1972; Ford, Fulkerson 1956:
//! its capacity is that of the greatest flow).

use std::collections::VecDeque;

/// What no cut pays.
pub const NEVER: u64 = u64::MAX / 4;

/// A directed network whose edges have capacities.
#[derive(Clone, Debug)]
pub struct Network {
    /// Edges in pairs: `2k` and, in the other direction, what flow along it gives back, `2k + 1`.
    edges: Vec<Edge>,
    /// The edges that begin at each vertex.
    at: Vec<Vec<usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    to: usize,
    left: u64,
}

impl Network {
    /// So many vertices, without edges.
    pub fn new(vertices: usize) -> Network {
        Network { edges: Vec::new(), at: vec![Vec::new(); vertices] }
    }

    /// Adds an edge.
    pub fn edge(&mut self, from: usize, to: usize, capacity: u64) {
        for (from, to, left) in [(from, to, capacity), (to, from, 0)] {
            self.at[from].push(self.edges.len());
            self.edges.push(Edge { to, left });
        }
    }

    /// The vertices on the side of `source` of a cheapest cut between it and `sink`: of all cheapest cuts the one nearest to `source`,
    /// whatever the flow that was found. Edges from outside this set into it are not cut.
    pub fn cut(mut self, source: usize, sink: usize) -> Vec<bool> {
        loop {
            let reached = self.reached(source);
            if reached[sink].is_none() {
                return reached.iter().enumerate().map(|(v, by)| v == source || by.is_some()).collect();
            }
            let path: Vec<usize> =
                std::iter::successors(reached[sink], |edge| reached[self.edges[edge ^ 1].to]).collect();
            let least = path.iter().map(|edge| self.edges[*edge].left).min().expect("a path has an edge");
            for edge in path {
                self.edges[edge].left -= least;
                self.edges[edge ^ 1].left += least;
            }
        }
    }

    /// For each vertex that what is left of the capacities leads to, the last edge of a shortest way.
    fn reached(&self, source: usize) -> Vec<Option<usize>> {
        let mut by = vec![None; self.at.len()];
        let mut open = VecDeque::from([source]);
        while let Some(vertex) = open.pop_front() {
            for edge in &self.at[vertex] {
                let Edge { to, left } = self.edges[*edge];
                if left > 0 && to != source && by[to].is_none() {
                    by[to] = Some(*edge);
                    open.push_back(to);
                }
            }
        }
        by
    }
}
