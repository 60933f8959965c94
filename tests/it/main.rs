//! The one test binary: a module a layer, and those that cut across.

mod tidy;
