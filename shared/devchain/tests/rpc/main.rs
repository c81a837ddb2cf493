//! Drives the development chain as the product does: through alloy's HTTP provider.

mod blocks;
mod fixture;
mod lies;
mod pool;
mod reorganisations;
mod values;
