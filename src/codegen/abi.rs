//! What an exported model looks like from outside, described once: the header, the manifest, the argument checks of the
//! library and the loaders of the driver are all made from this.

use crate::base::dtype::Dtype;
use crate::base::size::{Size, SizeTable};

/// The interface of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// The model's name as in the source; symbols are `gdl_<name in lower case>_...`.
    pub name: String,
    /// The dtype of all real tensors.
    pub dtype: Dtype,
    /// Run-time sizes; each is found from the shape of an input, and preconditions are checked then.
    pub sizes: SizeTable,
    /// In the order of the tensor graph's inputs.
    pub inputs: Vec<Tensor>,
    pub weights: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    /// Facts for people: the group, the domain, the source's hash.
    pub facts: Vec<(String, String)>,
}

/// One tensor argument, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// As in the files: `x`, `Graph.senders`, `z.linear.weight`, `y`.
    pub name: String,
    pub dims: Vec<Size>,
    pub element: Element,
    /// The signal type as the source has it, such as `Pixels -> 8 regular`.
    pub about: String,
}

/// What the elements are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element {
    /// The interface's dtype.
    Real,
    /// int32 or int64 below `range`; `sorted` where they must not decrease; `table` when given at bind, else at call.
    Index { range: Size, sorted: bool, table: bool },
}
