//! Free weights a pair of channels, as the literature counts them.
