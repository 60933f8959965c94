//! The cheapest cut between two vertices of a network: its capacity is that of the greatest flow (Ford, Fulkerson 1956), and it is read off
//! from what such a flow leaves.

use petgraph::Direction;
use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

/// What no cut pays.
pub const NEVER: u64 = u64::MAX / 4;

/// A directed network whose edges have capacities.
#[derive(Clone, Debug)]
pub struct Network(DiGraph<(), u64>);

impl Network {
    /// So many vertices, without edges.
    pub fn new(vertices: usize) -> Network {
        let mut graph = DiGraph::with_capacity(vertices, 0);
        (0..vertices).for_each(|_| {
            graph.add_node(());
        });
        Network(graph)
    }

    /// Adds an edge between two vertices.
    pub fn edge(&mut self, from: usize, to: usize, capacity: u64) {
        self.0.add_edge(NodeIndex::new(from), NodeIndex::new(to), capacity);
    }

    /// The vertices on the side of `source` of a cheapest cut between it and `sink`: of all cheapest cuts the one nearest to `source`,
    /// whatever the flow that was found. Edges from outside this set into it are not cut.
    pub fn cut(&self, source: usize, sink: usize) -> Vec<bool> {
        let (_, flow) = dinics(&self.0, NodeIndex::new(source), NodeIndex::new(sink));
        let mut reached = vec![false; self.0.node_count()];
        let mut open = vec![NodeIndex::new(source)];
        while let Some(vertex) = open.pop() {
            if std::mem::replace(&mut reached[vertex.index()], true) {
                continue;
            }
            let onward = self.0.edges(vertex).filter(|edge| flow[edge.id().index()] < *edge.weight());
            open.extend(onward.map(|edge| edge.target()));
            let back = self.0.edges_directed(vertex, Direction::Incoming).filter(|edge| flow[edge.id().index()] > 0);
            open.extend(back.map(|edge| edge.source()));
        }
        reached
    }
}
