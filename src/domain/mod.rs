//! Where signals live: points, the group that moves them, neighbourhoods, coarsenings.
//! Usable without a compiler; knows groups, not tensors and not syntax.
